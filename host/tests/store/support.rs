//! A database for each test, and the few words that tests are told in.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection, PgConnection};
use taskhost::store::{Batch, Commit, Epoch, Key, Settings, Store};
use taskhost_core::batch::{Postponed, Wakeup, WakeupKind, WriteSet};
use taskhost_core::cause::Stored;
use taskhost_core::dead_letter::{DeadLetter, Source, Stage};
use taskhost_core::frame::Frame;
use taskhost_core::record::{Message, Record, TopicPartition};
use taskhost_core::task::{Basis, PluginVersion, RecordedDecider, Task, TaskEvent, TaskId};
use taskhost_core::waiting::{Chain, Rank, Why};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// The topic's id in all tests.
pub(crate) const TOPIC_ID: Uuid = Uuid::from_u128(7);

/// The schema in all tests. Not the default one, and not in a store's search path: a statement that doesn't name it fails.
pub(crate) const SCHEMA: &str = "order";

/// Some time: 2023-11-14.
pub(crate) const NOW: i64 = 1_700_000_000_123;

/// A database that is removed with the value.
pub(crate) struct Database {
    name: String,
    pub(crate) url: String,
}

impl Database {
    /// An empty one.
    pub(crate) async fn empty() -> Self {
        Self::create("template0").await
    }

    /// A migrated one.
    pub(crate) async fn migrated() -> Self {
        static TEMPLATE: OnceCell<String> = OnceCell::const_new();
        let template = TEMPLATE.get_or_init(template).await;
        Self::create(template).await
    }

    async fn create(template: &str) -> Self {
        let name = format!("taskhost_test_{}", Uuid::new_v4().simple());
        admin(&format!("CREATE DATABASE {name} TEMPLATE {template}"))
            .await
            .unwrap();
        let url = url_of(&name);
        Self { name, url }
    }

    pub(crate) fn store(&self) -> Store {
        Store::connect(&settings(&self.url)).unwrap()
    }

    /// A connection beside the store's.
    pub(crate) async fn connection(&self) -> PgConnection {
        let options = PgConnectOptions::from_str(&self.url).unwrap();
        let options = options.options([("search_path", format!("\"{SCHEMA}\",public"))]);
        options.connect().await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(admin(&sql))
        });
        drop(removed.join());
    }
}

pub(crate) fn settings(url: &str) -> Settings {
    Settings {
        url: url.to_owned(),
        schema: taskhost::config::SchemaName::new(SCHEMA).unwrap(),
        connections_max: 8,
        acquire_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(10),
        lock_timeout: Duration::from_secs(5),
        prepared: true,
        application_name: "taskhost-test".to_owned(),
    }
}

fn admin_url() -> String {
    std::env::var("TEST_DATABASE_URL").expect(
        "TEST_DATABASE_URL must name a Postgres database in which databases may be created, \
         such as postgres://postgres@127.0.0.1:5432/postgres",
    )
}

fn url_of(name: &str) -> String {
    let admin = admin_url();
    let (server, _) = admin
        .rsplit_once('/')
        .expect("TEST_DATABASE_URL ends with /<database>");
    format!("{server}/{name}")
}

async fn admin(sql: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(&admin_url()).await?;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await?;
    connection.close().await
}

/// Migrated once for each state of the migrations; kept, so that the next run starts at once.
async fn template() -> String {
    let mut hash = Sha256::new_with_prefix(SCHEMA);
    for migration in taskhost::store::migrations().iter() {
        hash.update(&migration.checksum);
    }
    let name = format!("taskhost_template_{}", &hex::encode(hash.finalize())[..16]);
    let mut lock = PgConnection::connect(&admin_url()).await.unwrap();
    sqlx::raw_sql("SELECT pg_advisory_lock(7265)")
        .execute(&mut lock)
        .await
        .unwrap();
    let there = sqlx::query("SELECT FROM pg_database WHERE datname = $1")
        .bind(&name)
        .fetch_optional(&mut lock)
        .await
        .unwrap();
    if there.is_none() {
        let making = format!("{name}_{}", std::process::id());
        admin(&format!("CREATE DATABASE {making} TEMPLATE template0"))
            .await
            .unwrap();
        let store = Store::connect(&settings(&url_of(&making))).unwrap();
        store.migrate().await.unwrap();
        store.close().await;
        drop(store);
        admin(&format!("ALTER DATABASE {making} RENAME TO {name}"))
            .await
            .unwrap();
    }
    lock.close().await.unwrap();
    name
}

