//! What the publisher makes of frames.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use taskhost::kafka::{Admin, Consumer, Settings, fence};
use taskhost::log::Unpublished;
use taskhost_core::record::{Offset, TopicPartition};
use taskhost_core::watermark::Watermark;

use crate::fixture::*;

async fn the_watermark_comes_back(protocol: &str) {
    let (input, output) = (topic("in", 2).await, topic("out", 3).await);
    let host = Host::of_all(settings_with(&unique("g"), protocol), &input, 2).await;
    let (zero, one) = (
        TopicPartition::new(&*input, 0),
        TopicPartition::new(&*input, 1),
    );
    assert_eq!(host.committed(&zero).await, Watermark::None);
    host.begin(&zero, None);
    host.begin(&one, None);
    host.publish(&zero, frame(0, 7, vec![])).await.unwrap();
    assert_eq!(host.committed(&zero).await, Watermark::Ours(mark(0, 7)));
    assert_eq!(host.committed(&one).await, Watermark::None);
    for batch in 1..=50 {
        let records = (0..10)
            .map(|n| record(&output, format!("{batch}/{n}")))
            .collect();
        host.publish(&zero, frame(batch, 7 + batch, records))
            .await
            .unwrap();
    }
    host.publish(&one, frame(0, 3, vec![])).await.unwrap();
    assert_eq!(host.committed(&zero).await, Watermark::Ours(mark(50, 57)));
    assert_eq!(host.committed(&one).await, Watermark::Ours(mark(0, 3)));

    let values: Vec<_> = read(&output)
        .await
        .into_iter()
        .filter_map(|message| message.value)
        .collect();
    let expected: Vec<_> = (1..=50)
        .flat_map(|batch| (0..10).map(move |n| format!("{batch}/{n}").into_bytes()))
        .collect();
    assert_eq!(values, expected, "one key, so one partition and one order");
    assert_eq!(host.counts.sent.lock().unwrap()[&output], 500);
    let mut times = host.counts.transactions.lock().unwrap().clone();
    times.sort();
    println!(
        "{protocol}: transactions of 10 messages: median {:?}, worst {:?}",
        times[times.len() / 2],
        times.last()
    );
    assert!(host.publisher.stop(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watermark_comes_back_from_the_group() {
    the_watermark_comes_back("classic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watermark_comes_back_under_the_newer_protocol() {
    the_watermark_comes_back("consumer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_wait_go_together_and_stopping_waits_for_them() {
    let (input, output) = (topic("in", 1).await, topic("out", 1).await);
    let host = Host::of_all(settings(&unique("g")), &input, 1).await;
    let partition = TopicPartition::new(input, 0);
    host.begin(&partition, None);
    let answers: Vec<_> = (0..500)
        .map(|batch| {
            let frame = frame(batch, batch, vec![record(&output, format!("{batch}"))]);
            host.publisher
                .publish(&partition, host.tag(&partition), frame, TOKEN)
        })
        .collect();
    assert!(host.publisher.stop(PATIENCE).await);
    for answer in answers {
        assert_eq!(answer.await.unwrap(), Ok(()));
    }
    assert_eq!(host.committed(&partition).await.batch(), Some(499));
    assert_eq!(read(&output).await.len(), 500);
    let transactions = host.counts.transactions.lock().unwrap().len();
    println!("500 frames in {transactions} transactions");
    assert!(transactions < 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_frame_is_refused() {
    let input = topic("in", 1).await;
    let host = Host::of_all(settings(&unique("g")), &input, 1).await;
    let partition = TopicPartition::new(input, 0);
    let refused = |expected, found| Err(Unpublished::Gap { expected, found });
    assert_eq!(
        host.publish(&partition, frame(0, 0, vec![])).await,
        refused(None, 0)
    );
    host.begin(&partition, Some(4));
    assert_eq!(
        host.publish(&partition, frame(6, 0, vec![])).await,
        refused(Some(5), 6)
    );
    assert_eq!(
        host.publish(&partition, frame(4, 0, vec![])).await,
        refused(Some(5), 4)
    );
    assert_eq!(host.publish(&partition, frame(5, 9, vec![])).await, Ok(()));
    assert_eq!(
        host.committed(&partition).await,
        Watermark::Ours(mark(5, 9))
    );
    // An expired watermark is committed again as it was, and the next frame follows it.
    let answer = host
        .publisher
        .recommit(&partition, host.tag(&partition), mark(5, 9))
        .await
        .unwrap();
    assert_eq!(answer, Ok(()));
    assert_eq!(host.publish(&partition, frame(6, 10, vec![])).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_halts_its_own_partition_only() {
    let (input, output) = (topic("in", 3).await, topic("out", 1).await);
    let small = topic_with("small", 1, &[("max.message.bytes", "1000")]).await;
    let host = Host::of_all(settings(&unique("g")), &input, 3).await;
    let partitions: Vec<_> = host.held.keys().cloned().collect();
    partitions
        .iter()
        .for_each(|partition| host.begin(partition, None));
    // All of them in one go, so that they meet in one transaction.
    let answers: Vec<_> = partitions
        .iter()
        .flat_map(|partition| (0..3).map(move |batch| (partition, batch)))
        .map(|(partition, batch)| {
            let poison = partition.partition == 1 && batch == 1;
            let to = if poison {
                record(&small, random_bytes(5000))
            } else {
                record(&output, "fits")
            };
            (
                partition.partition,
                host.publisher.publish(
                    partition,
                    host.tag(partition),
                    frame(batch, batch, vec![to]),
                    TOKEN,
                ),
            )
        })
        .collect();
    for (number, (partition, answer)) in answers.into_iter().enumerate() {
        let answer = soon("an answer", answer).await.unwrap();
        if partition == 1 && number % 3 > 0 {
            assert!(
                matches!(&answer, Err(Unpublished::Poison { batch: 1, topic, .. }) if *topic == small),
                "{answer:?}"
            );
        } else {
            assert_eq!(answer, Ok(()));
        }
    }
    assert_eq!(host.committed(&partitions[1]).await.batch(), Some(0));
    assert_eq!(host.committed(&partitions[2]).await.batch(), Some(2));
    assert_eq!(read(&output).await.len(), 7);
    assert_eq!(read(&small).await.len(), 0);
    // With its message diverted, the partition goes on.
    host.begin(&partitions[1], Some(0));
    assert_eq!(
        host.publish(&partitions[1], frame(1, 1, vec![])).await,
        Ok(())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_output_topic_halts_its_own_partition_only() {
    let (input, output) = (topic("in", 2).await, topic("out", 1).await);
    let missing = unique("not.a.topic.$");
    let host = Host::of_all(settings(&unique("g")), &input, 2).await;
    let (zero, one) = (
        TopicPartition::new(&*input, 0),
        TopicPartition::new(&*input, 1),
    );
    host.begin(&zero, None);
    host.begin(&one, None);
    let started = Instant::now();
    let culprit = host.publisher.publish(
        &zero,
        host.tag(&zero),
        frame(0, 0, vec![record(&missing, "x")]),
        TOKEN,
    );
    assert_eq!(
        host.publish(&one, frame(0, 0, vec![record(&output, "y")]))
            .await,
        Ok(())
    );
    let answer = soon("an answer", culprit).await.unwrap();
    assert!(
        matches!(&answer, Err(Unpublished::Poison { topic, .. }) if *topic == missing),
        "{answer:?}"
    );
    println!(
        "a missing topic held everybody up for {:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_again_is_known_at_once() {
    let (input, output) = (topic("in", 1).await, topic("out", 1).await);
    let mut settings = settings(&unique("g"));
    // Else the producer's question makes it again.
    let auto = ("allow.auto.create.topics".to_owned(), "false".to_owned());
    settings.producer.push(auto);
    let host = Host::of_all(settings, &input, 1).await;
    let partition = TopicPartition::new(input, 0);
    host.begin(&partition, None);
    let message = |batch| frame(batch, batch, vec![record(&output, format!("{batch}"))]);
    host.publish(&partition, message(0)).await.unwrap();
    delete(&output).await;
    let answer = host.publish(&partition, message(1)).await;
    assert!(
        matches!(&answer, Err(Unpublished::Poison { topic, .. }) if *topic == output),
        "{answer:?}"
    );
    // It begins again behind the watermark, as a host does, with the other producer's turn.
    host.begin(&partition, Some(0));
    host.publish(&partition, frame(1, 1, vec![])).await.unwrap();
    let admin = Admin::new(&host.settings, PATIENCE).unwrap();
    assert!(admin.create(&output, 1).await.unwrap());
    // The producer that was told that the topic is gone.
    assert_eq!(host.publish(&partition, message(2)).await, Ok(()));
    assert_eq!(read(&output).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fencing_ends_what_a_dead_producer_left_open() {
    let output = topic("out", 1).await;
    let (dead, settings) = (unique("dead"), settings(&unique("g")));
    let first = left_open(&settings, &dead, &output).await;
    send(vec![record(&output, "later")]).await;
    let host = Host::of_all(settings.clone(), &output, 1).await;
    let partition = TopicPartition::new(&*output, 0);
    assert_eq!(stable_end(&host.consumer, &partition), 0);

    let (id, known) = (dead.clone(), settings.clone());
    let took = blocking(move || {
        let started = Instant::now();
        fence(&known, &id, started, PATIENCE).unwrap();
        let took = started.elapsed();
        // Done since: nobody is asked.
        fence(&known, &id, started, Duration::ZERO).unwrap();
        took
    })
    .await;
    println!("fencing took {took:?}");
    let moved = async |end: i64| {
        soon("the end moves", async {
            while stable_end(&host.consumer, &partition) < end {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    moved(3).await;
    let refused = blocking(move || first.commit_transaction(PATIENCE)).await;
    assert!(refused.is_err());

    // It was alive, took its id again, and died with another one open.
    let second = left_open(&settings, &dead, &output).await;
    assert_eq!(stable_end(&host.consumer, &partition), 3);
    blocking(move || fence(&settings, &dead, Instant::now(), PATIENCE).unwrap()).await;
    moved(5).await;
    let refused = blocking(move || second.commit_transaction(PATIENCE)).await;
    assert!(refused.is_err());
    let values: Vec<_> = read(&output)
        .await
        .into_iter()
        .filter_map(|message| message.value)
        .collect();
    assert_eq!(values, [b"later".to_vec()]);
}

/// A transaction with one message, which nobody ends.
async fn left_open(settings: &Settings, id: &str, topic: &str) -> BaseProducer {
    let mut config = ClientConfig::new();
    for (name, value) in &settings.client {
        config.set(name, value);
    }
    config
        .set("transactional.id", id)
        .set("transaction.timeout.ms", "600000");
    let topic = topic.to_owned();
    blocking(move || {
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        producer
            .send(BaseRecord::<str, str>::to(&topic).payload("left open"))
            .map_err(|(error, _)| error)
            .unwrap();
        producer.flush(PATIENCE).unwrap();
        producer
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_publisher_that_was_fenced_begins_again() {
    let (input, output) = (topic("in", 1).await, topic("out", 1).await);
    let host = Host::of_all(settings(&unique("g")), &input, 1).await;
    let partition = TopicPartition::new(input, 0);
    host.begin(&partition, None);
    host.publish(&partition, frame(0, 0, vec![record(&output, "a")]))
        .await
        .unwrap();
    let (settings, ids) = (
        host.settings.clone(),
        host.publisher.transactional_ids().to_vec(),
    );
    blocking(move || {
        for id in ids {
            fence(&settings, &id, Instant::now(), PATIENCE).unwrap();
        }
    })
    .await;

    let answer = host
        .publish(&partition, frame(1, 1, vec![record(&output, "b")]))
        .await;
    assert!(
        matches!(answer, Err(Unpublished::Uncertain { .. })),
        "{answer:?}"
    );
    let after = host.publish(&partition, frame(2, 2, vec![])).await;
    assert!(
        matches!(after, Err(Unpublished::Uncertain { .. })),
        "{after:?}"
    );
    let watermark = host.committed(&partition).await.batch();
    assert_eq!(watermark, Some(0));
    host.begin(&partition, watermark);
    host.publish(&partition, frame(1, 1, vec![record(&output, "b")]))
        .await
        .unwrap();
    assert_eq!(read(&output).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_left_the_group_publishes_nothing() {
    let (input, output) = (topic("in", 1).await, topic("out", 1).await);
    let host = Host::of_all(settings(&unique("g")), &input, 1).await;
    let partition = TopicPartition::new(input, 0);
    host.begin(&partition, None);
    host.publish(&partition, frame(0, 0, vec![])).await.unwrap();
    assert!(host.consumer.close(PATIENCE).await);
    let answer = host
        .publish(&partition, frame(1, 1, vec![record(&output, "late")]))
        .await;
    assert_eq!(answer, Err(Unpublished::NotOwner));
    assert!(read(&output).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_withdrawn_is_not_published_behind_the_watermark_that_is_read_then() {
    let (input, output) = (topic("in", 1).await, topic("out", 1).await);
    let host = Host::of_all(settings(&unique("g")), &input, 1).await;
    let partition = TopicPartition::new(input, 0);
    let tag = host.tag(&partition);
    let message = |batch: i64| frame(batch, batch, vec![record(&output, format!("{batch}"))]);
    host.begin(&partition, None);
    host.publish(&partition, message(0)).await.unwrap();
    // Some are in a transaction and some wait for the next when they are withdrawn.
    let answers: Vec<_> = (1..=200)
        .map(|batch| {
            host.publisher
                .publish(&partition, tag, message(batch), TOKEN)
        })
        .collect();
    soon("the answer", host.publisher.withdraw(&partition, tag))
        .await
        .unwrap();
    let watermark = host.committed(&partition).await.batch().unwrap();
    let mut published = 0;
    for answer in answers {
        published += i64::from(soon("an answer", answer).await.unwrap().is_ok());
    }
    assert_eq!(published, watermark);
    host.begin(&partition, Some(watermark));
    for batch in watermark + 1..=watermark + 50 {
        host.publish(&partition, message(batch)).await.unwrap();
    }
    let values: Vec<_> = read(&output)
        .await
        .into_iter()
        .filter_map(|message| message.value)
        .collect();
    let expected: Vec<_> = (0..=watermark + 50)
        .map(|batch| format!("{batch}").into_bytes())
        .collect();
    assert_eq!(values, expected);
}

/// What the client takes at all (`message.max.bytes`); the broker's limits are far below.
const CLIENT_BYTES_MAX: usize = 64 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_client_itself_refuses_ends_its_transaction() {
    let (input, output) = (topic("in", 2).await, topic("out", 1).await);
    let host = Host::of_all(settings(&unique("g")), &input, 2).await;
    let partitions: Vec<_> = host.held.keys().cloned().collect();
    let mut answers = Vec::new();
    for (partition, value) in partitions
        .iter()
        .zip([b"fits".to_vec(), vec![0; CLIENT_BYTES_MAX + 1]])
    {
        host.begin(partition, None);
        let frame = frame(0, 0, vec![record(&output, value)]);
        let tag = host.tag(partition);
        answers.push(host.publisher.publish(partition, tag, frame, TOKEN));
    }
    let refused = soon("an answer", answers.remove(1)).await.unwrap();
    assert!(
        matches!(&refused, Err(Unpublished::Poison { batch: 0, .. })),
        "{refused:?}"
    );
    assert_eq!(soon("an answer", answers.remove(0)).await.unwrap(), Ok(()));
    // It was not committed without its message.
    assert_eq!(host.committed(&partitions[1]).await.batch(), None);
    assert_eq!(read(&output).await.len(), 1);
}

fn stable_end(consumer: &Consumer, partition: &TopicPartition) -> Offset {
    tokio::task::block_in_place(|| {
        consumer
            .stable_ends(std::slice::from_ref(partition), PATIENCE)
            .unwrap()[partition]
    })
}

/// Bytes that don't compress.
fn random_bytes(count: usize) -> Vec<u8> {
    (0..count).map(|_| rand::random()).collect()
}
