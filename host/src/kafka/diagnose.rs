//! Finds out why Kafka can't be reached: the cause, the broker's text and the next step. For
//! `taskhost test-kafka`, and for a host that waits.

use std::time::{Duration, Instant};

use rdkafka::client::Client;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaType;

use super::Settings;
use super::admin::{Broker, Topic};
pub use super::cause::Cause;
use super::context::{Collecting, Report};
use super::ffi::events::{self, Content};
use super::ffi::native::Queue;
use super::ffi::verify;

/// The timeout of one question. librdkafka's reports are read between questions.
const STEP: Duration = Duration::from_millis(100);

/// Why the cluster is out of reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {}", cause.next_step())]
pub struct Diagnosis {
    /// The kind of trouble.
    pub cause: Cause,
    /// librdkafka's or the broker's own words.
    pub reason: String,
}

/// Asks the cluster for its metadata. Blocks for up to `patience`, and less where every broker that was named has given
/// a reason that asking again can't change.
///
/// # Errors
/// The diagnosis.
pub fn diagnose(
    settings: &Settings,
    patience: Duration,
) -> std::result::Result<(Vec<Broker>, Vec<Topic>), Diagnosis> {
    let client = client(settings).map_err(|error| Diagnosis {
        cause: Cause::Configuration,
        reason: super::Error::kafka("starting a client", &error).to_string(),
    })?;
    let brokers = brokers(settings);
    let deadline = Instant::now() + patience;
    let mut reports = Vec::new();
    loop {
        let error = match client.fetch_metadata(None, STEP.min(patience)) {
            Ok(metadata) => return Ok(read(&metadata)),
            Err(error) => error,
        };
        reports.extend(reported(&client));
        let settled = brokers
            .iter()
            .all(|broker| reports.iter().any(|report| settles(broker, report)));
        if settled || Instant::now() >= deadline {
            reports.push((error.rdkafka_error_code(), error.to_string()));
            return Err(judge(&reports));
        }
    }
}

/// A client that only asks, and explains what is wrong with a certificate.
fn client(settings: &Settings) -> Result<Client<Collecting>, KafkaError> {
    let mut config = settings.for_client();
    // A closed connection matters here: a TLS port gives a plaintext client no other sign.
    config.set("log.connection.close", "true");
    let native = config.create_native_config()?;
    verify::explain(&native);
    events::report_errors(&native);
    let kind = RDKafkaType::RD_KAFKA_CONSUMER;
    Client::new(&config, native, kind, Collecting)
}

/// The client's reports since the last call.
fn reported(client: &Client<Collecting>) -> Vec<Report> {
    let mut reports = Vec::new();
    Queue::drain_main(client, |content| match content {
        Content::Error(report) => reports.push((Some(report.code), report.reason)),
        Content::Log { level, text, .. } => {
            tracing::debug!(target: "librdkafka", "{text}");
            // Syslog's numbers (RFC 5424, 6.2.1): up to informational, where a lost connection is.
            if level <= 6 {
                reports.push((None, text));
            }
        }
        _ => {}
    });
    reports
}

/// The brokers that were named, as librdkafka names them.
fn brokers(settings: &Settings) -> Vec<String> {
    let list = settings
        .client
        .iter()
        .find(|(name, _)| name == "bootstrap.servers");
    let list = list.map_or("", |(_, list)| list.as_str());
    list.split(',')
        .map(|broker| format!("{}/bootstrap", broker.trim()))
        .collect()
}

/// Whether that broker has given a permanent reason.
fn settles(broker: &str, (code, text): &Report) -> bool {
    text.contains(broker) && Cause::of(*code, text).is_settled()
}

fn read(metadata: &rdkafka::metadata::Metadata) -> (Vec<Broker>, Vec<Topic>) {
    let brokers = metadata.brokers().iter().map(|broker| Broker {
        id: broker.id(),
        address: format!("{}:{}", broker.host(), broker.port()),
    });
    let topics = metadata.topics().iter().map(|topic| Topic {
        name: topic.name().to_owned(),
        partitions: topic.partitions().len(),
    });
    (brokers.collect(), topics.collect())
}

/// The most specific report decides.
fn judge(reports: &[Report]) -> Diagnosis {
    let judged = reports
        .iter()
        .map(|(code, text)| (Cause::of(*code, text), text));
    let (cause, reason) = judged.min_by_key(|(cause, _)| *cause).map_or(
        (Cause::NoAnswer, "no answer in time".to_owned()),
        |(cause, text)| (cause, plain(text)),
    );
    Diagnosis { cause, reason }
}

/// librdkafka's log lines begin with the name of its thread: `[thrd:…]: `.
fn plain(text: &str) -> String {
    let text = text
        .strip_prefix("[thrd:")
        .and_then(|rest| rest.split_once("]: "))
        .map_or(text, |(_, rest)| rest);
    text.replace(" verification callback failed: ", " is refused: ")
}

#[cfg(test)]
mod tests {
    use rdkafka::error::RDKafkaErrorCode;

    use super::*;

    fn judged(reports: &[(Option<RDKafkaErrorCode>, &str)]) -> Cause {
        judge(
            &reports
                .iter()
                .map(|(code, text)| (*code, (*text).to_owned()))
                .collect::<Vec<_>>(),
        )
        .cause
    }

    #[test]
    fn the_most_telling_report_decides() {
        let refused = (
            Some(RDKafkaErrorCode::BrokerTransportFailure),
            "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused",
        );
        let down = (
            Some(RDKafkaErrorCode::AllBrokersDown),
            "1/1 brokers are down",
        );
        let password = (
            Some(RDKafkaErrorCode::Authentication),
            "SASL authentication error: invalid credentials",
        );
        assert_eq!(judged(&[down, refused]), Cause::Refused);
        assert_eq!(judged(&[down, refused, password]), Cause::Authentication);
        assert_eq!(judged(&[down]), Cause::NoAnswer);
        assert_eq!(judged(&[]), Cause::NoAnswer);
    }

    #[test]
    fn a_certificate_is_told_before_the_handshake_that_it_ends() {
        let handshake = (
            Some(RDKafkaErrorCode::SSL),
            "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could \
             not be verified, verify that ssl.ca.location is correctly configured",
        );
        let expired = "Certificate (subject=/CN=a, issuer=/CN=b) verification callback failed: it has expired";
        assert_eq!(judged(&[handshake]), Cause::Tls);
        assert_eq!(
            judged(&[handshake, (None, expired)]),
            Cause::CertificateExpired
        );
    }

    #[test]
    fn a_broker_that_may_come_back_is_asked_until_the_end() {
        let report = |text: &str| (None, text.to_owned());
        let refused =
            report("a:1/bootstrap: Connect to ipv4#10.0.0.1:1 failed: Connection refused");
        let password =
            report("sasl_ssl://a:1/bootstrap: SASL authentication error: invalid credentials");
        assert!(!settles("a:1/bootstrap", &refused));
        assert!(settles("a:1/bootstrap", &password));
        assert!(!settles("b:1/bootstrap", &password));
    }

    #[test]
    fn a_reason_names_the_broker_and_no_thread() {
        let line = "[thrd:ssl://[::1]:1/bootstrap]: ssl://[::1]:1/bootstrap: Connection refused";
        let reason = judge(&[(None, line.to_owned())]).reason;
        assert_eq!(reason, "ssl://[::1]:1/bootstrap: Connection refused");
    }
}