pub(crate) fn key(partition: i32) -> Key {
    Key::new("group", TopicPartition::new("task-status", partition))
}

pub(crate) fn own(id: &str) -> Vec<String> {
    vec![id.to_owned()]
}

/// Claims and starts a partition at offset 0.
pub(crate) async fn started(store: &Store, key: &Key) -> Epoch {
    let claim = store.claim(key, &own("host-a")).await.unwrap();
    store.start(key, claim.epoch, 0, TOPIC_ID).await.unwrap();
    claim.epoch
}

/// One whole batch over `records` records that writes a set.
pub(crate) async fn run(store: &Store, key: &Key, epoch: Epoch, set: &WriteSet) -> Frame {
    let mut batch = store.begin(key, epoch).await.unwrap();
    let ids: Vec<TaskId> = set.updated.iter().map(|task| task.id.clone()).collect();
    batch.lock_tasks(&ids).await.unwrap();
    batch
        .lock_wakeups(&set.done, i64::MAX / 4096)
        .await
        .unwrap();
    batch.write(set, NOW).await.unwrap();
    finish(batch, set).await
}

/// Commits a batch that consumed as many records as it counts.
pub(crate) async fn finish(batch: Batch, set: &WriteSet) -> Frame {
    let from = batch.next_offset();
    let frame = frame(
        &batch,
        from + i64::try_from(set.counts.consumed()).unwrap(),
        set,
    );
    match batch.commit(from, frame, Uuid::new_v4(), None).await {
        Ok(Commit::Committed(frame)) => frame,
        other => panic!("not committed: {other:?}"),
    }
}

pub(crate) fn frame(batch: &Batch, next_offset: i64, set: &WriteSet) -> Frame {
    Frame {
        batch: batch.number(),
        next_offset,
        records: set.records.clone(),
    }
}

pub(crate) fn id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

