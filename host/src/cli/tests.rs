//! The command line as a whole.

use clap::{CommandFactory, Parser};

use super::Cli;

/// Every command that does something, with the words that name it.
fn leaves() -> Vec<(String, clap::Command)> {
    fn walk(name: &str, command: &clap::Command, leaves: &mut Vec<(String, clap::Command)>) {
        for sub in command.get_subcommands() {
            let name = format!("{name} {}", sub.get_name());
            if sub.has_subcommands() {
                walk(&name, sub, leaves);
            } else {
                leaves.push((name, sub.clone()));
            }
        }
    }
    let mut leaves = Vec::new();
    walk("taskhost", &Cli::command(), &mut leaves);
    leaves
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
    let names: Vec<String> = leaves().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "taskhost run",
            "taskhost dev",
            "taskhost migrate",
            "taskhost config",
            "taskhost test-kafka",
            "taskhost publish-new-task",
            "taskhost test-task-updates",
            "taskhost task list",
            "taskhost task show",
            "taskhost plugin list",
            "taskhost plugin activate",
            "taskhost plugin history",
            "taskhost dlq list",
            "taskhost dlq show",
            "taskhost dlq edit",
            "taskhost dlq replay",
            "taskhost dlq cancel",
            "taskhost dlq discard",
            "taskhost dlq export",
            "taskhost dlq import",
            "taskhost waiting list",
            "taskhost waiting retry",
            "taskhost waiting give-up",
            "taskhost partition list",
            "taskhost partition resume",
            "taskhost partition reset",
            "taskhost partition divert",
            "taskhost breaker list",
            "taskhost breaker open",
            "taskhost breaker close",
        ]
    );
}

#[test]
fn every_help_says_what_it_does_shows_an_example_and_the_exit_codes() {
    for (name, mut command) in leaves() {
        let help = command.render_long_help().to_string();
        assert!(command.get_about().is_some(), "{name}");
        assert!(
            help.contains(&format!("{name} ")) || help.contains(&format!("{name}\n")),
            "{name}: {help}"
        );
        assert!(
            help.contains("Example:\n") && help.contains("Exit codes: 0"),
            "{name}: {help}"
        );
    }
}

#[test]
fn an_activation_names_exactly_one_version() {
    let parse = |words: &str| Cli::try_parse_from(words.split(' '));
    assert!(parse("taskhost plugin activate r --previous").is_ok());
    for words in [
        "taskhost plugin activate r",
        "taskhost plugin activate r --previous --digest aa",
    ] {
        let error = parse(words).expect_err("ambiguous");
        assert_eq!(error.exit_code(), 2, "{words}");
    }
}

#[test]
fn a_list_is_bounded_unless_all_is_asked_for() {
    use super::Command;
    use super::task::Command as Task;
    let parse = |words: &str| Cli::try_parse_from(words.split(' '));
    let list = |words: &str| match parse(words).expect("a list").command {
        Command::Task(Task::List(list)) => (list.limit, list.all, list.status, list.task_type),
        other => panic!("{other:?}"),
    };
    assert_eq!(list("taskhost task list"), (50, false, None, None));
    assert_eq!(
        list("taskhost task list --status error --type web-crawl --limit 3"),
        (3, false, Some("error".into()), Some("web-crawl".into()))
    );
    assert!(list("taskhost task list --all").1);
    for words in [
        "taskhost task list --limit 0",
        "taskhost task list --all --limit 3",
        "taskhost task show",
        "taskhost test-task-updates --timeout 0",
        "taskhost publish-new-task --count -1",
    ] {
        let error = parse(words).expect_err(words);
        assert_eq!(error.exit_code(), 2, "{words}");
    }
}

#[test]
fn what_a_script_would_read_comes_as_json_too() {
    // An export is JSON and nothing else.
    let without = ["taskhost run", "taskhost dev", "taskhost dlq export"];
    for (name, command) in leaves() {
        let json = command
            .get_arguments()
            .any(|argument| argument.get_id() == "json");
        assert_eq!(json, !without.contains(&&*name), "{name}");
    }
}
