//! Questions to the cluster.

use std::time::Duration;

use taskhost::kafka::{Admin, Cause, Disposition, Sender, Settings, diagnose, read_committed};

use crate::fixture::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_anew_has_another_id() {
    let admin = Admin::new(&settings("none"), PATIENCE).unwrap();
    let (name, other) = (unique("t"), topic("other", 1).await);
    assert!(admin.create(&name, 3).await.unwrap());
    assert!(!admin.create(&name, 3).await.unwrap(), "it exists");
    let described = admin.describe(&[&name, &other, "not-there"]).await.unwrap();
    assert_eq!(described.len(), 2);
    assert_eq!(
        (described[&name].partitions, described[&other].partitions),
        (3, 1)
    );
    assert_ne!(described[&name].id, described[&other].id);
    assert_eq!(
        described[&name].id.get_version_num(),
        4,
        "{}",
        described[&name].id
    );
    let (brokers, topics) = admin.cluster().await.unwrap();
    assert!(
        !brokers.is_empty()
            && topics
                .iter()
                .any(|topic| topic.name == name && topic.partitions == 3)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topics_limit_is_known() {
    let small = topic_with("small", 1, &[("max.message.bytes", "1234")]).await;
    let other = topic("other", 1).await;
    let admin = Admin::new(&settings("none"), PATIENCE).unwrap();
    let limits = admin.limits(&[&small, &other]).await.unwrap();
    assert_eq!(limits[&small], 1234);
    assert!(limits[&other] > 1_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_tells_its_state_and_members() {
    for protocol in ["classic", "consumer"] {
        let input = topic("in", 2).await;
        let settings = settings_with(&unique("g"), protocol);
        let admin = Admin::new(&settings, PATIENCE).unwrap();
        let host = Host::of_all(settings.clone(), &input, 2).await;
        let group = soon("the group is stable", async {
            loop {
                let group = admin.group(&settings.group).await.unwrap();
                if group.state == "Stable" {
                    return group;
                }
            }
        })
        .await;
        assert_eq!(group.members.len(), 1);
        assert_eq!(group.members[0].client_id, "taskhost-test");
        assert_eq!(group.members[0].partitions.len(), 2);
        assert!(host.consumer.is_member());
        assert!(host.consumer.close(PATIENCE).await);
        assert!(!host.consumer.is_member());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_beyond_the_topics_limit_is_refused_by_the_broker() {
    let small = topic_with("small", 1, &[("max.message.bytes", "1000")]).await;
    let name = small.clone();
    let error = blocking(move || {
        let bytes: Vec<u8> = (0..5000).map(|_| rand::random()).collect();
        Sender::new(&settings("none"))
            .unwrap()
            .send(&[record(&name, bytes)], PATIENCE)
            .unwrap_err()
    })
    .await;
    assert!(error.to_string().contains(&small), "{error}");
    let error =
        blocking(|| read_committed(&settings("none"), "not-there", PATIENCE).unwrap_err()).await;
    assert_eq!(error.disposition(), Disposition::UnknownTopic, "{error}");
}

#[test]
fn what_keeps_a_client_away_is_told_apart() {
    let at = |brokers: &str, extra: &[(&str, &str)]| Settings {
        client: [("bootstrap.servers", brokers)]
            .iter()
            .chain(extra)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..Settings::default()
    };
    let cause = |settings: &Settings| {
        let diagnosis = diagnose(settings, Duration::from_secs(5)).unwrap_err();
        println!("{diagnosis}");
        diagnosis.cause
    };
    let real = settings("none").client[0].1.clone();
    assert!(diagnose(&at(&real, &[]), PATIENCE).is_ok());
    assert_eq!(cause(&at("127.0.0.1:1", &[])), Cause::Refused);
    assert_eq!(
        cause(&at("no-such-host.invalid:9092", &[])),
        Cause::UnknownHost
    );
    assert_eq!(
        cause(&at(&real, &[("security.protocol", "ssl")])),
        Cause::TlsUnwanted
    );
    assert_eq!(
        cause(&at(&real, &[("no.such.property", "secret")])),
        Cause::Configuration
    );
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(
        cause(&at(&silent.local_addr().unwrap().to_string(), &[])),
        Cause::NoAnswer
    );
    let sasl = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "u"),
        ("sasl.password", "p"),
    ];
    assert_eq!(cause(&at(&real, &sasl)), Cause::LoginUnwanted);
}
