//! Offsets in a transaction that nobody ends: Kafka's requests by hand, as no client sends them without more.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use taskhost_core::record::TopicPartition;
use taskhost_core::watermark::Watermark;

use crate::fixture::*;

/// A connection to the broker, for requests with the header of version 1 (KIP-482's, without tags).
struct Raw(TcpStream);

impl Raw {
    fn connect() -> Self {
        let brokers = std::env::var("TEST_KAFKA_BROKERS").unwrap();
        Self(TcpStream::connect(brokers).unwrap())
    }

    /// Asks, and returns what follows the header of the answer.
    fn ask(&mut self, key: i16, version: i16, body: &[u8]) -> Vec<u8> {
        let mut request = [key.to_be_bytes(), version.to_be_bytes()].concat();
        request.extend(7_i32.to_be_bytes());
        request.extend(text("a test"));
        request.extend(body);
        let size = i32::try_from(request.len()).unwrap();
        self.0.write_all(&size.to_be_bytes()).unwrap();
        self.0.write_all(&request).unwrap();
        let mut size = [0; 4];
        self.0.read_exact(&mut size).unwrap();
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
        self.0.read_exact(&mut answer).unwrap();
        answer.split_off(4)
    }

    /// `InitProducerId`, version 0: producer id and epoch.
    fn take(&mut self, id: &str) -> (i64, i16) {
        let body = [text(id), 60_000_i32.to_be_bytes().to_vec()].concat();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(22, 0, &body);
            let error = i16::from_be_bytes(answer[4..6].try_into().unwrap());
            if error == 0 {
                let producer = i64::from_be_bytes(answer[6..14].try_into().unwrap());
                return (
                    producer,
                    i16::from_be_bytes(answer[14..16].try_into().unwrap()),
                );
            }
            // The coordinator is not there yet.
            assert!(Instant::now() < deadline, "error {error}");
        }
    }

    /// `AddOffsetsToTxn` and `TxnOffsetCommit`, version 0, without being a member of the group.
    fn commit(
        &mut self,
        id: &str,
        (producer, epoch): (i64, i16),
        group: &str,
        partition: &TopicPartition,
        offset: i64,
    ) {
        let open = [
            text(id),
            producer.to_be_bytes().to_vec(),
            epoch.to_be_bytes().to_vec(),
            text(group),
        ];
        assert_eq!(
            self.ask(25, 0, &open.concat()).last_chunk::<2>(),
            Some(&[0, 0])
        );
        let one = 1_i32.to_be_bytes();
        let body = [
            text(id),
            text(group),
            producer.to_be_bytes().to_vec(),
            epoch.to_be_bytes().to_vec(),
            one.to_vec(),
            text(&partition.topic),
            one.to_vec(),
            partition.partition.to_be_bytes().to_vec(),
            offset.to_be_bytes().to_vec(),
            text("taskhost/1 77"),
        ];
        let answer = self.ask(28, 0, &body.concat());
        assert_eq!(answer.last_chunk::<2>(), Some(&[0, 0]), "{answer:?}");
    }
}

/// A text as the protocol's older versions have it.
fn text(text: &str) -> Vec<u8> {
    let size = i16::try_from(text.len()).unwrap();
    [&size.to_be_bytes(), text.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_nobody_ends_end_with_the_next_commit_and_take_no_effect() {
    let (input, output, former) = (topic("in", 1).await, topic("out", 1).await, unique("dead"));
    let host = Host::of_all(settings(&unique("g")), &input, 1).await;
    let partition = TopicPartition::new(input, 0);
    host.begin(&partition, None);
    let publish = async |batch: i64| {
        let frame = frame(batch, batch + 5, vec![record(&output, format!("{batch}"))]);
        host.publish(&partition, frame).await.unwrap();
    };
    publish(0).await;
    let (id, late) = (former.clone(), partition.clone());
    let group = host.settings.group.clone();
    blocking(move || {
        let mut raw = Raw::connect();
        let producer = raw.take(&id);
        raw.commit(&id, producer, &group, &late, 1000);
    })
    .await;
    let read = async || {
        let (consumer, partition) = (host.consumer.clone(), partition.clone());
        blocking(move || consumer.committed(&partition, Duration::from_millis(500))).await
    };
    assert!(read().await.is_err(), "nobody is told the watermark");

    let publisher = &host.publisher;
    publisher.recommit_by_all(&partition, host.tag(&partition), mark(0, 5), vec![former]);
    let swept = soon("an answer", async {
        loop {
            if let Ok(committed) = read().await {
                break committed;
            }
        }
    });
    let before = Watermark::Ours(mark(0, 5));
    assert_eq!(swept.await, before);
    publish(1).await;
    let after = Watermark::Ours(mark(1, 6));
    assert_eq!(host.committed(&partition).await, after);
}
