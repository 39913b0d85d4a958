//! The runbook: every command on its page is run against the trouble that it is there for.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use taskhost_tests::{Finished, Host, Message, World, checkout, soon};

use crate::documented::update;

/// The id that stands for a dead letter's on the page.
const ID: &str = "5e5a1f4e-6f0a-5ad5-8c0e-3a1c2b4d5e6f";

/// The page's commands: the lines of its shell blocks, and what is set as code in its text and begins with the program's
/// name.
fn commands(page: &str) -> BTreeSet<String> {
    let (mut found, mut in_block) = (BTreeSet::new(), false);
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(language) => in_block = language == "sh",
            None if in_block => drop(found.insert(line.to_owned())),
            None => found.extend(
                line.split('`')
                    .skip(1)
                    .step_by(2)
                    .filter(|code| code.starts_with("taskhost "))
                    .map(str::to_owned),
            ),
        }
    }
    found
}

/// A host in trouble, and what of the page was not run yet.
struct Night {
    world: World,
    host: Host,
    left: BTreeSet<String>,
    /// The dead letter that is spoken of.
    id: String,
}

impl Night {
    /// Runs a command as it stands on the page, but for the id and the question.
    fn run(&mut self, command: &str) -> Finished {
        assert!(self.left.remove(command), "not on the page: {command}");
        println!("{command}");
        self.again(command)
    }

    fn again(&self, command: &str) -> Finished {
        let asks = ["partition reset", "partition divert"];
        let mut text = command
            .replace(ID, &self.id)
            .replace(" ID", &format!(" {}", self.id));
        if asks.iter().any(|asks| text.contains(asks)) || text.contains("--republish") {
            text.push_str(" --yes");
        }
        let arguments = words(&text);
        let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
        let address = self.host.address();
        self.world.host().env("HTTP_ADDR", address).run(&arguments)
    }

    /// Runs it, and it must succeed.
    fn succeed(&mut self, command: &str) -> String {
        let done = self.run(command);
        let said = format!("{command}: {}{}", done.stdout, done.stderr);
        assert_eq!(done.code, Some(0), "{said}");
        said
    }

    fn look(&mut self, path: &str) -> u16 {
        let command = format!("curl -s http://127.0.0.1:3000{path}");
        assert!(self.left.remove(&command), "not on the page: {command}");
        self.host.get(path).status
    }

    /// Halts the partition of the status messages: somebody moves the group's offsets.
    fn halt(&mut self) {
        self.host.terminate();
        // Further than ever: what a reset once took for published is no contradiction any more.
        let batch = self.world.progress().iter().map(|row| row.batch).max();
        let ahead = batch.expect("progress") + 1_000;
        let status = self.world.topic("task-status");
        self.world.move_offsets(|offsets| {
            let moved = offsets
                .get_mut(&(status.clone(), 0))
                .expect("the partition");
            moved.as_mut().expect("an offset").metadata = format!("taskhost/1 {ahead}");
        });
        self.host.restart();
        let _ = self.host.wait_halted("watermark-disagrees");
    }

    fn is_well_again(&self) {
        soon("no partition is halted", || {
            self.host.halted().is_empty().then_some(())
        });
        soon("what was decided is done", || {
            let sql = "SELECT count(*)::text FROM progress WHERE halted_at IS NOT NULL OR decided_watermark IS NOT NULL";
            (self.world.ask(sql) == [Some("0".to_owned())]).then_some(())
        });
        self.world.wait_caught_up();
    }

    fn letter(&self, code: &str) -> String {
        let letters = self.again("taskhost dlq list --json").stdout;
        let mut letters = letters
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("an object a line"));
        let letter = letters.find(|letter| letter["code"] == code);
        let letter = letter.unwrap_or_else(|| panic!("no dead letter with the code {code}"));
        letter["id"].as_str().expect("an id").to_owned()
    }
}

