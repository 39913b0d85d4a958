//! Tasks that panic, end, go on and are started again.

use std::sync::atomic::AtomicU32;
use std::sync::mpsc::channel;

use super::*;

const DUTY: Duty = Duty {
    name: "sweeping",
    without: "the floor stays as it is",
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

async fn failure(supervisor: &mut Supervisor) -> Failed {
    let failed = supervisor.failed(|again| panic!("started again: {again}"));
    let failed = tokio::time::timeout(PATIENCE, failed);
    failed.await.expect("the failure is heard of")
}

#[tokio::test]
async fn a_task_that_panics_is_told_with_its_name_and_what_is_not_done_without_it() {
    let (background, mut supervisor) = Background::new();
    background.forever(DUTY, async { panic!("no broom {}", 1) });
    let failed = failure(&mut supervisor).await;
    let text = failed.to_string();
    for part in [
        "sweeping",
        "no broom 1",
        "the floor stays",
        "start the host again",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn a_task_that_ends_too_early_is_a_failure_unless_it_may_end() {
    let (background, mut supervisor) = Background::new();
    background.once(DUTY, async {});
    background.forever(DUTY, async { tokio::task::yield_now().await });
    assert_eq!(failure(&mut supervisor).await.reason, "it ended");
    assert!(supervisor.0.is_empty(), "the one with an end is no failure");
    background.once(DUTY, async { panic!("no broom") });
    assert!(failure(&mut supervisor).await.reason.contains("no broom"));
}

#[tokio::test]
async fn a_thread_that_panics_is_told_and_one_that_ends_is_not() {
    let (background, mut supervisor) = Background::new();
    let (end, ended) = channel();
    background
        .thread(DUTY, move || end.send(()).expect("heard"))
        .expect("a thread");
    ended.recv().expect("it ends");
    background
        .thread(DUTY, || panic!("no broom"))
        .expect("a thread");
    assert!(failure(&mut supervisor).await.reason.contains("no broom"));
    assert!(supervisor.0.is_empty());
}

#[tokio::test]
async fn nothing_that_ends_with_the_host_is_a_failure() {
    let (background, mut supervisor) = Background::new();
    background.forever(DUTY, std::future::pending());
    let stop = background.stop_token();
    let task = background.until_the_end(DUTY, async move { stop.cancelled().await });
    background.stop();
    tokio::time::timeout(PATIENCE, task)
        .await
        .expect("it ends")
        .expect("it does not panic");
    drop(background);
    let report = supervisor.0.recv().await;
    assert!(report.is_none(), "nothing failed");
}

#[tokio::test]
async fn a_task_that_may_be_started_again_is_and_the_supervisor_hears_of_it() {
    let (mut background, mut supervisor) = Background::new();
    background.pause = Duration::ZERO;
    let begun = Arc::new(AtomicU32::new(0));
    let rounds = begun.clone();
    background.again(DUTY, move || {
        let round = rounds.fetch_add(1, Ordering::SeqCst);
        async move {
            assert!(round > 1, "no broom");
            std::future::pending().await
        }
    });
    let third = async {
        while begun.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, third)
        .await
        .expect("it is started again, twice");
    background.stop();
    drop(background);
    let mut told = Vec::new();
    while let Some(report) = supervisor.0.recv().await {
        match report {
            Report::Again(failed) => told.push(failed.reason),
            Report::Failed(failed) => panic!("the host goes on: {failed}"),
        }
    }
    assert_eq!(told, ["it panicked: no broom"; 2]);
}
