//! A Postgres that answers and refuses: it is read-only after a failover, out of connections, or its disk is full. A ping
//! works on all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use taskhost::dev::{Postgres, PostgresOptions};
use taskhost_tests::{Proxy, Services, World, soon};
use tokio::runtime::Runtime;

use super::postgres::AT_ONCE;
use super::story::{self, POSTGRES, Story};

/// Somebody who asks Postgres something besides the host.
struct Asking(Runtime);

impl Asking {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        Self(runtime.expect("a runtime"))
    }

    fn connect(&self, url: &str) -> sqlx::Result<PgConnection> {
        self.0.block_on(PgConnection::connect(url))
    }

    fn run(&self, url: &str, sql: &str) {
        let mut connection = self.connect(url).expect("a connection");
        let sql = AssertSqlSafe(sql.to_owned());
        self.0
            .block_on(sqlx::raw_sql(sql).execute(&mut connection))
            .expect("an answer");
        self.0.block_on(connection.close()).expect("its end");
    }

    /// The one text that a query answers.
    fn ask(&self, url: &str, sql: &str) -> String {
        let mut connection = self.connect(url).expect("a connection");
        self.ask_over(&mut connection, sql)
    }

    fn ask_over(&self, connection: &mut PgConnection, sql: &str) -> String {
        let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
        self.0
            .block_on(query.fetch_one(connection))
            .expect("an answer")
    }
}

#[test]
fn a_failover_to_a_server_that_is_still_read_only_pauses_until_it_is_promoted() {
    let asking = Asking::new();
    let services = Services::start();
    let proxy = Proxy::start(&services.admin_url());
    let world = World::at(&services.bootstrap(), proxy.url(), 3);
    let host = story::host(&world).start();
    let mut story = Story::begin(&world, &host, POSTGRES);

    let dir = tempfile::Builder::new()
        .prefix("taskhost-standby-")
        .tempdir()
        .expect("a directory");
    let standby = standby(dir.path(), &services);
    let url = standby.url("postgres");
    let fail_over = || {
        let end = asking.ask(
            &services.admin_url(),
            "SELECT pg_current_wal_flush_lsn()::text",
        );
        let there = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{end}', false)::text");
        soon("the standby has everything", || {
            (asking.ask(&url, &there) == "true").then_some(())
        });
        proxy.lead_to(&format!("127.0.0.1:{}", standby.port()));
    };
    let promote = || asking.run(&url, "SELECT pg_promote()");
    story.outage("failed over to read-only", AT_ONCE, fail_over, promote);
    host.stop();
    // Its database is the standby's now, which is declared later and would be gone first.
    drop(world);
}

/// A copy of the server that follows it.
fn standby(dir: &Path, services: &Services) -> Postgres {
    use std::os::unix::fs::PermissionsExt as _;
    let home = services.postgres.home();
    // As root, a cluster lies one directory further down.
    let place = match home.file_name() {
        Some(name) if name == "cluster" => dir.join(name),
        _ => dir.to_owned(),
    };
    fs::create_dir_all(&place).expect("a directory");
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("the directory");
    let bin = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin/pg_basebackup"))
        .find(|tool| tool.is_file())
        .unwrap_or_else(|| PathBuf::from("pg_basebackup"));
    let mut copy = Command::new(bin);
    copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
        .arg("--pgdata")
        .arg(place.join("data"))
        .arg("--dbname")
        .arg(services.admin_url());
    run(&mut copy);
    fs::copy(home.join("password"), place.join("password")).expect("the password");
    // Whoever owns the one cluster owns the other.
    let like = format!("--reference={}", home.join("password").display());
    run(Command::new("chown")
        .args(["--recursive", &like])
        .arg(&place));
    Postgres::start(PostgresOptions {
        dir: dir.to_owned(),
        port: None,
        sync: false,
        extra: Vec::new(),
    })
    .expect("a standby")
}

