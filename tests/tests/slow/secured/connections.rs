//! Each way of encrypting and logging in takes a message all the way through, and each wrong one is told apart.

use serde_json::{Value, json};
use taskhost_tests::{Host, Message, Page, World, soon};

use super::{PASSWORD, Secured, USER};

/// An environment; certificates are meant by the names of their files.
type Settings = Vec<(&'static str, &'static str)>;

fn tls() -> Settings {
    vec![
        ("KAFKA_SSL_ENABLED", "true"),
        ("KAFKA_SSL_CA", "authority.crt"),
    ]
}

fn stranger() -> Settings {
    vec![
        ("KAFKA_SSL_ENABLED", "true"),
        ("KAFKA_SSL_CA", "stranger.crt"),
    ]
}

fn certificate() -> Settings {
    vec![
        ("KAFKA_SSL_CERT", "client.crt"),
        ("KAFKA_SSL_KEY", "client.key"),
    ]
}

fn login(mechanism: &'static str, password: &'static str) -> Settings {
    vec![
        ("KAFKA_SASL_ENABLED", "true"),
        ("KAFKA_SASL_MECHANISM", mechanism),
        ("KAFKA_SASL_USERNAME", USER),
        ("KAFKA_SASL_PASSWORD", password),
    ]
}

fn both(one: Settings, other: Settings) -> Settings {
    [one, other].concat()
}

/// Lets everybody do anything in this world: what is shown here is not about rights.
fn open(world: &World, users: &[&str]) {
    for user in users {
        let granted = world.shell(&format!(
            "kafka-acls.sh --bootstrap-server kafka:9092 --add --allow-principal 'User:{user}' --operation All \
             --topic '*' --group '*' --transactional-id '*' --cluster"
        ));
        let _ = granted.ok();
    }
}

#[test]
fn each_mechanism_takes_a_message_through_to_a_task_and_its_event() {
    let secured = Secured::start();
    let world = secured.world();
    let page = Page::read("kafka-security.md");
    let _ = world.shell(page.block("A SCRAM user is made", "sh")).ok();
    open(&world, &[USER, "CN=client"]);
    let ways = [
        ("tls", "TLS", tls()),
        ("mutual-tls", "MUTUAL", both(tls(), certificate())),
        ("plain", "SASL", login("plain", PASSWORD)),
        (
            "plain-tls",
            "SASLTLS",
            both(tls(), login("PLAIN", PASSWORD)),
        ),
        ("scram-256", "SASL", login("scram-sha-256", PASSWORD)),
        (
            "scram-256-tls",
            "SASLTLS",
            both(tls(), login("SCRAM-SHA-256", PASSWORD)),
        ),
        ("scram-512", "SASL", login("scram-sha-512", PASSWORD)),
        (
            "scram-512-tls",
            "SASLTLS",
            both(tls(), login("scram-sha-512", PASSWORD)),
        ),
        (
            "plain-mutual-tls",
            "SASLMUTUAL",
            both(both(tls(), certificate()), login("plain", PASSWORD)),
        ),
    ];
    for (way, listener, settings) in &ways {
        let host = secured.host(&world, listener, settings).start();
        world.send(
            Message::to("task-status")
                .key(*way)
                .json(&json!({"taskId": way, "status": "new"})),
        );
        world.wait_caught_up();
        assert_eq!(world.task(way).status, "new", "{way}");
        let events = world.read("task-events");
        assert!(
            events.iter().any(|event| event.key_text() == *way),
            "{way} has no event"
        );
        host.stop();
    }
}

