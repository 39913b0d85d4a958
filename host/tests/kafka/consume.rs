//! What a consumer is fed.
#![expect(
    unsafe_code,
    reason = "the crate can't send a header name that is not UTF-8"
)]

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka_sys::{self as sys, RDKafkaErrorCode};
use taskhost::log::Fed;
use taskhost_core::record::{Record, TopicPartition};

use crate::fixture::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_end_lies_behind_the_commit_markers() {
    let (input, output) = (topic("in", 1).await, topic("out", 1).await);
    let host = Host::of_all(settings(&unique("g")), &input, 1).await;
    let partition = TopicPartition::new(input, 0);
    host.begin(&partition, None);
    host.publish(&partition, frame(0, 0, vec![])).await.unwrap();
    host.publish(&partition, frame(1, 1, vec![record(&output, "a")]))
        .await
        .unwrap();
    host.publish(&partition, frame(2, 2, vec![record(&output, "b")]))
        .await
        .unwrap();

    let mut reader = Host::of_all(settings(&unique("g")), &output, 1).await;
    let output = TopicPartition::new(output, 0);
    reader.add(&output, 0);
    assert_eq!(reader.read_to_end(&output).await, (vec![0, 2], 4));
    let consumer = reader.consumer.clone();
    let asked = output.clone();
    let (bounds, ends) = blocking(move || {
        (
            consumer.log_bounds(&asked, PATIENCE).unwrap(),
            consumer.stable_ends(&[asked], PATIENCE).unwrap(),
        )
    })
    .await;
    assert_eq!(bounds, (0, 4));
    assert_eq!(ends[&output], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_outside_the_log_is_told() {
    let input = topic("in", 1).await;
    let mut host = Host::of_all(settings(&unique("g")), &input, 1).await;
    let partition = TopicPartition::new(input, 0);
    host.add(&partition, 1000);
    let fed = host.next(&partition).await;
    assert!(
        matches!(
            fed,
            Fed::OutOfRange {
                offset: Some(1000),
                ..
            }
        ),
        "{fed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_can_be_removed_and_read_again_from_elsewhere() {
    let input = topic("in", 1).await;
    send((0..100).map(|n| record(&input, format!("{n}"))).collect()).await;
    let mut host = Host::of_all(settings(&unique("g")), &input, 1).await;
    let partition = TopicPartition::new(input, 0);
    host.add(&partition, 50);
    assert_eq!(
        host.read_to_end(&partition).await.0,
        (50..100).collect::<Vec<_>>()
    );
    for start in [10, 90, 0] {
        assert!(
            host.consumer
                .remove(&partition, host.tag(&partition))
                .await
                .unwrap()
        );
        host.add(&partition, start);
        assert_eq!(
            host.read_to_end(&partition).await,
            ((start..100).collect(), 100)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_worker_gets_everything_in_order() {
    const MESSAGES: i64 = 60_000;
    let input = topic("in", 1).await;
    send(
        (0..MESSAGES)
            .map(|_| record(&input, vec![b'x'; 100]))
            .collect(),
    )
    .await;
    let mut host = Host::of_all(settings(&unique("g")), &input, 1).await;
    let partition = TopicPartition::new(input, 0);
    host.add(&partition, 0);
    // The feed fills up and pauses before anything is taken from it.
    soon("the feed fills", async {
        while !format!("{:?}", host.held[&partition].feed).contains("paused: true") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let started = std::time::Instant::now();
    assert_eq!(
        host.read_to_end(&partition).await,
        ((0..MESSAGES).collect(), MESSAGES)
    );
    println!(
        "{MESSAGES} messages through a feed that pauses: {:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_a_record_survives() {
    let input = topic("in", 1).await;
    let sent = Record {
        topic: input.clone(),
        key: Some(vec![]),
        value: None,
        headers: vec![
            ("null".into(), None),
            ("empty".into(), Some(vec![])),
            ("nul".into(), Some(b"a\0b\xff".to_vec())),
            ("null".into(), Some(b"again".to_vec())),
        ],
        timestamp: Some(1_700_000_000_123),
    };
    send(vec![
        sent.clone(),
        Record {
            key: None,
            value: Some(vec![0, 0xff]),
            ..sent.clone()
        },
    ])
    .await;
    let read = read(&input).await;
    assert_eq!(read[0].headers, sent.headers);
    assert_eq!(
        (&read[0].key, &read[0].value, read[0].timestamp),
        (&Some(vec![]), &None, 1_700_000_000_123)
    );
    assert_eq!(
        (&read[1].key, &read[1].value),
        (&None, &Some(vec![0, 0xff]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_name_that_is_not_utf8_harms_nobody() {
    let input = topic("in", 1).await;
    let config = settings("none").client;
    let name = std::ffi::CString::new(input.as_str()).unwrap();
    blocking(move || {
        let mut client = ClientConfig::new();
        config.iter().for_each(|(name, value)| {
            client.set(name, value);
        });
        let producer: BaseProducer = client.create().unwrap();
        // SAFETY: the producer and all texts are alive; librdkafka copies them.
        let code = unsafe {
            sys::rd_kafka_producev(
                producer.client().native_ptr(),
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TOPIC,
                name.as_ptr(),
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADER,
                c"na\xffme".as_ptr(),
                c"value".as_ptr(),
                5_isize,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
            )
        };
        assert_eq!(RDKafkaErrorCode::from(code), RDKafkaErrorCode::NoError);
        producer.flush(Duration::from_secs(10)).unwrap();
    })
    .await;
    let mut host = Host::of_all(settings(&unique("g")), &input, 1).await;
    let partition = TopicPartition::new(input, 0);
    host.add(&partition, 0);
    let Fed::Message(message) = host.next(&partition).await else {
        panic!("no message")
    };
    assert_eq!(
        message.headers,
        [("na\u{fffd}me".to_owned(), Some(b"value".to_vec()))]
    );
}
