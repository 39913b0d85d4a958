//! A swap is one compare-and-set, then one pointer; what was replaced comes back only by a command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use taskhost::deciders::Rule as _;
use taskhost::plugin::{
    Activated, ActivationKind, Catalog, CatalogError, InMemory, Library, NewActivation, Offer,
    Offered, PluginRoute, Refused, Versions, Wish, digest,
};
use taskhost_core::decision::Decision;
use taskhost_core::record::TopicPartition;

use crate::support::{Setting, catalog, causes, engine, guest, quick, route, works};

fn offer(bytes: Arc<[u8]>, force: bool) -> Offer {
    Offer {
        route: 0,
        bytes,
        config: "{}".into(),
        file: "swap.wasm".to_owned(),
        by: "a test".to_owned(),
        reason: "to see".to_owned(),
        force,
        despite_rollback: false,
        seen: None,
    }
}

#[tokio::test]
async fn the_second_version_replaces_the_first_and_a_file_does_not_bring_it_back() {
    let Setting {
        catalog,
        versions,
        heard,
    } = catalog("swap", "swap", "{}");
    let (first, second) = (guest("guest_swap_v1"), guest("guest_swap_v2"));
    assert!(
        matches!(catalog.offer(offer(first.clone(), false)).await, Ok(Offered::Activated(it)) if it.number == 1)
    );
    assert!(
        matches!(catalog.offer(offer(first.clone(), false)).await, Ok(Offered::Unchanged(it)) if it.number == 1)
    );
    assert!(
        matches!(catalog.offer(offer(second, false)).await, Ok(Offered::Activated(it)) if it.number == 2)
    );

    let error = catalog
        .offer(offer(first.clone(), false))
        .await
        .expect_err("it was replaced");
    assert!(
        matches!(error, CatalogError::Refused(Refused::Superseded { .. })),
        "{error}"
    );
    assert!(
        error.to_string().contains(&format!(
            "`taskhost plugin activate swap --digest {}`",
            digest(&first)
        )),
        "{error}"
    );
    assert_eq!(catalog.current(0).map(|active| active.number), Some(2));

    let back = catalog
        .activate_known(
            0,
            &digest(&first),
            "{}".into(),
            Wish {
                by: "somebody",
                reason: "rollback",
                despite_rollback: false,
                seen: None,
            },
        )
        .await;
    assert!(matches!(back, Ok(Offered::Activated(it)) if it.number == 3 && it.by == "somebody"));
    assert_eq!(
        catalog
            .current(0)
            .map(|active| active.version.version.clone())
            .as_deref(),
        Some("1.0.0")
    );
    assert_eq!(versions.history("swap").len(), 3);
    let swaps = heard
        .all()
        .into_iter()
        .filter(|told| told.contains("swapped"))
        .count();
    assert_eq!(swaps, 3);
}

#[tokio::test]
async fn an_offer_that_comes_second_loses_and_the_first_one_decides() {
    let Setting {
        catalog, versions, ..
    } = catalog("swap", "swap", "{}");
    let second = guest("guest_swap_v2");
    catalog
        .offer(offer(second.clone(), false))
        .await
        .expect("it is good");
    // Another host activates something this one has never seen, and stores its bytes.
    let first = guest("guest_swap_v1");
    let other = catalog_on(versions.clone());
    assert!(
        matches!(other.offer(offer(first, false)).await, Ok(Offered::Activated(it)) if it.number == 2)
    );
    let stale = NewActivation {
        route: "swap".to_owned(),
        seen: 1,
        digest: digest(&second),
        config: "{}".into(),
        by: "late".to_owned(),
        reason: "late".to_owned(),
        kind: ActivationKind::Ordinary,
    };
    assert!(
        matches!(versions.activate(stale).await, Ok(Activated::Lost(Some(it))) if it.number == 2)
    );

    // This host takes it from the stored bytes.
    assert_eq!(catalog.current(0).map(|active| active.number), Some(1));
    let active = catalog
        .refresh(0)
        .await
        .expect("it can be read")
        .expect("something is active");
    assert_eq!(
        (active.number, active.version.version.as_str()),
        (2, "1.0.0")
    );
}

fn catalog_on(versions: Arc<InMemory>) -> Catalog {
    let routes = vec![PluginRoute {
        route: route("swap"),
        plugin: "swap".to_owned(),
        config: "{}".into(),
    }];
    Catalog::new(Library::new(engine(quick())), versions, routes, [].into())
}

