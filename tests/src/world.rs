//! One test's surroundings: its names on the broker, its database, its plugin directory.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::broker::Client;
use crate::database::{self, Database};
use crate::patience::{PATIENCE, soon, soon_or};
use crate::{
    DeadLetterRow, EventRow, HostBuilder, Message, ProgressRow, Record, Services, TaskRow,
    WaitingRow, Watermark,
};

/// The topics that the shipped routes consume.
const CONSUMED: [&str; 2] = ["requests-web-crawl", "task-status"];

/// The configured topics and the variables that give them their real names.
const TOPICS: [(&str, &str); 4] = [
    ("TASK_STATUS_TOPIC", "task-status"),
    ("WEB_CRAWL_REQUEST_TOPIC", "requests-web-crawl"),
    ("TASK_EVENTS_TOPIC", "task-events"),
    ("TASKHOST_EVENTS_TOPIC", "taskhost-events"),
];

/// Enough that messages spread, few enough to be quick.
const PARTITIONS: i32 = 3;

/// A broker, a database and a plugin directory, as one test sees them. What is in it is gone with the value.
pub struct World {
    pub(crate) runtime: Runtime,
    dir: TempDir,
    pub(crate) database: Database,
    pub(crate) client: Client,
    brokers: String,
    suffix: String,
    hosts: AtomicU32,
    /// Logical names of the topics that hosts of this world consume.
    consumed: Vec<String>,
}

