//! Activations: one at a time, linearizable against batches, and never starved by them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use sha2::Digest as _;
use taskhost::store::{
    Activated, Activation, ActivationKind, Heard, NewActivation, NewStart, PastActivation, Store,
};
use taskhost_core::batch::WriteSet;
use uuid::Uuid;

use crate::support::*;

const ROUTE: &str = "task-status";

fn digest(of: &str) -> String {
    of.repeat(64 / of.len())
}

async fn activate(store: &Store, seen: i64, of: &str) -> Activated {
    let digest = digest(of);
    store
        .save(&digest, "plugin", "1.0.0", of.as_bytes())
        .await
        .unwrap();
    let new = NewActivation {
        route: ROUTE.to_owned(),
        seen,
        digest,
        config: "{}".into(),
        by: "a test".to_owned(),
        reason: "to see".to_owned(),
        kind: ActivationKind::Ordinary,
    };
    store.activate(&new).await.unwrap()
}

fn number(activated: Activated) -> i64 {
    match activated {
        Activated::Done(Activation { number, .. }) => number,
        lost @ Activated::Lost(_) => panic!("{lost:?}"),
    }
}

#[tokio::test]
async fn an_activation_is_made_on_top_of_the_one_that_was_seen() {
    let database = Database::migrated().await;
    let store = database.store();
    assert_eq!(store.current(ROUTE).await.unwrap(), None);
    assert_eq!(number(activate(&store, 0, "aa").await), 1);
    let Activated::Lost(Some(current)) = activate(&store, 0, "bb").await else {
        panic!("activated over one that was not seen");
    };
    assert_eq!((current.number, &current.digest), (1, &digest("aa")));
    assert_eq!(number(activate(&store, 1, "bb").await), 2);
    assert!(
        store
            .is_superseded(ROUTE, &digest("aa"), "{}")
            .await
            .unwrap()
    );
    assert!(
        !store
            .is_superseded(ROUTE, &digest("bb"), "{}")
            .await
            .unwrap()
    );
    assert!(
        !store
            .is_superseded(ROUTE, &digest("aa"), "{\"new\":1}")
            .await
            .unwrap()
    );
    assert_eq!(number(activate(&store, 2, "aa").await), 3, "a rollback");
    assert!(
        !store
            .is_superseded(ROUTE, &digest("aa"), "{}")
            .await
            .unwrap()
    );
    assert!(
        store
            .is_superseded(ROUTE, &digest("bb"), "{}")
            .await
            .unwrap()
    );
    let history = store.history(ROUTE).await.unwrap();
    let numbers: Vec<i64> = history.iter().map(|one| one.number).collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(
        store.current(ROUTE).await.unwrap().as_ref(),
        history.first()
    );
    assert_eq!(
        store.bytes(&digest("aa")).await.unwrap().as_deref(),
        Some(&b"aa"[..])
    );
    assert_eq!(store.bytes(&digest("cc")).await.unwrap(), None);
}