/// Each wrong way, the cause that is told, and what the advice names.
fn wrong_ways() -> Vec<(&'static str, Settings, &'static str, &'static str)> {
    let system = tls()[..1].to_vec();
    vec![
        ("TLS", stranger(), "certificate-untrusted", "KAFKA_SSL_CA"),
        ("TLS", system, "certificate-untrusted", "KAFKA_SSL_CA"),
        ("EXPIRED", tls(), "certificate-expired", "renew"),
        (
            "ELSEWHERE",
            tls(),
            "certificate-host",
            "advertised.listeners",
        ),
        ("MUTUAL", tls(), "client-certificate", "KAFKA_SSL_CERT"),
        (
            "SASLMUTUAL",
            both(tls(), login("plain", PASSWORD)),
            "client-certificate",
            "KAFKA_SSL_CERT",
        ),
        (
            "SASL",
            login("plain", "wrong"),
            "authentication",
            "KAFKA_SASL_PASSWORD",
        ),
        (
            "SASL",
            login("scram-sha-256", "wrong"),
            "authentication",
            "KAFKA_SASL_PASSWORD",
        ),
        (
            "SASLTLS",
            both(tls(), login("scram-sha-512", "wrong")),
            "authentication",
            "KAFKA_SASL_PASSWORD",
        ),
        (
            "SCRAM512",
            login("scram-sha-256", PASSWORD),
            "mechanism",
            "KAFKA_SASL_MECHANISM",
        ),
        ("TLS", vec![], "tls-wanted", "KAFKA_SSL_ENABLED=true"),
        (
            "SASLTLS",
            login("plain", PASSWORD),
            "tls-wanted",
            "KAFKA_SSL_ENABLED=true",
        ),
        (
            "PLAINTEXT",
            tls(),
            "tls-unwanted",
            "KAFKA_SSL_ENABLED=false",
        ),
        ("SASL", vec![], "login-wanted", "KAFKA_SASL_ENABLED=true"),
        ("SASLTLS", tls(), "login-wanted", "KAFKA_SASL_ENABLED=true"),
        (
            "PLAINTEXT",
            login("plain", PASSWORD),
            "login-unwanted",
            "KAFKA_SASL_ENABLED=false",
        ),
    ]
}

#[test]
fn each_wrong_setting_is_told_apart_with_what_to_do_about_it() {
    let secured = Secured::start();
    let world = secured.world();
    let page = Page::read("kafka-security.md");
    let _ = world.shell(page.block("A SCRAM user is made", "sh")).ok();
    for (listener, settings, cause, advice) in wrong_ways() {
        let host = secured.host(&world, listener, &settings);
        let said = host.run(&["test-kafka", "--json"]);
        assert_eq!(said.code, Some(1), "{listener} {settings:?}: {said:?}");
        let line: Value = serde_json::from_str(&said.stdout).expect("a line");
        assert_eq!(line["cause"], cause, "{listener} {settings:?}: {line}");
        assert!(
            said.stderr.contains(advice),
            "{listener} {settings:?}: {}",
            said.stderr
        );
        assert!(
            page.text().contains(&format!("`{cause}`")),
            "the page lacks {cause}"
        );
    }
    // A host says the same while it waits, and doesn't end.
    for (listener, settings, _, advice) in wrong_ways().into_iter().filter(|(_, _, cause, _)| {
        matches!(
            *cause,
            "certificate-expired" | "authentication" | "tls-wanted"
        )
    }) {
        let host = secured.host(&world, listener, &settings).spawn();
        waits_with(&host, advice);
        assert!(host.log().contains(advice), "{}", host.log());
        host.stop();
    }
}

#[test]
fn a_host_with_a_wrong_password_goes_on_once_the_broker_takes_it() {
    let secured = Secured::start();
    let world = secured.world();
    open(&world, &[USER]);
    let host = secured
        .host(&world, "SASL", &login("scram-sha-512", PASSWORD))
        .spawn();
    waits_with(&host, "KAFKA_SASL_PASSWORD");
    let page = Page::read("kafka-security.md");
    let _ = world.shell(page.block("A SCRAM user is made", "sh")).ok();
    host.wait_ready();
    host.stop();
}

/// Waits until `/readyz` names Kafka as missing, for a reason with these words.
fn waits_with(host: &Host, words: &str) {
    soon(&format!("/readyz says {words}"), || {
        assert_eq!(host.exit_status(), None, "it ended: {}", host.log());
        let missing = host.get("/readyz").json()["missing"].clone();
        let kafka = missing
            .as_array()?
            .iter()
            .find(|missing| missing["what"] == "kafka")?;
        kafka["reason"].as_str()?.contains(words).then_some(())
    });
}