/// A command's words, as a shell would take them.
fn words(command: &str) -> Vec<String> {
    let parts = command.split('\'').enumerate();
    parts
        .flat_map(|(number, part)| match number % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

#[test]
fn every_command_of_the_runbook_does_what_the_page_says() {
    let page = fs::read_to_string(checkout().join("docs/runbook.md")).expect("the page");
    let world = World::with_partitions(1);
    world.create_topic("task-events", 1);
    let host = world
        .host()
        .env("TASKHOST_DEFERRAL_ATTEMPTS_MAX", "1")
        .start();
    let mut night = Night {
        left: commands(&page),
        id: String::new(),
        world,
        host,
    };
    first_look(&mut night);
    dead_letters(&mut night);
    versions(&mut night);
    halts(&mut night);
    assert!(night.left.is_empty(), "not run: {:#?}", night.left);
    night.host.stop();
}

fn first_look(night: &mut Night) {
    night.world.send(update("t-1", "new"));
    night.world.wait_caught_up();
    assert_eq!(night.look("/readyz"), 200);
    assert_eq!(night.look("/api/health/detailed"), 200);
    assert_eq!(night.look("/api/metrics"), 200);
    for command in [
        "taskhost partition list",
        "taskhost partition list --halted",
        "taskhost plugin list",
        "taskhost plugin history",
        "taskhost breaker list",
        "taskhost dlq list --since 12h",
        "taskhost waiting list --why stranded",
        "taskhost test-kafka",
        "taskhost migrate",
        "taskhost config",
    ] {
        night.succeed(command);
    }
}

fn dead_letters(night: &mut Night) {
    let status = |key: &str| Message::to("task-status").key(key);
    let misspelt = json!({"taskId": "t-2", "status": "nwe"});
    night.world.send_all(&[
        status("t-2").json(&misspelt),
        status("x").value("no JSON"),
        update("late", "started"),
    ]);
    soon("three dead letters", || {
        (night.world.dead_letters().len() == 3).then_some(())
    });
    let listed = night.succeed("taskhost dlq list --since 1h");
    assert!(listed.contains("task-missing"), "{listed}");
    let listed = night.succeed("taskhost dlq list --state open --json");
    assert_eq!(listed.matches("\"code\"").count(), 3, "{listed}");

    // What only waited for its task is applied once that is there.
    night.world.send(update("late", "new"));
    night.world.wait_caught_up();
    night.succeed("taskhost dlq replay --code task-missing --dry-run");
    night.succeed("taskhost dlq replay --code task-missing --rate 100 --yes");
    // None is on its way any more, which is no failure.
    night.succeed("taskhost dlq cancel --code task-missing --yes");
    assert_eq!(night.world.task("late").status, "started");

    night.id = night.letter("unknown-status");
    night.succeed("taskhost dlq show 5e5a1f4e-6f0a-5ad5-8c0e-3a1c2b4d5e6f");
    let right = json!({"taskId": "t-2", "status": "new"});
    fs::write(night.world.dir().join("fixed.json"), right.to_string()).expect("the payload");
    night.succeed(&format!(
        "taskhost dlq edit {ID} --file fixed.json --reason 'the status was misspelt'"
    ));
    night.succeed(&format!("taskhost dlq replay {ID}"));
    assert_eq!(night.world.task("t-2").status, "new");

    night.id = night.letter("not-json");
    night.succeed("taskhost dlq show ID");
    night.succeed("taskhost dlq replay --republish ID");
    soon("it is a dead letter once more", || {
        (night.world.dead_letters().len() == 4).then_some(())
    });
    night.succeed("taskhost dlq discard --code not-json --reason 'a load test' --yes");
    for code in [
        "unknown-task-type",
        "plugin-trap",
        "plugin-deadline",
        "refused-by-database",
    ] {
        // There is none of these: nothing is to be done, which is no failure.
        night.succeed(&format!("taskhost dlq replay --code {code}"));
    }
    night.succeed("taskhost dlq replay --code task-missing");
    night.succeed("taskhost dlq export --since 7d");
}

fn versions(night: &mut Night) {
    let plugin = night.world.plugin_dir().join("task_status.wasm");
    let mut bytes = fs::read(plugin).expect("the plugin");
    // An empty custom section named x: another digest, the same rules.
    bytes.extend([0, 2, 1, b'x']);
    fs::write(night.world.dir().join("task_status.wasm"), bytes).expect("the repaired build");
    night.succeed("taskhost plugin activate task-status --file task_status.wasm");
    night.succeed("taskhost plugin activate task-status --previous");

    night.succeed("taskhost breaker open task-status --reason 'wrong prices since 02:00'");
    soon("the host has the order", || {
        let breakers = night.host.get("/api/breakers").json();
        let all = breakers["breakers"].as_array()?;
        let mut held = all.iter().filter(|one| one["held"] == true);
        held.any(|one| one["route"] == "task-status").then_some(())
    });
    night.world.send(update("t-3", "new"));
    soon("the host says so", || {
        let health = night.host.get("/api/health/detailed");
        (health.status == 503).then_some(())
    });
    assert!(night.world.find_task("t-3").is_none(), "nothing is decided");
    night.succeed("taskhost breaker close task-status");
    soon("it goes on", || night.world.find_task("t-3"));
    night.succeed("taskhost breaker close task-status --hold");
}

fn halts(night: &mut Night) {
    for place in [
        "progress",
        "committed",
        "earliest",
        "progress --drop-unpublished",
    ] {
        night.halt();
        let command = format!("taskhost partition reset task-status 0 --to {place}");
        night.succeed(&command);
        night.is_well_again();
    }
    night.halt();
    night.succeed("taskhost partition resume task-status 0");
    night.succeed("taskhost partition resume --all");
    // Nothing was put right: it halts again, and loses nothing by it.
    let _ = night.host.wait_halted("watermark-disagrees");
    night.again("taskhost partition reset task-status 0 --to progress");
    night.is_well_again();

    night
        .world
        .configure_topic("task-events", &[("max.message.bytes", "2000")]);
    night.world.send(crate::halts::large("large", 9_000));
    let _ = night.host.wait_halted("unpublishable-message");
    night.succeed("taskhost partition divert task-status 0");
    night.is_well_again();
}
