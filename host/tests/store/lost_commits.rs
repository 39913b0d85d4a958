//! A COMMIT whose answer is lost, either way, and dead connections.

use std::net::SocketAddr;
use std::time::Duration;

use taskhost::store::{Commit, Disposition, Seen, Store};
use uuid::Uuid;

use crate::one_call;
use crate::proxy::{self, Cut};
use crate::support::*;

fn server_of(url: &str) -> SocketAddr {
    let after = url.rsplit_once('@').map_or(url, |(_, after)| after);
    let host = after.split_once('/').unwrap().0;
    let address = host.replace("localhost", "127.0.0.1");
    address
        .parse()
        .expect("TEST_DATABASE_URL has an address and a port")
}

async fn lose_an_answer(cut: Cut) {
    let database = Database::migrated().await;
    let direct = database.store();
    let epoch = started(&direct, &key(0)).await;
    // The decider is stored by a commit of its own, which isn't the one that is lost.
    let mut batch = direct.begin(&key(0), epoch).await.unwrap();
    batch.write(&creates(&["a"]), NOW).await.unwrap();
    batch.rollback().await;
    let server = server_of(&database.url);
    let address = proxy::start(server, cut).await;
    let url = database
        .url
        .replace(&server.to_string(), &address.to_string());
    let url = url.replace(
        &format!("localhost:{}", server.port()),
        &address.to_string(),
    );
    let store = Store::connect(&settings(&url)).unwrap();
    let set = creates(&["a"]);
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    batch.write(&set, NOW).await.unwrap();
    let (token, expected) = (Uuid::new_v4(), frame(&batch, 1, &set));
    let Commit::Unknown { frame, error } = batch
        .commit(0, expected.clone(), token, None)
        .await
        .unwrap()
    else {
        panic!("the answer was not lost");
    };
    assert_eq!(frame, expected);
    assert_eq!(error.disposition(), Disposition::Trouble, "{error:?}");
    let committed = direct.settle(&key(0), token).await.unwrap();
    assert_eq!(committed, cut == Cut::After);
    assert!(!direct.settle(&key(0), Uuid::new_v4()).await.unwrap());
    let frames = direct.frames(&key(0), 1, 1).await.unwrap();
    assert_eq!(frames.len(), usize::from(committed));
    let task = direct.show_task(&id("a")).await.unwrap();
    assert_eq!(task.is_some(), committed);
}

#[tokio::test]
async fn a_commit_that_arrived_is_known_by_its_token() {
    lose_an_answer(Cut::After).await;
}

#[tokio::test]
async fn a_commit_that_never_arrived_left_nothing() {
    lose_an_answer(Cut::Before).await;
}

async fn lose_the_answer(cut: Cut) {
    let database = Database::migrated().await;
    let direct = database.store();
    let epoch = started(&direct, &key(1)).await;
    let left = one_call::left(&direct, &key(1), epoch).await;
    let set = creates(&["x"]);
    let commitment = one_call::commitment((epoch, left), &set, Seen::default());
    let token = commitment.token;
    // The call is what carries the token.
    let url = proxy::before(&database.url, cut, token.as_bytes()).await;
    let store = Store::connect(&settings(&url)).unwrap();
    let ended = store.commit(&key(1), commitment).await;
    let Ok(Commit::Unknown { error, .. }) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(error.disposition(), Disposition::Trouble, "{error:?}");
    let committed = direct.settle(&key(1), token).await.unwrap();
    assert_eq!(committed, cut == Cut::After);
    let task = direct.show_task(&id("x")).await.unwrap();
    assert_eq!(task.is_some(), committed);
}

#[tokio::test]
async fn a_call_whose_answer_is_lost_is_known_by_its_token() {
    lose_the_answer(Cut::After).await;
}

#[tokio::test]
async fn a_call_that_never_arrived_left_nothing() {
    lose_the_answer(Cut::Before).await;
}

#[tokio::test]
async fn a_batch_whose_connection_is_cut_is_trouble_and_the_pool_recovers() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let mut batch = store.begin(&key(0), epoch).await.unwrap();
    let mut connection = database.connection().await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'taskhost-test'";
    sqlx::query(kill).execute(&mut connection).await.unwrap();
    let error = batch.write(&creates(&["a"]), NOW).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Trouble, "{error:?}");
    let frame = frame(&batch, 1, &creates(&[]));
    let refused = batch.commit(0, frame, Uuid::new_v4(), None).await;
    assert!(refused.is_err(), "after an error only a rollback is left");
    // Every other pooled connection is dead too: each costs one failure at most.
    let mut failures = 0;
    while store.ping().await.is_err() {
        failures += 1;
        assert!(failures <= 8, "the pool does not recover");
    }
    run(&store, &key(0), epoch, &creates(&["a"])).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_trouble_and_its_url_stays_secret() {
    let mut settings = settings("postgres://me:s3cret@127.0.0.1:9/nowhere");
    settings.acquire_timeout = Duration::from_millis(300);
    let store = Store::connect(&settings).unwrap();
    let error = store.ping().await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Trouble);
    let error = anyhow::Error::new(error);
    for text in [
        format!("{error:#}"),
        format!("{error:?}"),
        format!("{settings:?}"),
    ] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

/// The host that stands still with a batch open is a zombie in the making: its locks must not outlive Postgres' patience.
#[tokio::test]
async fn a_frozen_batch_is_ended_by_postgres_and_the_partition_can_be_claimed() {
    let database = Database::migrated().await;
    let mut patient = settings(&database.url);
    patient.lock_timeout = Duration::from_secs(20);
    patient.statement_timeout = Duration::from_secs(20);
    let store = Store::connect(&patient).unwrap();
    let epoch = started(&store, &key(0)).await;
    let mut frozen = store.begin(&key(0), epoch).await.unwrap();
    frozen.write(&creates(&["a"]), NOW).await.unwrap();
    let claim = store.claim(&key(0), &own("host-b")).await.unwrap();
    assert_eq!(claim.progress.batch, 0);
    let frame = frame(&frozen, 1, &creates(&[]));
    let dead = frozen.commit(0, frame, Uuid::new_v4(), None).await;
    let error = dead.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Trouble, "{error:?}");
    assert_eq!(store.show_task(&id("a")).await.unwrap(), None);
}

/// By its number alone a batch could be anybody's: the next owner's has the same.
#[tokio::test]
async fn a_stranded_worker_does_not_take_anothers_batch_for_its_own() {
    let database = Database::migrated().await;
    let store = database.store();
    let epoch = started(&store, &key(0)).await;
    let mut stranded = store.begin(&key(0), epoch).await.unwrap();
    stranded.write(&creates(&["a"]), NOW).await.unwrap();
    let (number, token) = (stranded.number(), Uuid::new_v4());
    // The COMMIT is lost on its way, and Postgres undoes the batch.
    stranded.rollback().await;
    let claim = store.claim(&key(0), &own("host-b")).await.unwrap();
    run(&store, &key(0), claim.epoch, &creates(&["b"])).await;
    let progress = store.claim(&key(0), &own("host-b")).await.unwrap().progress;
    assert_eq!(progress.batch, number);
    assert!(!store.settle(&key(0), token).await.unwrap());
    assert_eq!(store.show_task(&id("a")).await.unwrap(), None);
}
