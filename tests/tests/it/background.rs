//! Background tasks of a host that fail by a bug.

use taskhost_tests::World;

/// A task and threads that the host can't do without, of several of its parts.
const NEEDED: [&str; 5] = [
    "rollbacks",
    "waker",
    "kafka-poll",
    "kafka-publish",
    "plugin-epoch",
];

#[test]
fn a_host_whose_task_panics_ends_and_says_which() {
    let world = World::new();
    for task in NEEDED {
        let failpoint = format!("background-{task}=panic");
        let host = world.host().failpoint(&failpoint).spawn();
        let status = host.wait_exit();
        assert_eq!(status.code(), Some(1), "{task}: {}", host.log());
        let said = format!("the background task {task} failed: it panicked");
        let ended = host.log_lines().into_iter().any(|line| {
            let text = line["message"].as_str().unwrap_or_default();
            line["level"] == "ERROR"
                && text.starts_with(&said)
                && text.contains("start the host again")
        });
        assert!(ended, "{task}: {}", host.log());
    }
}

#[test]
fn a_host_goes_on_without_a_task_that_only_informs_and_health_says_so() {
    let world = World::new();
    let host = world
        .host()
        .failpoint("background-plugin-history=panic")
        .start();
    host.wait_log("is started again in 5 s");
    let health = host.get("/api/health/detailed").json();
    let background = &health["details"]["background"];
    assert_eq!(background["status"], "up", "{health}");
    let reason = background["restarted"]["plugin-history"].as_str();
    assert!(
        reason.is_some_and(|reason| reason.contains("panicked")),
        "{health}"
    );
    host.stop();
}