#[tokio::test]
async fn while_the_versions_are_away_what_runs_goes_on() {
    let Setting {
        catalog, versions, ..
    } = catalog("swap", "swap", "{}");
    catalog
        .offer(offer(guest("guest_swap_v1"), false))
        .await
        .expect("it is good");
    versions.set_unavailable(true);
    let error = catalog
        .offer(offer(guest("guest_swap_v2"), false))
        .await
        .expect_err("they are away");
    assert!(matches!(error, CatalogError::Versions(_)), "{error}");
    assert!(catalog.refresh(0).await.is_err());
    assert_eq!(catalog.current(0).map(|active| active.number), Some(1));
    assert_eq!(catalog.refusals(0), [], "infrastructure is nobody's fault");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_decided_by_one_version_each_while_it_is_swapped() {
    let Setting { catalog, .. } = catalog("swap", "swap", "{}");
    let (first, second) = (guest("guest_swap_v1"), guest("guest_swap_v2"));
    catalog
        .offer(offer(first.clone(), false))
        .await
        .expect("it is good");
    let stop = Arc::new(AtomicBool::new(false));
    let deciding = tokio::task::spawn_blocking({
        let (catalog, stop) = (catalog.clone(), stop.clone());
        move || {
            let mut batches = [0_u32; 2];
            while !stop.load(Ordering::Relaxed) || batches.contains(&0) {
                let rule = decide_one_batch(&catalog);
                batches[usize::from(rule == 2)] += 1;
            }
            batches
        }
    });
    for _ in 0..5 {
        for bytes in [second.clone(), first.clone()] {
            catalog.offer(offer(bytes, true)).await.expect("it is good");
        }
    }
    stop.store(true, Ordering::Relaxed);
    catalog
        .offer(offer(second, true))
        .await
        .expect("it is good");
    let batches = deciding.await.expect("no batch fails");
    assert!(!batches.contains(&0), "{batches:?}");
}

/// Decides a batch by whatever is current and answers which rule it was; all of it must be the same.
fn decide_one_batch(catalog: &Catalog) -> u64 {
    let active = catalog.current(0).expect("something is active");
    let bodies: Vec<_> = (0..20)
        .map(|number| json!({"id": format!("t{number}")}))
        .collect();
    let causes = causes("swap", &active.descriptor, &bodies);
    let answer = active
        .decide(&works(&causes), &TopicPartition::new("swap", 0), false)
        .expect("it answers");
    let mut rules = answer.iter().flatten().map(|decision| match decision {
        Decision::Apply(it) => {
            let data: serde_json::Value = serde_json::from_str(&it.data).expect("the data is JSON");
            data["rule"].as_u64().expect("it says which rule")
        }
        other => panic!("it does not apply: {other:?}"),
    });
    let rule = rules.next().expect("it answers");
    assert_eq!(active.version.version, format!("{rule}.0.0"));
    assert!(rules.all(|other| other == rule));
    rule
}

#[tokio::test]
async fn an_offer_that_was_chosen_by_an_activation_replaces_that_one_only() {
    let Setting { catalog, .. } = catalog("swap", "swap", "{}");
    let (first, second) = (guest("guest_swap_v1"), guest("guest_swap_v2"));
    let on = |bytes: &Arc<[u8]>, seen| Offer {
        seen: Some(seen),
        ..offer(bytes.clone(), true)
    };
    let lost = catalog.offer(on(&first, 3)).await;
    assert!(matches!(lost, Ok(Offered::Lost(None))), "{lost:?}");
    let done = catalog.offer(on(&first, 0)).await;
    assert!(matches!(done, Ok(Offered::Activated(it)) if it.number == 1));
    let done = catalog.offer(on(&second, 1)).await;
    assert!(matches!(done, Ok(Offered::Activated(it)) if it.number == 2));
    // Two people go back at the same time, both from 2: the second finds its wish fulfilled, and doesn't undo it.
    let back = catalog.offer(on(&first, 2)).await;
    assert!(matches!(back, Ok(Offered::Activated(it)) if it.number == 3));
    let again = catalog.offer(on(&first, 2)).await;
    assert!(matches!(again, Ok(Offered::Unchanged(it)) if it.number == 3));
    // Somebody who chose by 2 something else loses.
    let lost = catalog.offer(on(&second, 2)).await;
    assert!(matches!(lost, Ok(Offered::Lost(Some(it))) if it.number == 3));
    assert_eq!(catalog.current(0).map(|active| active.number), Some(3));
}
