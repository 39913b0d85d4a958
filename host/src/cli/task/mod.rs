//! `taskhost task list`: lists any number of tasks, page by page.

pub(in crate::cli) mod show;

use clap::{Args, Subcommand};
use comfy_table::{Cell, ColumnConstraint, Table, Width};
use serde_json::json;
use taskhost_core::timestamp;

use crate::cli::database::Database;
use crate::cli::output::{self, table};
use crate::cli::paged::{Listing, rows_to_ask};
use crate::cli::{EXIT_CODES, Failure, Global, Output};
use crate::store::{TaskFilter, TaskRow};

/// The subcommands of `taskhost task`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    List(List),
    Show(show::Arguments),
}

/// List tasks, the most recently changed first.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost task list --status error --limit 10\n  taskhost task list --all --json | jq -r .id\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct List {
    /// Only tasks in this status.
    #[arg(long)]
    pub(super) status: Option<String>,
    /// Only tasks of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) task_type: Option<String>,
    /// The most tasks to list.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: u32,
    /// List all tasks.
    #[arg(long, conflicts_with = "limit")]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

pub(in crate::cli) fn run(command: &Command, global: &Global) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list(arguments, global),
        Command::Show(arguments) => show::run(arguments, global),
    }
}

fn list(arguments: &List, global: &Global) -> Result<(), Failure> {
    let database = Database::open(&global.config()?)?;
    let limit = if arguments.all {
        u32::MAX
    } else {
        arguments.limit
    };
    let filter = TaskFilter {
        status: arguments.status.clone(),
        kind: arguments.task_type.clone(),
        limit: rows_to_ask(limit),
    };
    let pages = database.ask(database.store.task_pages(&filter))?;
    let mut people = People::default();
    let listing = Listing {
        limit,
        output: arguments.output,
        nothing: "no tasks\n",
    };
    listing.print(&database, pages, |page, _| match arguments.output.json {
        true => lines(page),
        false => people.page(page),
    })
}

fn lines(page: &[TaskRow]) -> String {
    let line = |task: &TaskRow| {
        json!({
            "id": task.id.as_str(),
            "type": &*task.kind,
            "status": &*task.status,
            "version": task.version,
            "createdAt": timestamp::to_rfc3339(task.created_at),
            "updatedAt": timestamp::to_rfc3339(task.updated_at),
        })
    };
    page.iter()
        .map(|task| format!("{}\n", line(task)))
        .collect()
}

/// The table for people. Only the first page has a head, and no page's columns are narrower than those above.
#[derive(Default)]
struct People {
    widths: Vec<u16>,
}

impl People {
    fn page(&mut self, page: &[TaskRow]) -> String {
        let mut table = if self.widths.is_empty() {
            table(["id", "type", "status", "version", "updated"])
        } else {
            output::headless_table()
        };
        for task in page {
            table.add_row([
                Cell::new(task.id.as_str()),
                Cell::new(&task.kind),
                output::status(&task.status),
                Cell::new(task.version),
                Cell::new(timestamp::to_rfc3339(task.updated_at)),
            ]);
        }
        self.keep_widths(&mut table);
        output::text(&table)
    }

    fn keep_widths(&mut self, table: &mut Table) {
        let widths = table.column_max_content_widths();
        self.widths.resize(widths.len(), 0);
        for (kept, (column, width)) in self
            .widths
            .iter_mut()
            .zip(table.column_iter_mut().zip(widths))
        {
            *kept = width.max(*kept);
            let padded = kept.saturating_add(column.padding_width());
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(padded)));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use taskhost_core::task::TaskId;

    use super::*;

    fn row(id: &str, status: &str) -> TaskRow {
        TaskRow {
            id: TaskId::new(id).expect("an id"),
            kind: "web-crawl".into(),
            status: status.into(),
            version: 2,
            created_at: 1_704_067_200_000,
            updated_at: 1_704_067_201_500,
        }
    }

    #[test]
    fn scripts_get_a_line_for_each_task() {
        expect![[r#"
            {"createdAt":"2024-01-01T00:00:00.000Z","id":"a","status":"new","type":"web-crawl","updatedAt":"2024-01-01T00:00:01.500Z","version":2}
        "#]]
        .assert_eq(&lines(&[row("a", "new")]));
    }

    #[test]
    fn the_pages_of_a_table_stand_under_one_head() {
        let mut people = People::default();
        let pages = [("a-long-one", "completed"), ("b", "new")]
            .map(|(id, status)| people.page(&[row(id, status)]));
        // A literal loses its common indentation, so lines that begin with spaces are shown behind a bar.
        let shown: String = pages
            .concat()
            .lines()
            .map(|line| format!("|{line}\n"))
            .collect();
        expect![[r#"
            | id          type       status     version  updated
            | a-long-one  web-crawl  completed  2        2024-01-01T00:00:01.500Z
            | b           web-crawl  new        2        2024-01-01T00:00:01.500Z
        "#]]
        .assert_eq(&shown);
    }
}
