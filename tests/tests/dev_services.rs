//! The broker and the Postgres of `taskhost dev`: their data outlives them, and they don't outlive us.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use sqlx::{Connection as _, PgConnection};
use taskhost::dev::{Broker, BrokerOptions, Jvm, Postgres, PostgresOptions, broker};
use tempfile::tempdir;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_brokers_messages_survive_an_orderly_stop_and_a_crash() {
    let dir = tempdir().expect("a temporary directory");
    let libs = broker::find_libs().expect("Kafka's jars");
    let options = BrokerOptions {
        dir: dir.path().join("kafka"),
        port: None,
        libs,
        jvm: Jvm::Quick,
        extra: Vec::new(),
    };
    let mut broker = Broker::start(options.clone()).expect("a broker");
    let address = broker.bootstrap();
    produce(&address, "first");

    broker.stop();
    broker.restart().expect("a broker after a stop");
    assert_eq!(broker.bootstrap(), address, "clients find it where it was");
    produce(&address, "second");

    broker.kill();
    broker.restart().expect("a broker after a crash");
    assert_eq!(end_of_topic(&address), 2);

    broker.stop();
    drop(broker);
    let broker = Broker::start(options).expect("a broker on the same directory");
    assert_eq!(end_of_topic(&broker.bootstrap()), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_survives_a_crash_and_a_second_start_on_its_directory() {
    // As root this directory can't be entered by the server's user: its cluster lies elsewhere, and is found again.
    let dir = tempdir().expect("a temporary directory");
    let options = PostgresOptions {
        dir: dir.path().join("postgres"),
        port: None,
        sync: false,
        extra: Vec::new(),
    };
    let mut postgres = Postgres::start(options.clone()).expect("a server");
    postgres.create_database("kept").expect("a database");
    postgres
        .create_database("kept")
        .expect("the database that is there");
    let url = postgres.url("kept");
    execute(&url, "CREATE TABLE facts (n int)").await;
    execute(&url, "INSERT INTO facts VALUES (1)").await;

    // The worst crash: the server has no time to remove its pid file.
    kill(Pid::from_raw(postgres.process().pid()), Signal::SIGKILL).expect("a signal");
    postgres.restart().expect("a server after a crash");
    assert_eq!(postgres.url("kept"), url, "clients find it where it was");
    execute(&url, "INSERT INTO facts VALUES (2)").await;

    drop(postgres);
    let postgres = Postgres::start(options).expect("a server on the same directory");
    let mut connection = PgConnection::connect(&postgres.url("kept"))
        .await
        .expect("a connection");
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM facts")
        .fetch_one(&mut connection)
        .await
        .expect("the count");
    assert_eq!(count, 2);
    postgres.destroy().expect("its removal");
}

#[test]
fn a_cluster_in_use_is_not_started_twice() {
    let dir = tempdir().expect("a temporary directory");
    let options = PostgresOptions {
        dir: dir.path().join("postgres"),
        port: None,
        sync: false,
        extra: Vec::new(),
    };
    let postgres = Postgres::start(options.clone()).expect("a server");
    let refusal = Postgres::start(options).expect_err("a second server on one cluster");
    let message = refusal.to_string();
    assert!(
        message.contains(&format!("by process {}", std::process::id())),
        "{message}"
    );
    postgres.destroy().expect("its removal");
}

#[test]
fn a_broker_that_ends_early_says_why() {
    let dir = tempdir().expect("a temporary directory");
    let libs = broker::find_libs().expect("Kafka's jars");
    let extra = vec![("num.io.threads".to_owned(), "none".to_owned())];
    let options = BrokerOptions {
        dir: dir.path().join("kafka"),
        port: None,
        libs,
        jvm: Jvm::Quick,
        extra,
    };
    let message = Broker::start(options)
        .expect_err("a broker with a wrong setting")
        .to_string();
    assert!(message.contains("num.io.threads"), "{message}");
}

#[test]
fn jars_that_are_not_there_are_named_with_the_command_that_brings_them() {
    let dir = tempdir().expect("a temporary directory");
    let libs = dir.path().join("libs");
    let options = BrokerOptions {
        dir: dir.path().join("kafka"),
        port: None,
        libs: libs.clone(),
        jvm: Jvm::Quick,
        extra: Vec::new(),
    };
    let message = Broker::start(options)
        .expect_err("a broker without jars")
        .to_string();
    assert!(
        message.contains(&libs.display().to_string()) && message.contains("scripts/setup dev"),
        "{message}"
    );
}

#[test]
fn a_parent_killed_outright_leaves_no_process_behind() {
    let dir = tempdir().expect("a temporary directory");
    // As root, Postgres runs as another user, who must be able to enter.
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("permissions");
    let mut parent = Command::new(env!("CARGO_BIN_EXE_with-services"))
        .args(["--", "sh", "-c", "echo ready; exec sleep 600"])
        .env("TMPDIR", dir.path())
        .env_remove("TEST_KAFKA_BROKERS")
        .env_remove("TEST_DATABASE_URL")
        .stdout(Stdio::piped())
        .spawn()
        .expect("with-services");
    let mut line = String::new();
    let output = parent.stdout.take().expect("its output");
    BufReader::new(output)
        .read_line(&mut line)
        .expect("the command's word");
    assert_eq!(line, "ready\n");
    let family = descendants(parent.id());
    assert!(
        family.len() > 3,
        "a broker, a Postgres with its helpers and the command: {family:?}"
    );

    parent.kill().expect("a signal");
    parent.wait().expect("its end");
    let deadline = Instant::now() + PATIENCE;
    while family.iter().any(|pid| is_alive(*pid)) {
        assert!(Instant::now() < deadline, "still there: {family:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn produce(address: &str, value: &str) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("acks", "all")
        .create()
        .expect("a producer");
    producer
        .send(BaseRecord::<str, str>::to("kept").payload(value))
        .map_err(|(error, _)| error)
        .expect("a send");
    producer.flush(PATIENCE).expect("a flush");
}

/// How many messages the topic's only partition has.
fn end_of_topic(address: &str) -> i64 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .create()
        .expect("a consumer");
    consumer
        .fetch_watermarks("kept", 0, PATIENCE)
        .expect("the watermarks")
        .1
}

async fn execute(url: &str, statement: &'static str) {
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    sqlx::query(statement)
        .execute(&mut connection)
        .await
        .expect("the statement");
}

/// All processes below this one.
fn descendants(root: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    let pids: Vec<u32> = pids
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let mut family = vec![root];
    let mut seen = 0;
    while let Some(parent) = family.get(seen).copied() {
        family.extend(
            pids.iter()
                .filter(|pid| stat(**pid).is_some_and(|(_, above)| above == parent)),
        );
        seen += 1;
    }
    family.split_off(1)
}

/// Whether it still does anything: one that has ended but was not yet collected does not.
fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// A process's state and parent, the third and fourth field of its `stat`.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The second field is a name in parentheses, and may itself hold spaces and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
