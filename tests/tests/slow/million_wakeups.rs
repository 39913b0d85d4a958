//! A million wakeups that are not due cost an idle host nothing, and those that are due fire in time.

use std::fs;
use std::time::Duration;

use taskhost_tests::{Host, Message, World, soon, soon_within};

/// How long the host's own time is measured, each time.
const MEASURED: Duration = Duration::from_secs(20);

/// What they may cost, of one core: the difference that they make to an idle host. What a host uses without them is another
/// matter, and the same work was seen to take 60 % more time on the same machine two hours later.
const SHARE_MAX: f64 = 0.01;

/// How much more of a core an idle host may use with them than without, at any speed of the machine.
const MORE_MAX: f64 = 1.5;

/// How late one may fire.
const LATE_MAX_MS: f64 = 1_000.0;

/// The delay of each deferral in this test, so that the time of a decision can be read from the next due time.
const DELAY_MS: f64 = 2_000.0;

/// Half a million timers, spread over the partitions.
const TIMERS: &str = "
WITH new AS (INSERT INTO wakeups (group_id, topic, partition, id, kind, task_id, name, route, due, sequence, attempt, since, reason, cause)
SELECT group_id, topic, partition, gen_random_uuid(), 'timer', 'far-' || partition || topic || n, 'alarm', 'task-status',
    now() + interval '30 days' + n * interval '1 s', 0, 0, now(), '', decode(repeat('ab', 300), 'hex')
FROM progress, generate_series(1, 500000 / (SELECT count(*)::int FROM progress)) n
RETURNING 1)
SELECT count(*)::text FROM new";

/// Half a million messages in a thousand chains, each behind one that isn't due.
const CHAINS: &str = "
WITH new AS (INSERT INTO wakeups (group_id, topic, partition, id, kind, task_id, route, due, sequence, attempt, since, reason, cause, why)
SELECT group_id, topic, partition, gen_random_uuid(), 'deferred', 'chain-' || partition || topic || n % 166, 'task-status',
    CASE WHEN n < 166 THEN now() + interval '30 days' END, 1000000000 + n, 0, now(), '', decode(repeat('ab', 300), 'hex'),
    CASE WHEN n < 166 THEN 'deferral' ELSE 'turn' END
FROM progress, generate_series(0, 500000 / (SELECT count(*)::int FROM progress)) n
RETURNING 1)
SELECT count(*)::text FROM new";

fn host(world: &World) -> Host {
    let delay = DELAY_MS.to_string();
    world
        .host()
        .env("TASKHOST_DEFERRAL_DELAY_MIN", &delay)
        .env("TASKHOST_DEFERRAL_DELAY_MAX", &delay)
        .start()
}

/// What the threads of a process used of the processors so far, as the scheduler counts it. The ticks in the process' `stat`
/// are samples: threads that wake up with a timer, and all of an idle host's do, are met too often.
fn used(host: &Host) -> Duration {
    let threads = fs::read_dir(format!("/proc/{}/task", host.pid())).expect("the process");
    let nanoseconds = threads.filter_map(|thread| {
        // One that has ended meanwhile counts for nothing.
        let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// The share of one core that a host uses while nothing comes: the lesser of two measurements, as whatever else runs on the
/// machine can only add to it.
fn share(host: &Host) -> f64 {
    let measured = [(); 2].map(|()| {
        let before = used(host);
        std::thread::sleep(MEASURED);
        let spent = used(host).saturating_sub(before);
        spent.as_secs_f64() / MEASURED.as_secs_f64()
    });
    measured.into_iter().fold(f64::INFINITY, f64::min)
}

fn scans(world: &World) -> i64 {
    let sql = "SELECT seq_scan::text FROM pg_stat_user_tables WHERE relname = 'wakeups'";
    let scans = world.ask(sql).pop().flatten().expect("statistics");
    scans.parse().expect("a number")
}

#[test]
fn a_million_wakeups_cost_an_idle_host_under_one_percent_of_a_core_and_the_next_fires_in_time() {
    let world = World::new();
    let quiet = host(&world);
    world.wait_caught_up();
    let without = share(&quiet);
    quiet.stop();
    let insert = |sql| -> u64 {
        let rows = world.ask(sql).pop().flatten().expect("how many");
        rows.parse().expect("a number")
    };
    let rows = insert(TIMERS) + insert(CHAINS);
    assert!(rows >= 999_000, "{rows}");
    let host = host(&world);
    world.wait_caught_up();
    let (scanned, with) = (scans(&world), share(&host));
    println!("idle: {without:.4} of a core without wakeups, {with:.4} with {rows}");
    assert!(
        with - without < SHARE_MAX && with < without * MORE_MAX,
        "{with} of a core; {without} without wakeups"
    );

    // One that is due among them: the time at which it was decided shows in the next due time.
    let update = Message::to("task-status").key("late");
    world.send(update.json(&serde_json::json!({ "taskId": "late", "status": "started" })));
    let due = || -> Option<f64> {
        // With the collation it can use the index of a task's messages: the test must not read the whole table itself.
        let sql = "SELECT (extract(epoch FROM due) * 1000)::text FROM wakeups
            WHERE task_id = 'late' AND kind COLLATE \"POSIX\" = 'deferred' AND due IS NOT NULL";
        world.ask(sql).pop()??.parse().ok()
    };
    let mut last = soon("it waits", due);
    for _ in 0..3 {
        let next = soon_within(Duration::from_secs(10), "it fires", || {
            due().filter(|due| *due > last)
        });
        let late = next - DELAY_MS - last;
        println!("fired {late:.0} ms late");
        assert!((0.0..LATE_MAX_MS).contains(&late), "{late} ms late");
        last = next;
    }
    assert_eq!(scans(&world), scanned, "nothing reads the whole table");
    host.stop();
}