impl World {
    /// With the topics that the shipped routes consume, of three partitions each, and the shipped plugins.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a world is not a default of anything"
    )]
    pub fn new() -> Self {
        Self::with_partitions(PARTITIONS)
    }

    /// [`World::new`] with another number of partitions.
    #[must_use]
    pub fn with_partitions(partitions: i32) -> Self {
        Self::bare().furnished(partitions)
    }

    /// [`World::with_partitions`] on a broker and a Postgres of its own, which the test may stop, kill or configure.
    #[must_use]
    pub fn on(services: &Services, partitions: i32) -> Self {
        Self::bare_on(&services.bootstrap(), &services.admin_url()).furnished(partitions)
    }

    /// The shipped routes' topics and plugins.
    fn furnished(self, partitions: i32) -> Self {
        for topic in &self.consumed {
            self.create_topic(topic, partitions);
        }
        self.install("web_crawl", "web_crawl");
        self.install("task_status", "task_status");
        self
    }

    /// Without any topic or plugin.
    ///
    /// # Panics
    /// If there is no broker or no Postgres to test against.
    #[must_use]
    pub fn bare() -> Self {
        let variable = |name: &str| {
            env::var(name)
                .unwrap_or_else(|_| panic!("{name} is not set: run the tests by `make test`"))
        };
        Self::bare_on(
            &variable("TEST_KAFKA_BROKERS"),
            &variable("TEST_DATABASE_URL"),
        )
    }

    /// [`World::on`] by addresses, such as those of proxies: of the brokers, and a superuser's URL.
    #[must_use]
    pub fn at(brokers: &str, admin_url: &str, partitions: i32) -> Self {
        Self::bare_on(brokers, admin_url).furnished(partitions)
    }

    fn bare_on(brokers: &str, admin_url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let database = runtime.block_on(Database::create(admin_url));
        let dir = tempfile::Builder::new()
            .prefix("taskhost-test-")
            .tempdir()
            .expect("a temporary directory");
        fs::create_dir(dir.path().join("plugins")).expect("the plugin directory");
        let client = runtime.block_on(async { Client::new(brokers) });
        let suffix = Uuid::new_v4().simple().to_string()[..12].to_owned();
        let consumed = CONSUMED.map(str::to_owned).to_vec();
        Self {
            runtime,
            dir,
            database,
            client,
            brokers: brokers.to_owned(),
            suffix,
            hosts: AtomicU32::new(0),
            consumed,
        }
    }

    /// Says which topics hosts of this world consume, where those aren't the shipped routes'.
    pub fn consumes(&mut self, topics: &[&str]) {
        self.consumed = topics.iter().map(|topic| (*topic).to_owned()).collect();
    }

    /// The real name of a topic, or of the dead letter topic beside it (`task-status.dlq`).
    #[must_use]
    pub fn topic(&self, logical: &str) -> String {
        match logical.strip_suffix(".dlq") {
            Some(source) => format!("{}.dlq", self.topic(source)),
            None => format!("{logical}-{}", self.suffix),
        }
    }

    /// The consumer group's real name.
    #[must_use]
    pub fn group(&self) -> String {
        format!("group-{}", self.suffix)
    }

    /// The brokers' addresses.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// This world's database.
    #[must_use]
    pub fn database_url(&self) -> &str {
        &self.database.url
    }

    /// A directory that is removed with the world.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where hosts of this world look for plugins.
    #[must_use]
    pub fn plugin_dir(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    /// Copies a built component into the plugin directory, in one step as a deployment should.
    ///
    /// # Panics
    /// If it has not been built.
    pub fn install(&self, artefact: &str, name: &str) {
        let source = artefact_file(artefact);
        let temporary = self.dir.path().join(format!(".{name}"));
        fs::copy(&source, &temporary)
            .unwrap_or_else(|error| panic!("{}: {error}; run `make plugins`", source.display()));
        fs::rename(&temporary, self.plugin_dir().join(format!("{name}.wasm")))
            .expect("the plugin's place");
    }

    /// Makes a topic.
    pub fn create_topic(&self, logical: &str, partitions: i32) {
        self.create_topic_with(logical, partitions, &[]);
    }

    /// Makes a topic with settings of its own.
    pub fn create_topic_with(&self, logical: &str, partitions: i32, settings: &[(&str, &str)]) {
        self.runtime.block_on(
            self.client
                .create(&self.topic(logical), partitions, settings),
        );
    }

    /// A host of this world, to be started.
    #[must_use]
    pub fn host(&self) -> HostBuilder {
        let number = self.hosts.fetch_add(1, Ordering::Relaxed);
        HostBuilder::new(self.dir.path(), number, self.environment())
    }

    /// What every host and command of this world has in its environment.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, String> {
        let own = |(variable, topic): &(&str, &str)| ((*variable).to_owned(), self.topic(topic));
        let mut environment: BTreeMap<String, String> = TOPICS.iter().map(own).collect();
        let mut set =
            |name: &str, value: &str| environment.insert(name.to_owned(), value.to_owned());
        set("KAFKA_BROKERS", &self.brokers);
        set("KAFKA_GROUP_ID", &self.group());
        set("DATABASE_URL", &self.database.url);
        set(
            "TASKHOST_PLUGINS_DIR",
            &self.plugin_dir().display().to_string(),
        );
        set(
            "TASKHOST_PLUGINS_CACHE_DIR",
            &cache_dir().display().to_string(),
        );
        // A host that was killed is missed soon.
        set("KAFKA_SESSION_TIMEOUT", "4000");
        set("KAFKA_HEARTBEAT_INTERVAL", "500");
        environment
    }

    /// Sends one message and waits until the broker has it.
    pub fn send(&self, message: Message) {
        self.send_all(&[message]);
    }

    /// Sends messages in order and waits until the broker has them.
    pub fn send_all(&self, messages: &[Message]) {
        self.client.send(messages, |topic| self.topic(topic));
    }

    /// All that a `read_committed` reader sees of a topic now, partition by partition.
    #[must_use]
    pub fn read(&self, topic: &str) -> Vec<Record> {
        self.client.read(&self.topic(topic))
    }

    /// The end of each partition of a topic for a `read_committed` reader.
    #[must_use]
    pub fn ends(&self, topic: &str) -> Vec<i64> {
        self.client
            .ends(&[self.topic(topic)])
            .into_iter()
            .map(|(_, end)| end)
            .collect()
    }

    /// What the group committed in Kafka, by real topic and partition.
    #[must_use]
    pub fn watermarks(&self) -> BTreeMap<(String, i32), Option<Watermark>> {
        self.client
            .committed(&self.group(), &self.real_consumed())
            .into_iter()
            .collect()
    }

    /// The group's state as the broker names it, and how many members it has.
    #[must_use]
    pub fn group_state(&self) -> (String, usize) {
        self.client.group(&self.group())
    }

    /// Waits until every record of the consumed topics is decided, and every message that came of it is published
    /// and decided in turn. Deferred messages may still wait.
    pub fn wait_caught_up(&self) {
        soon_or(
            PATIENCE,
            "the group is caught up",
            || self.is_caught_up().then_some(()),
            || self.state(),
        );
    }

    /// How far everything is, for people: progress, watermarks, ends, and what waits.
    #[must_use]
    pub fn state(&self) -> String {
        let (progress, waiting) = (self.progress(), self.waiting());
        let (group, topics) = (self.group(), self.real_consumed());
        let watermarks = self.client.try_committed(&group, &topics);
        let ends = self.client.ends(&self.real_consumed());
        let shown = &waiting[..waiting.len().min(10)];
        format!(
            "{progress:#?}\n{watermarks:#?}\n{ends:#?}\n{} waiting: {shown:#?}",
            waiting.len()
        )
    }

    /// Whether everything is decided and published now, as [`World::wait_caught_up`] waits for.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        if !self.runtime.block_on(self.database.is_migrated()) {
            return false;
        }
        // In this order: what is published before the ends are read is within them, unless its marker is still on its way
        // to that partition; and no batch in between.
        let before = self.progress();
        let (group, topics) = (self.group(), self.real_consumed());
        // While a transaction is open there is no answer.
        let Ok(watermarks) = self.client.try_committed(&group, &topics) else {
            return false;
        };
        let watermarks: BTreeMap<_, _> = watermarks.into_iter().collect();
        let published = before.iter().all(|row| {
            let watermark = watermarks
                .get(&(row.topic.clone(), row.partition))
                .and_then(Option::as_ref);
            watermark.and_then(Watermark::batch) == Some(row.batch)
        });
        if !published {
            return false;
        }
        let Some(ends) = self.client.settled_ends(&topics) else {
            return false;
        };
        let after = self.progress();
        before == after
            && ends.iter().all(|((topic, partition), end)| {
                let row = after
                    .iter()
                    .find(|row| (&row.topic, row.partition) == (topic, *partition));
                row.and_then(|row| row.next_offset)
                    .is_some_and(|next| next >= *end)
            })
    }

    fn real_consumed(&self) -> Vec<String> {
        self.consumed
            .iter()
            .map(|topic| self.topic(topic))
            .collect()
    }

    pub(crate) fn rows<T>(&self, sql: &'static str, argument: Option<&str>) -> Vec<T>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        self.runtime.block_on(self.database.rows(sql, argument))
    }

    /// All tasks, by id.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskRow> {
        self.rows(database::TASKS, None)
    }

    /// A task that must be there.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn task(&self, id: &str) -> TaskRow {
        self.find_task(id)
            .unwrap_or_else(|| panic!("there is no task {id}"))
    }

    /// A task that may be there.
    #[must_use]
    pub fn find_task(&self, id: &str) -> Option<TaskRow> {
        self.rows(database::TASK, Some(id)).pop()
    }

    /// A task's history, in order.
    #[must_use]
    pub fn events(&self, task: &str) -> Vec<EventRow> {
        self.rows(database::EVENTS, Some(task))
    }

    /// Every task's history.
    #[must_use]
    pub fn all_events(&self) -> Vec<EventRow> {
        self.rows(database::ALL_EVENTS, None)
    }

    /// All dead letters, by where their records were.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetterRow> {
        self.rows(database::DEAD_LETTERS, None)
    }

    /// Deferred messages and timers.
    #[must_use]
    pub fn waiting(&self) -> Vec<WaitingRow> {
        self.rows(database::WAITING, None)
    }

    /// How far each partition is.
    #[must_use]
    pub fn progress(&self) -> Vec<ProgressRow> {
        self.rows(database::PROGRESS, None)
    }

    /// Opens a transaction, as somebody who is not the host, and does something in it. It ends, undone, with the
    /// value.
    ///
    /// # Panics
    /// If Postgres refuses.
    #[must_use]
    pub fn hold(&self, sql: &'static str) -> PgConnection {
        self.runtime.block_on(async {
            let mut connection = PgConnection::connect(&self.database.url)
                .await
                .expect("a connection");
            for sql in ["BEGIN", sql] {
                sqlx::raw_sql(sql)
                    .execute(&mut connection)
                    .await
                    .unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
            connection
        })
    }

    /// Keeps every batch from reading its tasks until the value is dropped. Then a batch of this message waits for it.
    ///
    /// # Panics
    /// If none does in time.
    #[must_use]
    pub fn hold_tasks(&self, message: Message) -> PgConnection {
        let held = self.hold("LOCK TABLE taskhost.tasks IN ACCESS EXCLUSIVE MODE");
        self.send(message);
        soon("a batch waits for the table", || {
            let waiting = self.ask(
                "SELECT pid::text FROM pg_locks WHERE NOT granted AND relation = 'tasks'::regclass",
            );
            (!waiting.is_empty()).then_some(())
        });
        held
    }

    /// Asks the database something else: one text value, `NULL` as none.
    #[must_use]
    pub fn ask(&self, sql: &'static str) -> Vec<Option<String>> {
        let rows: Vec<(Option<String>,)> = self.rows(sql, None);
        rows.into_iter().map(|(value,)| value).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.runtime.block_on(self.database.remove());
    }
}

/// The root of the checkout that the tests were built from.
#[must_use]
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the checkout")
        .to_owned()
}

fn artefact_file(name: &str) -> PathBuf {
    checkout()
        .join("plugins/target/wasm32-wasip2/release")
        .join(format!("{name}.wasm"))
}

/// Compiled plugins are the same for every host and are put there in one step, so all tests share them.
fn cache_dir() -> PathBuf {
    let exe = env::current_exe().expect("this program's path");
    let target = exe
        .ancestors()
        .find(|dir| dir.ends_with("debug") || dir.ends_with("release"));
    target
        .map_or_else(env::temp_dir, Path::to_owned)
        .join("taskhost-test-cache")
}
