//! Claims: they shut out whoever was there before, and say who that was.

use std::time::Duration;

use taskhost::store::{Commit, Disposition};
use taskhost_core::batch::WriteSet;
use taskhost_core::recovery::Progress;
use uuid::Uuid;

use crate::support::*;

#[tokio::test]
async fn a_claim_raises_the_epoch_and_returns_the_previous_owners() {
    let database = Database::migrated().await;
    let store = database.store();
    let first = store.claim(&key(0), &own("a-1")).await.unwrap();
    assert_eq!((first.epoch, first.previous_owners), (1, vec![]));
    let second = store.claim(&key(0), &own("b-1")).await.unwrap();
    assert_eq!((second.epoch, second.previous_owners), (2, own("a-1")));
    let again = store.claim(&key(0), &own("b-1")).await.unwrap();
    let both = vec!["a-1".to_owned(), "b-1".to_owned()];
    assert_eq!((again.epoch, again.previous_owners), (3, both));
    let never = Progress {
        token: None,
        decided_watermark: None,
        topic_id: None,
        next_offset: None,
        batch: 0,
        published: None,
    };
    assert_eq!((again.progress, again.waiting), (never, 0));
}

#[tokio::test]
async fn claims_at_once_each_see_the_ones_before() {
    let database = Database::migrated().await;
    let store = database.store();
    let ids: Vec<String> = (0..6).map(|n| format!("host-{n}")).collect();
    let mut claims = tokio::task::JoinSet::new();
    for id in ids.clone() {
        let store = store.clone();
        claims.spawn(async move {
            let claim = store
                .claim(&key(0), std::slice::from_ref(&id))
                .await
                .unwrap();
            (claim.epoch, claim.previous_owners, id)
        });
    }
    let mut claims = claims.join_all().await;
    claims.sort();
    let mut owners: Vec<String> = Vec::new();
    for (expected, (epoch, previous, id)) in (1..).zip(claims) {
        assert_eq!(epoch, expected);
        assert_eq!(previous, owners, "of claim {epoch}");
        owners.push(id);
    }
    assert_eq!(owners.len(), ids.len());
}

#[tokio::test]
async fn a_claim_waits_for_an_open_batch_and_sees_what_it_left() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let mut set = creates(&["a"]);
    set.waiting.push(waiting("b", 1, Some(NOW)));
    set.counts.deferred = 1;
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    batch.write(&set, NOW).await.unwrap();
    let claiming = tokio::spawn({
        let store = store.clone();
        async move { store.claim(&key(0), &own("host-b")).await.unwrap() }
    });
    wait_for_a_lock(&database).await;
    assert!(!claiming.is_finished());
    finish(batch, &set).await;
    let claim = claiming.await.unwrap();
    assert_eq!(claim.progress.batch, 1);
    assert_eq!(claim.progress.next_offset, Some(2));
    assert_eq!(claim.waiting, 1, "the deferral of the batch it waited for");
    assert_eq!(claim.previous_owners, own("host-a"));
}

#[tokio::test]
async fn a_zombie_begins_and_commits_nothing() {
    let database = Database::migrated().await;
    let store = database.store();
    let zombie = started(&store, &key(0)).await;
    let claim = store.claim(&key(0), &own("host-b")).await.unwrap();
    let lost = store.begin(&key(0), zombie).await.unwrap_err();
    assert_eq!(lost.disposition(), Disposition::Lost);
    for lost in [
        store.own_alone(&key(0), zombie, &own("host-a")).await,
        store.start(&key(0), zombie, 5, TOPIC_ID).await,
    ] {
        assert_eq!(lost.unwrap_err().disposition(), Disposition::Lost);
    }
    assert!(
        !store
            .release(&key(0), zombie, &own("host-b"))
            .await
            .unwrap()
    );
    store
        .begin(&key(0), claim.epoch)
        .await
        .unwrap()
        .rollback()
        .await;
}

/// Without its lock on the progress row a zombie's batch could be open across a claim; the compare-and-set stops it then.
#[tokio::test]
async fn a_batch_commits_only_from_where_it_began() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    run(&store, &key(0), epoch, &creates(&["a", "b"])).await;
    let batch = store.begin(&key(0), epoch).await.unwrap();
    assert_eq!((batch.number(), batch.next_offset()), (2, 2));
    let frame = frame(&batch, 3, &WriteSet::default());
    let lost = batch
        .commit(1, frame, Uuid::new_v4(), None)
        .await
        .unwrap_err();
    assert_eq!(lost.disposition(), Disposition::Lost);
    let row = &store.snapshot("group").await.unwrap()[0];
    assert_eq!((row.progress.batch, row.progress.next_offset), (1, Some(2)));
    assert_eq!(row.frames, 1);
}