fn run(command: &mut Command) {
    let output = command.output().expect("a program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

#[test]
fn a_server_without_connections_left_pauses_until_there_are_some() {
    let asking = Asking::new();
    let services = Services::with(&[], &[("max_connections", "25")]);
    let world = World::on(&services, 3);
    // The superuser's reserved connections are not for the host.
    let admin = world.database_url();
    let (server, name) = admin.rsplit_once('/').expect("a database");
    asking.run(
        admin,
        &format!(
            "CREATE ROLE ordinary LOGIN PASSWORD 'p'; ALTER DATABASE {name} OWNER TO ordinary"
        ),
    );
    let (_, address) = server.rsplit_once('@').expect("a user");
    let url = format!("postgres://ordinary:p@{address}/{name}");
    let host = story::host(&world).env("DATABASE_URL", &*url).start();
    let mut story = Story::begin(&world, &host, POSTGRES);
    let taken = std::cell::RefCell::new(Vec::new());
    // Kept throughout: a connection that ends is one for the host.
    let mut watching = asking.connect(admin).expect("a connection");
    let take_all = || {
        // A process that ends, or begins, has a connection and is not listed: all there are have to be others'.
        let all_taken = "WITH listed AS (
               SELECT count(*) AS number,
                 count(pg_terminate_backend(pid))
                   FILTER (WHERE usename = 'ordinary' AND application_name <> '') AS hosts
               FROM pg_stat_activity WHERE backend_type = 'client backend'
             )
             SELECT (hosts = 0 AND number >= current_setting('max_connections')::int
               - current_setting('superuser_reserved_connections')::int)::text FROM listed";
        // The host wants its own back, so that this takes some rounds.
        soon("no connection is left, and the host has none", || {
            while let Ok(connection) = asking.connect(&url) {
                taken.borrow_mut().push(connection);
            }
            (asking.ask_over(&mut watching, all_taken) == "true").then_some(())
        });
    };
    let give_back = || taken.borrow_mut().clear();
    story.outage("out of connections", AT_ONCE, take_all, give_back);
    host.stop();
}

/// A file system of a few megabytes. It is gone with the value.
struct Small(PathBuf);

impl Small {
    /// None where mounting is not permitted.
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir_all(&at).expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=48m,mode=0777", "none"]);
        let mounted = mount.arg(&at).status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(at))
    }

    /// Writes until nothing more goes in.
    fn fill(&self) {
        let filler = self.0.join("filler");
        let full = fs::write(&filler, vec![0_u8; 64 << 20]);
        assert!(full.is_err(), "the file system is not small");
    }

    fn clear(&self) {
        fs::remove_file(self.0.join("filler")).expect("the filler");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn a_server_whose_disk_is_full_pauses_until_there_is_space() {
    let asking = Asking::new();
    let dir = tempfile::Builder::new()
        .prefix("taskhost-small-")
        .tempdir()
        .expect("a directory");
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("the directory");
    }
    let Some(small) = Small::mount(dir.path().join("small")) else {
        println!("outage: disk full: not shown, as mounting a file system takes root");
        return;
    };
    let services = Services::start();
    let world = World::on(&services, 3);
    let password = services.postgres.home().join("password");
    let like = format!("--reference={}", password.display());
    let space = small.0.join("space");
    fs::create_dir(&space).expect("a directory");
    run(Command::new("chown").arg(&like).arg(&space));
    let (_, name) = world.database_url().rsplit_once('/').expect("a database");
    let admin = services.admin_url();
    asking.run(
        &admin,
        &format!("CREATE TABLESPACE small LOCATION '{}'", space.display()),
    );
    asking.run(
        &admin,
        &format!("ALTER DATABASE {name} SET TABLESPACE small"),
    );
    let host = story::host(&world).start();
    let mut story = Story::begin(&world, &host, POSTGRES);
    story.outage("disk full", AT_ONCE, || small.fill(), || small.clear());
    host.stop();
    // The file system is in use until the server is gone.
    drop(world);
    drop(services);
}