pub(crate) fn task(text: &str, status: &str, version: i64) -> Task {
    Task {
        id: id(text),
        kind: "web-crawl".into(),
        status: status.into(),
        data: format!(r#"{{"version": {version}, "status":"{status}"}}"#).into(),
        version,
        created_at: NOW,
        updated_at: NOW + version,
    }
}

pub(crate) fn plugin() -> Arc<PluginVersion> {
    Arc::new(PluginVersion {
        name: "task-status".to_owned(),
        version: "1.0.0".to_owned(),
        digest: "ab".repeat(32),
    })
}

pub(crate) fn decider() -> Arc<RecordedDecider> {
    Arc::new(RecordedDecider {
        route: "task-status".into(),
        activation: 3,
        plugin: plugin(),
        config: "{\"a\": 1}".into(),
        interface: "taskhost:plugin@0.1.0".into(),
        topics: Arc::new([("out".to_owned(), "real-out".to_owned())].into()),
    })
}

pub(crate) fn event(of: &Task, number: i32, offset: i64) -> TaskEvent {
    TaskEvent {
        task_id: of.id.clone(),
        version: of.version,
        number,
        kind: "task.created".to_owned(),
        from: (of.version > 1).then(|| "new".into()),
        to: of.status.clone(),
        data: format!(r#"{{"number":{number}}}"#),
        at: of.updated_at,
        cause: key(0).partition.at(offset),
        cause_bytes: Stored::Message(message(offset)).encode().into(),
        plugin: plugin(),
        basis: Some(Basis {
            decider: decider(),
            attempt: 2,
            seed: Uuid::from_u128(9),
        }),
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        foreign_trace_id: None,
    }
}

pub(crate) fn message(offset: i64) -> Message {
    Message {
        position: key(0).partition.at(offset),
        timestamp: NOW,
        key: Some(b"key".to_vec()),
        value: Some(vec![b'x'; 300]),
        headers: vec![("traceparent".to_owned(), Some(b"00-0af7-01".to_vec()))],
    }
}

pub(crate) fn record(offset: i64) -> Record {
    Record {
        topic: "task-events".to_owned(),
        key: Some(b"key".to_vec()),
        value: Some(format!(r#"{{"offset":{offset},"text":"{}"}}"#, "x".repeat(400)).into_bytes()),
        headers: vec![("taskId".to_owned(), Some(b"a".to_vec()))],
        timestamp: None,
    }
}

/// A message of a task that waits; `due` none means behind another.
pub(crate) fn waiting(of: &str, offset: i64, due: Option<i64>) -> Wakeup {
    Wakeup {
        id: Uuid::from_u128(0x1000_0000 + u128::try_from(offset).unwrap()),
        kind: WakeupKind::Deferred,
        task_id: id(of),
        name: None,
        route: "task-status".to_owned(),
        due,
        counts_from: due,
        rank: Rank::of_record(offset),
        why: match due {
            Some(_) => Why::Deferral,
            None => Why::Turn,
        },
        attempt: i32::from(due.is_some()),
        tries: 0,
        since: NOW,
        since_worked: due.map(|_| 5),
        given_up_by: None,
        reason: "the task does not exist yet".to_owned(),
        cause: Stored::Message(message(offset)).encode(),
    }
}

pub(crate) fn timer(of: &str, name: &str, due: i64, number: u128) -> Wakeup {
    Wakeup {
        id: Uuid::from_u128(0x2000_0000 + number),
        kind: WakeupKind::Timer,
        name: Some(name.to_owned()),
        why: Why::Turn,
        attempt: 0,
        since_worked: None,
        counts_from: None,
        reason: String::new(),
        ..waiting(of, 0, Some(due))
    }
}

/// The places of a chain's rows.
pub(crate) fn sequences(chain: &Chain) -> Vec<i64> {
    chain.rows.iter().map(|row| row.rank.sequence).collect()
}

/// What is due: each task with the places of its rows.
pub(crate) async fn due(store: &Store, key: &Key, now: i64, limit: u32) -> Vec<(String, Vec<i64>)> {
    let due = store.due_chains(key, now, limit).await.unwrap();
    due.chains
        .iter()
        .map(|chain| (chain.task_id.to_string(), sequences(chain)))
        .collect()
}

/// A batch that makes messages wait, and settles their tasks.
pub(crate) fn begins(waiting: Vec<Wakeup>) -> WriteSet {
    WriteSet {
        settled: waiting.iter().map(|row| row.task_id.clone()).collect(),
        waiting,
        ..WriteSet::default()
    }
}

pub(crate) fn postponed(of: &Wakeup, due: i64) -> Postponed {
    Postponed {
        id: of.id,
        task_id: of.task_id.clone(),
        why: Why::Deferral,
        due,
        attempt: of.attempt + 1,
        tries: 0,
        since_worked: of.since_worked,
        reason: "still not".to_owned(),
    }
}

pub(crate) fn letter(offset: i64) -> DeadLetter {
    DeadLetter {
        id: Uuid::from_u128(0x3000_0000 + u128::try_from(offset).unwrap()),
        message: Arc::new(message(offset)),
        code: "not-json".to_owned(),
        reason: "the value is no JSON".to_owned(),
        backtrace: None,
        stage: Stage::Decode,
        attempts: 0,
        task_id: None,
        route: None,
        plugin: None,
        failed_at: NOW,
        source: Source::Record,
        replays: 0,
        sequence: Some(offset),
        holds: false,
    }
}

/// A write set that creates tasks, one record and one event each.
pub(crate) fn creates(ids: &[&str]) -> WriteSet {
    let mut set = WriteSet::default();
    for (offset, text) in (0..).zip(ids) {
        let task = task(text, "new", 1);
        set.events.push(event(&task, 0, offset));
        set.records.push(record(offset));
        set.created.push(task);
        set.counts.applied += 1;
    }
    set.created.sort_by(|a, b| a.id.cmp(&b.id));
    set
}