#[tokio::test]
async fn a_partition_is_started_once() {
    let database = Database::migrated().await;
    let store = database.store();
    assert!(!store.topic_known("group", "task-status").await.unwrap());
    let claim = store.claim(&key(0), &own("a")).await.unwrap();
    assert!(!store.topic_known("group", "task-status").await.unwrap());
    let early = store.begin(&key(0), claim.epoch).await.unwrap_err();
    assert_eq!(early.disposition(), Disposition::Halt);
    store
        .start(&key(0), claim.epoch, 40, TOPIC_ID)
        .await
        .unwrap();
    let twice = store.start(&key(0), claim.epoch, 50, TOPIC_ID).await;
    assert_eq!(twice.unwrap_err().disposition(), Disposition::Lost);
    assert!(store.topic_known("group", "task-status").await.unwrap());
    assert!(!store.topic_known("group", "other").await.unwrap());
    assert!(!store.topic_known("another", "task-status").await.unwrap());
    let claim = store.claim(&key(0), &own("a")).await.unwrap();
    assert_eq!(claim.progress.next_offset, Some(40));
    assert_eq!(claim.progress.topic_id, Some(TOPIC_ID));
}

#[tokio::test]
async fn owners_are_left_alone_and_released() {
    let database = Database::migrated().await;
    let store = database.store();
    store.claim(&key(0), &own("dead")).await.unwrap();
    let claim = store.claim(&key(0), &own("mine")).await.unwrap();
    store
        .own_alone(&key(0), claim.epoch, &own("mine"))
        .await
        .unwrap();
    assert_eq!(
        store.snapshot("group").await.unwrap()[0].owners,
        own("mine")
    );
    assert!(
        store
            .release(&key(0), claim.epoch, &own("mine"))
            .await
            .unwrap()
    );
    assert!(store.snapshot("group").await.unwrap()[0].owners.is_empty());
}

#[tokio::test]
async fn published_is_only_ever_raised_and_never_past_the_last_batch() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let published = async || store.snapshot("group").await.unwrap()[0].progress.published;
    assert!(store.set_published(&key(0), 0).await.unwrap());
    for offset in 0..3 {
        let set = creates(&[&format!("task-{offset}")]);
        run(&store, &key(0), epoch, &set).await;
    }
    assert!(store.set_published(&key(0), 2).await.unwrap());
    assert!(!store.set_published(&key(0), 1).await.unwrap());
    assert!(!store.set_published(&key(0), 4).await.unwrap());
    assert_eq!(published().await, Some(2));
    for (hint, expected) in [(None, 2), (Some(1), 2), (Some(3), 3), (Some(99), 3)] {
        let set = WriteSet::default();
        let batch = store.begin(&key(0), epoch).await.unwrap();
        let frame = frame(&batch, 3, &set);
        let done = batch.commit(3, frame, Uuid::new_v4(), hint).await.unwrap();
        assert!(matches!(done, Commit::Committed(_)));
        assert_eq!(published().await, Some(expected), "{hint:?}");
    }
}

#[tokio::test]
async fn frames_come_back_in_order_and_a_missing_one_is_missing() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let mut frames = Vec::new();
    for offset in 0..4 {
        let set = creates(&[&format!("task-{offset}")]);
        frames.push(run(&store, &key(0), epoch, &set).await);
    }
    assert_eq!(store.frames(&key(0), 1, 4).await.unwrap(), frames);
    assert_eq!(store.frames(&key(0), 2, 3).await.unwrap(), frames[1..3]);
    assert_eq!(store.trim(&key(0), 2).await.unwrap(), 2);
    assert_eq!(store.frames(&key(0), 1, 4).await.unwrap(), frames[2..]);
    let mut connection = database.connection().await;
    sqlx::query("UPDATE outbox SET frame = '\\x0902' WHERE batch = 4")
        .execute(&mut connection)
        .await
        .unwrap();
    let unreadable = store.frames(&key(0), 1, 4).await.unwrap_err();
    assert_eq!(unreadable.disposition(), Disposition::Halt);
    assert!(unreadable.to_string().contains("batch 4"), "{unreadable}");
}

/// Until some session waits for a lock.
pub(crate) async fn wait_for_a_lock(database: &Database) {
    let mut connection = database.connection().await;
    let waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    for _ in 0..200 {
        let row = sqlx::query(waiting)
            .fetch_optional(&mut connection)
            .await
            .unwrap();
        if row.is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody waits for a lock");
}
