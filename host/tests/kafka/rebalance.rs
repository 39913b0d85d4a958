//! Two hosts share the partitions of a topic.

use taskhost::log::{Fed, Unpublished};
use taskhost_core::record::TopicPartition;

use crate::fixture::*;

async fn a_second_host_takes_half(protocol: &str) {
    let input = topic("in", 4).await;
    let group = unique("g");
    let mut first = Host::of_all(settings_with(&group, protocol), &input, 4).await;
    let all: Vec<TopicPartition> = first.held.keys().cloned().collect();
    for partition in &all {
        first.add(partition, 0);
        assert_eq!(first.read_to_end(partition).await, (vec![], 0));
    }
    // Workers that have nothing open give a draining partition back at once.
    for (partition, held) in &first.held {
        let (ownership, partition, tag, draining) = (
            first.ownership.clone(),
            partition.clone(),
            held.tag,
            held.draining.clone(),
        );
        tokio::spawn(async move {
            draining.cancelled().await;
            ownership.released(&partition, tag);
        });
    }
    let tags: Vec<_> = all.iter().map(|partition| first.tag(partition)).collect();

    let mut second = Host::start(settings_with(&group, protocol), &input);
    second.until(|host| host.held.len() == 2).await;
    first.until(|host| host.held.len() == 2).await;

    // What is kept has kept its tag and goes on.
    for (partition, tag) in all.iter().zip(tags) {
        assert_eq!(
            first.ownership.holds(partition, tag),
            first.held.contains_key(partition)
        );
        assert_ne!(
            first.held.contains_key(partition),
            second.held.contains_key(partition)
        );
    }
    let mut records: Vec<_> = (0..200).map(|n| record(&input, format!("{n}"))).collect();
    for (n, record) in records.iter_mut().enumerate() {
        record.key = Some(format!("{n}").into_bytes());
    }
    send(records).await;
    for partition in first.held.keys().cloned().collect::<Vec<_>>() {
        // The end may be told again before there are messages.
        while let Fed::End { offset: 0 } = first.next(&partition).await {}
    }
    // What is lost can be neither read nor published.
    for (partition, tag) in first.lost.clone() {
        assert!(!first.consumer.add(&partition, 0, tag).unwrap());
        assert!(!first.consumer.remove(&partition, tag).await.unwrap());
        first.publisher.begin(&partition, tag, None);
        let answer = first
            .publisher
            .publish(&partition, tag, frame(0, 0, vec![]), TOKEN)
            .await
            .unwrap();
        assert_eq!(answer, Err(Unpublished::NotOwner));
    }
    for partition in second.held.keys().cloned().collect::<Vec<_>>() {
        second.add(&partition, 0);
        let (offsets, end) = second.read_to_end(&partition).await;
        assert_eq!(offsets, (0..end).collect::<Vec<_>>());
        second.begin(&partition, None);
        second
            .publish(&partition, frame(0, 0, vec![]))
            .await
            .unwrap();
    }

    // A host that leaves gives everything back.
    assert!(second.publisher.stop(PATIENCE).await);
    assert!(second.consumer.close(PATIENCE).await);
    assert_eq!(second.ownership.held(), []);
    first.until(|host| host.held.len() == 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_partitions_go_on_while_others_are_taken() {
    a_second_host_takes_half("classic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_partitions_go_on_under_the_newer_protocol() {
    a_second_host_takes_half("consumer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_finish_is_not_waited_for_long() {
    let input = topic("in", 1).await;
    let host = Host::of_all(settings(&unique("g")), &input, 1).await;
    let started = std::time::Instant::now();
    assert!(host.consumer.close(PATIENCE).await);
    let held = &host.held[&TopicPartition::new(input, 0)];
    assert!(held.draining.is_cancelled() && held.feed.is_closed());
    println!("closing with an open worker: {:?}", started.elapsed());
}

/// librdkafka refuses a whole list for one partition that is not in its assignment.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_never_added_is_given_back_with_the_one_that_was() {
    let input = topic("in", 2).await;
    let group = unique("g");
    let mut first = Host::of_all(settings(&group), &input, 2).await;
    let all: Vec<TopicPartition> = first.held.keys().cloned().collect();
    first.add(&all[0], 0);
    assert!(first.consumer.close(PATIENCE).await);
    first.until(|host| host.held.is_empty()).await;
    let second = Host::of_all(settings(&group), &input, 2).await;
    assert_eq!(second.held.len(), 2);
}
