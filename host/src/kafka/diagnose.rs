//! Why Kafka can't be reached, told apart, with the broker's words and the next step: for
//! `taskhost test-kafka`.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;

use super::Settings;
use super::admin::{Broker, Topic};
use super::context::Collecting;

/// One question's patience: what librdkafka reports is looked at in between.
const STEP: Duration = Duration::from_millis(250);

/// What keeps a client from the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A setting is wrong.
    Configuration,
    /// The host's name can't be resolved.
    UnknownHost,
    /// Nobody listens at that address and port.
    Refused,
    /// The TLS handshake failed.
    Tls,
    /// The broker doesn't accept the credentials or the mechanism.
    Authentication,
    /// A connection, but no answer in time; or no connection at all.
    NoAnswer,
}

impl Cause {
    /// Its name for scripts, with hyphens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::UnknownHost => "unknown-host",
            Self::Refused => "refused",
            Self::Tls => "tls",
            Self::Authentication => "authentication",
            Self::NoAnswer => "no-answer",
        }
    }

    /// What to do about it.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::Configuration => "correct the setting that is named",
            Self::UnknownHost => {
                "check the host name in KAFKA_BROKERS and that it resolves here; \
                 a broker may also advertise a name that only its own network knows (advertised.listeners)"
            }
            Self::Refused => {
                "check host and port in KAFKA_BROKERS, and that the broker runs and listens there"
            }
            Self::Tls => {
                "check KAFKA_SSL_ENABLED (the port may be a plaintext one), KAFKA_SSL_CA, and that the \
                 certificate is valid for the host's name"
            }
            Self::Authentication => {
                "check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, that the \
                 user exists, and that this port is one for SASL"
            }
            Self::NoAnswer => {
                "check that no firewall drops the connection, and whether the port wants TLS \
                 (KAFKA_SSL_ENABLED) or SASL (KAFKA_SASL_ENABLED)"
            }
        }
    }
}

/// Why the cluster is out of reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {}", cause.next_step())]
pub struct Diagnosis {
    /// The kind of trouble.
    pub cause: Cause,
    /// librdkafka's or the broker's own words.
    pub reason: String,
}

/// Asks the cluster for its metadata. Blocks for up to `patience`.
///
/// # Errors
/// The diagnosis.
pub fn diagnose(
    settings: &Settings,
    patience: Duration,
) -> std::result::Result<(Vec<Broker>, Vec<Topic>), Diagnosis> {
    let context = Collecting::default();
    let client: BaseConsumer<Collecting> = settings
        .for_client()
        .create_with_context(context.clone())
        .map_err(|error| Diagnosis {
            cause: Cause::Configuration,
            reason: super::Error::kafka("starting a client", &error).to_string(),
        })?;
    let deadline = Instant::now() + patience;
    let mut reports = Vec::new();
    loop {
        let error = match client.fetch_metadata(None, STEP.min(patience)) {
            Ok(metadata) => return Ok(read(&metadata)),
            Err(error) => error,
        };
        // Errors are served by polling; a client without a group has nothing else to say.
        while client.poll(Duration::ZERO).is_some() {}
        reports.extend(context.take());
        let clear = reports
            .iter()
            .any(|(code, _)| *code == Some(RDKafkaErrorCode::AllBrokersDown));
        if clear || Instant::now() >= deadline {
            reports.push((error.rdkafka_error_code(), error.to_string()));
            return Err(judge(&reports));
        }
    }
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

/// The most telling report decides: a refused password comes with a lost connection, never the other way.
fn judge(reports: &[(Option<RDKafkaErrorCode>, String)]) -> Diagnosis {
    let judged = reports
        .iter()
        .map(|(code, text)| (cause(*code, text), text));
    let (cause, reason) = judged
        .min_by_key(|(cause, _)| match cause {
            Cause::Configuration => 0,
            Cause::Authentication => 1,
            Cause::Tls => 2,
            Cause::UnknownHost => 3,
            Cause::Refused => 4,
            Cause::NoAnswer => 5,
        })
        .map_or(
            (Cause::NoAnswer, "no answer in time".to_owned()),
            |(cause, text)| (cause, without_thread(text).to_owned()),
        );
    Diagnosis { cause, reason }
}

/// librdkafka's log lines begin with the name of a thread of its own: `[thrd:…]: `.
fn without_thread(text: &str) -> &str {
    text.strip_prefix("[thrd:")
        .and_then(|rest| rest.split_once("]: "))
        .map_or(text, |(_, rest)| rest)
}

fn cause(code: Option<RDKafkaErrorCode>, text: &str) -> Cause {
    let lower = text.to_ascii_lowercase();
    match code {
        Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
            Cause::Authentication
        }
        Some(RDKafkaErrorCode::SSL) => Cause::Tls,
        Some(RDKafkaErrorCode::Resolve) => Cause::UnknownHost,
        _ if lower.contains("sasl") && lower.contains("authentication") => Cause::Authentication,
        _ if lower.contains("ssl handshake failed") => Cause::Tls,
        _ if lower.contains("failed to resolve") => Cause::UnknownHost,
        _ if lower.contains("connection refused") => Cause::Refused,
        _ => Cause::NoAnswer,
    }
}

#[cfg(test)]
mod tests {
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
    fn a_reason_names_the_broker_and_no_thread() {
        let line = "[thrd:ssl://[::1]:1/bootstrap]: ssl://[::1]:1/bootstrap: Connection refused";
        let reason = judge(&[(None, line.to_owned())]).reason;
        assert_eq!(reason, "ssl://[::1]:1/bootstrap: Connection refused");
    }
}