#[tokio::test]
async fn a_batch_sees_a_switch_and_an_activation_waits_for_a_batch() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    activate(&store, 0, "aa").await;
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    assert!(
        batch
            .check_activations(&[(ROUTE, 1), ("another", 0)])
            .await
            .unwrap()
    );
    let switching = tokio::spawn({
        let store = store.clone();
        async move { activate(&store, 1, "bb").await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!switching.is_finished(), "activated under an open batch");
    finish(batch, &WriteSet::default()).await;
    assert_eq!(number(switching.await.unwrap()), 2);
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    assert!(
        !batch
            .check_activations(&[("another", 0), (ROUTE, 1)])
            .await
            .unwrap()
    );
    batch.rollback().await;
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    assert!(batch.check_activations(&[(ROUTE, 2)]).await.unwrap());
}

/// Law 5: the numbers under which batches commit never go back, once an activation has answered.
#[tokio::test]
async fn no_batch_of_the_old_version_commits_after_an_activation() {
    let database = Database::migrated().await;
    let store = database.store();
    activate(&store, 0, "aa").await;
    let stop = Arc::new(AtomicBool::new(false));
    let (activated, batches) = (Arc::new(AtomicI64::new(1)), Arc::new(AtomicI64::new(0)));
    let mut workers = tokio::task::JoinSet::new();
    for partition in 0..3 {
        let (store, stop) = (store.clone(), stop.clone());
        let (activated, batches) = (activated.clone(), batches.clone());
        workers.spawn(async move {
            let epoch = started(&store, &key(partition)).await;
            while !stop.load(Ordering::SeqCst) {
                let current = store.current(ROUTE).await.unwrap().unwrap().number;
                let mut batch = store.begin(&key(partition), epoch).await.unwrap();
                if !batch.check_activations(&[(ROUTE, current)]).await.unwrap() {
                    batch.rollback().await;
                    continue;
                }
                // Read while the batch holds the route: nothing newer can have been answered yet.
                let answered = activated.load(Ordering::SeqCst);
                assert!(answered <= current, "decided by {current} after {answered}");
                finish(batch, &WriteSet::default()).await;
                batches.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let mut waited = Duration::ZERO;
    for seen in 1..6 {
        let so_far = batches.load(Ordering::SeqCst);
        while batches.load(Ordering::SeqCst) < so_far + 50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let began = Instant::now();
        let new = activate(&store, seen, ["bb", "aa"][usize::from(seen % 2 == 0)]).await;
        waited += began.elapsed();
        activated.store(number(new), Ordering::SeqCst);
    }
    stop.store(true, Ordering::SeqCst);
    workers.join_all().await;
    let batches = batches.load(Ordering::SeqCst);
    println!("5 activations among {batches} batches took {waited:?}");
    assert!(waited < Duration::from_secs(10), "starved for {waited:?}");
}

#[tokio::test]
async fn a_frozen_batch_stops_an_activation_but_not_the_other_batches() {
    let database = Database::migrated().await;
    let store = database.store();
    activate(&store, 0, "aa").await;
    let epoch = started(&store, &key(0)).await;
    let other = started(&store, &key(1)).await;
    let mut frozen = store.begin(&key(0), epoch).await.unwrap();
    assert!(frozen.check_activations(&[(ROUTE, 1)]).await.unwrap());
    let activating = tokio::spawn({
        let store = store.clone();
        async move { activate(&store, 1, "bb").await }
    });
    let (mut batches, began) = (0, Instant::now());
    while began.elapsed() < Duration::from_millis(2500) {
        let mut batch = store.begin(&key(1), other).await.unwrap();
        assert!(batch.check_activations(&[(ROUTE, 1)]).await.unwrap());
        let set = WriteSet::default();
        let frame = frame(&batch, batch.next_offset(), &set);
        batch
            .commit(frame.next_offset, frame, Uuid::new_v4(), None)
            .await
            .unwrap();
        batches += 1;
    }
    println!("beside a frozen batch and an activator: {batches} batches in 2.5 s");
    assert!(batches > 50, "{batches}");
    assert!(!activating.is_finished());
    frozen.rollback().await;
    assert_eq!(number(activating.await.unwrap()), 2);
}

fn start(number: i64, first_offset: i64) -> NewStart {
    NewStart {
        route: ROUTE.to_owned(),
        number,
        first_offset,
    }
}

/// Numbers with the partitions and offsets at which they took effect, the current one first.
fn places(past: &[PastActivation]) -> Vec<(i64, Vec<(i32, i64)>)> {
    let place = |one: &PastActivation| {
        let starts = one.starts.iter();
        let at = starts.map(|start| (start.partition.partition, start.first_offset));
        (one.activation.number, at.collect())
    };
    past.iter().map(place).collect()
}

#[tokio::test]
async fn where_an_activation_took_effect_is_written_with_its_batch_and_read_by_the_next_claim() {
    let database = Database::migrated().await;
    let store = database.store();
    activate(&store, 0, "aa").await;
    activate(&store, 1, "bb").await;
    let epoch = started(&store, &key(0)).await;
    let other = started(&store, &key(1)).await;

    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    batch.start_activations(&[start(1, 3)]).await.unwrap();
    batch.rollback().await;
    let past = |limit| {
        let (store, group) = (store.clone(), key(0).group);
        async move { store.past_activations(&group, ROUTE, limit).await.unwrap() }
    };
    assert_eq!(
        places(&past(10).await),
        [(2, vec![]), (1, vec![])],
        "nothing without its batch"
    );

    for (partition, epoch, new) in [
        (0, epoch, start(1, 3)),
        (1, other, start(1, 5)),
        (0, epoch, start(2, 7)),
        // A batch whose answer was lost and that is written again changes nothing.
        (0, epoch, start(2, 9)),
    ] {
        let mut batch = store.begin(&key(partition), epoch).await.unwrap();
        batch.start_activations(&[new]).await.unwrap();
        finish(batch, &WriteSet::default()).await;
    }
    assert_eq!(
        places(&past(10).await),
        [(2, vec![(0, 7)]), (1, vec![(0, 3), (1, 5)])]
    );
    assert_eq!(places(&past(1).await), [(2, vec![(0, 7)])]);
    assert_eq!(past(1).await[0].name, "plugin");
    let claim = store.claim(&key(0), &[]).await.unwrap();
    assert_eq!(claim.started, [(ROUTE.to_owned(), 2)].into());
    let another_group = store.past_activations("another", ROUTE, 1).await.unwrap();
    assert_eq!(places(&another_group), [(2, vec![])]);
}

#[tokio::test]
async fn an_activation_is_told_to_those_who_listen() {
    let database = Database::migrated().await;
    let store = database.store();
    let mut listener = store.listen().await.unwrap();
    activate(&store, 0, "aa").await;
    // The loser tells nothing.
    activate(&store, 0, "bb").await;
    activate(&store, 1, "bb").await;
    for _ in 0..2 {
        let heard = tokio::time::timeout(Duration::from_secs(5), listener.next()).await;
        let route = ROUTE.to_owned();
        assert_eq!(heard.unwrap().unwrap(), Heard::Activated { route });
    }
    let more = tokio::time::timeout(Duration::from_millis(200), listener.next()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn saving_a_version_again_mends_damaged_bytes_and_nothing_else() {
    let database = Database::migrated().await;
    let store = database.store();
    let bytes = b"the component";
    let digest = hex::encode(sha2::Sha256::digest(bytes));
    store.save(&digest, "plugin", "1.0.0", bytes).await.unwrap();
    let mut connection = database.connection().await;
    let damage = "UPDATE plugin_versions SET bytes = 'damaged'";
    sqlx::raw_sql(damage)
        .execute(&mut connection)
        .await
        .unwrap();
    store
        .save(&digest, "renamed", "2.0.0", bytes)
        .await
        .unwrap();
    assert_eq!(
        store.bytes(&digest).await.unwrap().as_deref(),
        Some(&bytes[..])
    );
    let stored = store.versions_beginning(&digest, 1).await.unwrap();
    assert_eq!((&*stored[0].name, &*stored[0].version), ("plugin", "1.0.0"));
}
