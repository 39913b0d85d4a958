//! Rollbacks: once, remembered, and forgotten by who forces; what is held; people's orders.

use taskhost::store::{Activated, ActivationKind, Heard, NewActivation, OrderedState, Store};
use taskhost_core::batch::{Wakeup, WriteSet};
use taskhost_core::waiting::Why;

use crate::support::*;

const ROUTE: &str = "task-status";

fn digest(of: &str) -> String {
    of.repeat(64 / of.len())
}

async fn activate(store: &Store, seen: i64, of: &str, config: &str, kind: ActivationKind) -> bool {
    let digest = digest(of);
    let saved = store.save(&digest, "plugin", "1.0.0", of.as_bytes());
    saved.await.unwrap();
    let new = NewActivation {
        route: ROUTE.to_owned(),
        seen,
        digest,
        config: config.into(),
        by: "a test".to_owned(),
        reason: "20 of 20".to_owned(),
        kind,
    };
    matches!(store.activate(&new).await.unwrap(), Activated::Done(_))
}

async fn is_rolled_back(store: &Store, of: &str, config: &str) -> bool {
    let found = store.rolled_back(ROUTE, &digest(of), config).await.unwrap();
    found.is_some()
}

#[tokio::test]
async fn a_rollback_happens_once_and_the_version_is_remembered_until_it_is_forced() {
    use ActivationKind::{Forced, Ordinary, Rollback};
    let database = Database::migrated().await;
    let store = database.store();
    assert!(activate(&store, 0, "aa", "{}", Ordinary).await);
    assert_eq!(store.before(ROUTE, 1).await.unwrap(), None);
    assert!(activate(&store, 1, "bb", "{}", Ordinary).await);
    let before = store.before(ROUTE, 2).await.unwrap().unwrap();
    assert_eq!((before.number, before.digest), (1, digest("aa")));
    assert!(!is_rolled_back(&store, "bb", "{}").await);

    assert!(activate(&store, 2, "aa", "{}", Rollback).await);
    assert!(!activate(&store, 2, "aa", "{}", Rollback).await, "once");
    let history = store.history(ROUTE).await.unwrap();
    let told: Vec<_> = history
        .iter()
        .map(|one| (one.number, one.probation, one.rollback_of))
        .collect();
    assert_eq!(
        told,
        [(3, false, Some(2)), (2, true, None), (1, false, None)]
    );
    assert!(is_rolled_back(&store, "bb", "{}").await);
    assert!(
        is_rolled_back(&store, "bb", "{\"a\":1}").await,
        "whatever its configuration"
    );
    assert!(!is_rolled_back(&store, "aa", "{}").await);
    let all = store.all_rolled_back(ROUTE).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].activation, &*all[0].reason), (2, "20 of 20"));

    // The way back leads past what was rolled back.
    assert!(activate(&store, 3, "cc", "{}", Ordinary).await);
    let before = store.before(ROUTE, 4).await.unwrap().unwrap();
    assert_eq!(before.digest, digest("aa"));

    assert!(activate(&store, 4, "bb", "{}", Forced).await);
    assert!(!is_rolled_back(&store, "bb", "{}").await);
    let current = store.current(ROUTE).await.unwrap().unwrap();
    assert_eq!((current.number, current.probation), (5, false));
}

#[tokio::test]
async fn a_configuration_that_is_rolled_back_leaves_its_version_to_others() {
    use ActivationKind::{Ordinary, Rollback};
    let database = Database::migrated().await;
    let store = database.store();
    assert!(activate(&store, 0, "aa", "{}", Ordinary).await);
    assert!(activate(&store, 1, "aa", "{\"a\":1}", Ordinary).await);
    assert_eq!(store.before(ROUTE, 2).await.unwrap().unwrap().number, 1);
    assert!(activate(&store, 2, "aa", "{}", Rollback).await);
    assert!(is_rolled_back(&store, "aa", "{\"a\":1}").await);
    assert!(!is_rolled_back(&store, "aa", "{}").await);
    assert!(!is_rolled_back(&store, "aa", "{\"a\":2}").await);
}

#[tokio::test]
async fn what_is_held_on_a_route_is_made_due_and_nothing_else() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let later = Some(NOW + 1_000_000);
    let held = |task: &str, sequence| Wakeup {
        why: Why::Held,
        ..waiting(task, sequence, later)
    };
    let deferred = Wakeup {
        why: Why::Deferral,
        ..waiting("d", 4, later)
    };
    let elsewhere = Wakeup {
        route: "elsewhere".to_owned(),
        ..held("e", 5)
    };
    let route = held("h", 1).route;
    let set = WriteSet {
        waiting: vec![
            held("h", 1),
            waiting("h", 2, None),
            held("i", 3),
            deferred,
            elsewhere,
        ],
        ..WriteSet::default()
    };
    run(&store, &key(0), epoch, &set).await;
    assert!(due(&store, &key(0), NOW, 10).await.is_empty());
    let group = key(0).group;
    let woken = store.release_held(&group, &route, NOW).await.unwrap();
    assert_eq!(woken, [key(0)]);
    let mut chains = due(&store, &key(0), NOW, 10).await;
    chains.sort_unstable();
    assert_eq!(
        chains,
        [("h".to_owned(), vec![1, 2]), ("i".to_owned(), vec![3])]
    );
    let rows = store
        .waiting_rows(&key(0), &[waiting("h", 1, None).id])
        .await;
    assert_eq!(
        rows.unwrap()[0].counts_from,
        Some(NOW),
        "the next attempt counts"
    );
    let again = store.release_held(&group, &route, NOW).await.unwrap();
    assert_eq!(again, []);
}

#[tokio::test]
async fn the_last_order_counts_and_hosts_hear_of_it() {
    let database = Database::migrated().await;
    let store = database.store();
    assert_eq!(store.breaker_orders().await.unwrap(), []);
    let mut listener = store.listen().await.unwrap();
    for (number, state) in [
        (1, OrderedState::Open),
        (2, OrderedState::HeldClosed),
        (3, OrderedState::Closed),
    ] {
        let order = store
            .order_breaker(ROUTE, state, "me", "why not")
            .await
            .unwrap();
        assert_eq!((order.number, order.state), (number, state));
        assert_eq!(listener.next().await.unwrap(), Heard::Ordered);
        assert_eq!(store.breaker_orders().await.unwrap(), [order]);
    }
    let other = store.order_breaker("other", OrderedState::Open, "me", "too");
    assert_eq!(other.await.unwrap().number, 1);
    assert_eq!(store.breaker_orders().await.unwrap().len(), 2);
}
