//! The tables in memory answer as Postgres does: the same drawn calls, valid ones and stale ones of two owners, are made of
//! both, and each answer is compared. A check that only one of them makes shows here, if a drawn call reaches it.
//!
//! `TEST_DATABASE_URL` names a database in which databases may be created. `TASKHOST_CALLS` is how many calls a seed makes,
//! `TASKHOST_SEED` the first of the seeds.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

#[path = "conformance/calls.rs"]
mod calls;
#[path = "conformance/draw.rs"]
mod draw;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use taskhost::config::SchemaName;
use taskhost::store::{Settings, Store};
use taskhost_sim::ledger::{MemoryLedger, Server};
use tokio::task::JoinError;
use uuid::Uuid;

use calls::Both;

/// Seeds of a run.
const SEEDS: u64 = 6;

/// Seeds within which a missing check is found. Most take one.
const SEEDS_FOR_A_CHECK: u64 = 20;

/// Calls of a seed.
const CALLS: u64 = 300;

/// Whether two answers differed, rather than that something else went wrong.
fn is_difference(ended: JoinError) -> bool {
    let panic = ended.into_panic();
    let said = panic.downcast_ref::<String>();
    said.is_some_and(|said| said.starts_with("assertion `left == right` failed"))
}

fn number(name: &str, default: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_answers_as_postgres_does() {
    let (first, calls) = (number("TASKHOST_SEED", 1), number("TASKHOST_CALLS", CALLS));
    let mut seen = BTreeMap::new();
    for seed in first..first + SEEDS {
        let (database, store) = store(1).await;
        seen.extend(compare(seed, store, calls).await);
        admin(&format!("DROP DATABASE {database} WITH (FORCE)")).await;
    }
    check_coverage(&seen);
}

/// What never happens isn't compared, so each of these must have happened.
fn check_coverage(seen: &BTreeMap<&str, u64>) {
    println!("{seen:#?}");
    let expected = [
        "committed",
        "TH001",
        "TH002",
        "TH003",
        "TH004",
        "TH005",
        "a value that is refused",
        "turn",
        "deferral",
        "task-missing",
        "deadline",
        "held",
    ];
    for what in expected {
        assert!(seen.contains_key(what), "{what} never happened: {seen:?}");
    }
}

/// Both wait for what is locked in the last resort.
#[tokio::test(flavor = "multi_thread")]
async fn both_wait_for_what_is_locked() {
    let (database, store) = store(4).await;
    let memory = MemoryLedger::direct(Arc::<Server>::default());
    let mut both = Both::new(1, store, memory).await;
    both.check_locks().await;
    both.close().await;
    admin(&format!("DROP DATABASE {database} WITH (FORCE)")).await;
}

/// Checks of `taskhost_commit_1`, each with the text that is replaced to remove it.
const MUTANTS: [(&str, &str, &str); 12] = [
    ("the claim", "AND epoch = my_epoch", ""),
    (
        "the batch and its token",
        "AND batch = seen_batch AND next_offset = from_offset AND batch_token IS NOT DISTINCT FROM last_token",
        "",
    ),
    (
        "the bound on what is published",
        "CASE WHEN known_published <= batch THEN known_published END",
        "known_published",
    ),
    ("a task's version", "AND tasks.version = new.seen", ""),
    (
        "that rows are there",
        "IF hits <> coalesce(cardinality(seen_rows), 0) THEN",
        "IF false THEN",
    ),
    (
        "the activations",
        "IF named IS NOT NULL THEN",
        "IF false THEN",
    ),
    (
        "that tasks are new",
        "IF hits <> cardinality(c_ids) THEN",
        "IF false THEN",
    ),
    (
        "that replaced timers go",
        "WHERE id = ANY (timer_rows) AND kind = 'timer'",
        "WHERE false",
    ),
    (
        "that what is blocked has no time",
        "SET why = 'turn', due = NULL,",
        "SET why = 'turn',",
    ),
    (
        "whose turn it is",
        "IF cardinality(settled_tasks) > 0 THEN",
        "IF false THEN",
    ),
    (
        "that letters hold",
        "WHERE (letter.sequence, 0) < (asked.sequence, asked.place)",
        "WHERE false",
    ),
    (
        "that a letter whose record comes again is open again",
        "ELSE dead_letters.state END",
        "ELSE 'open' END",
    ),
];

/// Without any one of these checks some answer differs. It says nothing about `taskhost_read_1`, the locks' order and the plans.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_without_one_of_its_checks_is_found() {
    for (check, code, without) in MUTANTS {
        let mut is_found = false;
        for seed in 1..=SEEDS_FOR_A_CHECK {
            let (database, store) = store(1).await;
            mutate(&database, code, without).await;
            let compared = tokio::spawn(compare(seed, store, CALLS)).await;
            admin(&format!("DROP DATABASE {database} WITH (FORCE)")).await;
            is_found = compared.is_err_and(is_difference);
            if is_found {
                break;
            }
        }
        assert!(is_found, "nothing differs without {check}");
    }
}

async fn compare(seed: u64, store: Store, calls: u64) -> BTreeMap<&'static str, u64> {
    let memory = MemoryLedger::direct(Arc::<Server>::default());
    let mut both = Both::new(seed, store, memory).await;
    for number in 0..calls {
        both.step(number).await;
    }
    both.check_tables().await;
    let seen = both.seen();
    both.close().await;
    seen
}

async fn mutate(database: &str, code: &str, without: &str) {
    let admin_url = admin_url();
    let (server, _) = admin_url.rsplit_once('/').unwrap();
    let url = format!("{server}/{database}");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let defined = "SELECT pg_get_functiondef('\"order\".taskhost_commit_1'::regproc)";
    let defined: String = sqlx::query_scalar(defined)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(defined.contains(code), "the function has no {code:?}");
    let sql = sqlx::raw_sql(AssertSqlSafe(defined.replace(code, without)));
    sql.execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// A database of its own. With one connection a call begins when what the refused call before it held is free: Postgres tells
/// of an error before it lets go of the locks, and a wake passes over rows that are locked.
async fn store(connections_max: u32) -> (String, Store) {
    let name = format!("taskhost_conformance_{}", Uuid::new_v4().simple());
    admin(&format!("CREATE DATABASE {name} TEMPLATE template0")).await;
    let admin_url = admin_url();
    let (server, _) = admin_url.rsplit_once('/').unwrap();
    let store = Store::connect(&Settings {
        url: format!("{server}/{name}"),
        connections_max,
        acquire_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(10),
        lock_timeout: Duration::from_secs(5),
        prepared: true,
        schema: SchemaName::new("order").unwrap(),
        application_name: "taskhost-conformance".to_owned(),
    });
    let store = store.unwrap();
    store.migrate().await.unwrap();
    (name, store)
}

fn admin_url() -> String {
    std::env::var("TEST_DATABASE_URL").expect(
        "TEST_DATABASE_URL must name a Postgres database in which databases may be created, \
         such as postgres://postgres@127.0.0.1:5432/postgres",
    )
}

async fn admin(sql: &str) {
    let mut connection = PgConnection::connect(&admin_url()).await.unwrap();
    let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    sql.execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
