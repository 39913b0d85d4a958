//! Finds contradictions in the Kafka section before a socket is opened.
//!
//! librdkafka refuses most of them too, but one at a time, in its own words, and only when a client is created.

use super::{Acks, Delivery, GroupProtocol, Kafka, message_timeout};
use crate::config::input::Input;
use crate::config::value::millis;

impl Kafka {
    /// Adds contradictions to `input`.
    pub(in crate::config) fn check(&self, input: &mut Input) {
        self.check_brokers(input);
        self.check_tls(input);
        self.check_sasl(input);
        self.check_group(input);
        self.check_delivery(input);
        self.check_timeouts(input);
    }

    fn check_brokers(&self, input: &mut Input) {
        for broker in self.brokers.iter().filter(|broker| !is_broker(broker)) {
            input.add_contradiction(
                &["kafka.brokers"],
                format!("kafka.brokers names {broker:?}, which is not a broker address"),
                "write each as host:port, such as localhost:9092",
            );
        }
    }

    fn check_tls(&self, input: &mut Input) {
        const FILES: [&str; 4] = [
            "kafka.ssl_ca",
            "kafka.ssl_cert",
            "kafka.ssl_key",
            "kafka.ssl_key_password",
        ];
        if !self.ssl_enabled {
            input.warn_without_effect(&FILES, "kafka.ssl_enabled is false");
            input.warn_without_effect(
                &["kafka.ssl_reject_unauthorized"],
                "kafka.ssl_enabled is false",
            );
            return;
        }
        if !self.ssl_reject_unauthorized {
            input.warn(
                "kafka.ssl_reject_unauthorized is false: brokers' certificates are not checked, so anybody can pose as a broker",
            );
        }
        match (&self.ssl_cert, &self.ssl_key) {
            (Some(_), None) => input.add_contradiction(
                &["kafka.ssl_cert"],
                "kafka.ssl_cert is set without kafka.ssl_key",
                "set KAFKA_SSL_KEY to the certificate's private key",
            ),
            (None, Some(_)) => input.add_contradiction(
                &["kafka.ssl_key"],
                "kafka.ssl_key is set without kafka.ssl_cert",
                "set KAFKA_SSL_CERT to the key's certificate",
            ),
            _ => {}
        }
        if self.ssl_key.is_none() {
            input.warn_without_effect(&["kafka.ssl_key_password"], "kafka.ssl_key is not set");
        }
        for (key, path) in FILES
            .into_iter()
            .zip([&self.ssl_ca, &self.ssl_cert, &self.ssl_key])
        {
            if let Some(path) = path {
                input.readable(key, path);
            }
        }
    }

    fn check_sasl(&self, input: &mut Input) {
        if !self.sasl_enabled {
            let keys = [
                "kafka.sasl_username",
                "kafka.sasl_password",
                "kafka.sasl_mechanism",
            ];
            input.warn_without_effect(&keys, "kafka.sasl_enabled is false");
            return;
        }
        if self.sasl_username.is_none() {
            input.add_contradiction(
                &["kafka.sasl_enabled"],
                "kafka.sasl_enabled is true without a user name",
                "set KAFKA_SASL_USERNAME",
            );
        }
        if self.sasl_password.is_none() {
            input.add_contradiction(
                &["kafka.sasl_enabled"],
                "kafka.sasl_enabled is true without a password",
                "set KAFKA_SASL_PASSWORD",
            );
        }
        if !self.ssl_enabled && self.sasl_mechanism == super::SaslMechanism::Plain {
            input.warn(
                "kafka.sasl_mechanism is plain and kafka.ssl_enabled is false: the password is sent unencrypted over the network",
            );
        }
    }

    fn check_group(&self, input: &mut Input) {
        if self.group_protocol == GroupProtocol::Consumer {
            let keys = ["kafka.session_timeout", "kafka.heartbeat_interval"];
            input.warn_without_effect(
                &keys,
                "kafka.group_protocol is consumer, where the broker decides it",
            );
            return;
        }
        let (session, heartbeat) = (self.session_timeout, self.heartbeat_interval);
        if heartbeat > session / 3 {
            input.add_contradiction(
                &["kafka.heartbeat_interval", "kafka.session_timeout"],
                format!(
                    "kafka.heartbeat_interval is {} ms, more than a third of kafka.session_timeout, {} ms",
                    millis(heartbeat),
                    millis(session)
                ),
                format!("set KAFKA_HEARTBEAT_INTERVAL to at most {}", millis(session / 3)),
            );
        }
        if self.max_poll_interval < session {
            input.add_contradiction(
                &["kafka.max_poll_interval", "kafka.session_timeout"],
                format!(
                    "kafka.max_poll_interval is {} ms, less than kafka.session_timeout, {} ms",
                    millis(self.max_poll_interval),
                    millis(session)
                ),
                format!(
                    "set KAFKA_MAX_POLL_INTERVAL to at least {}",
                    millis(session)
                ),
            );
        }
    }

    fn check_delivery(&self, input: &mut Input) {
        if self.delivery == Delivery::ExactlyOnce {
            if !self.idempotent {
                input.add_contradiction(
                    &["kafka.idempotent", "kafka.delivery"],
                    "kafka.idempotent is false while kafka.delivery is exactly-once",
                    "set KAFKA_IDEMPOTENT=true, or TASKHOST_DELIVERY=at-least-once",
                );
            }
            if self.acks == Acks::Leader {
                input.add_contradiction(
                    &["kafka.acks", "kafka.delivery"],
                    "kafka.acks is 1 while kafka.delivery is exactly-once",
                    "set KAFKA_ACKS=all, or TASKHOST_DELIVERY=at-least-once and KAFKA_IDEMPOTENT=false",
                );
            }
        } else if self.idempotent && self.acks == Acks::Leader {
            input.add_contradiction(
                &["kafka.acks", "kafka.idempotent"],
                "kafka.acks is 1 while kafka.idempotent is true",
                "set KAFKA_ACKS=all, or KAFKA_IDEMPOTENT=false",
            );
        }
        if self.idempotent && self.max_in_flight > 5 {
            input.add_contradiction(
                &["kafka.max_in_flight", "kafka.idempotent"],
                format!(
                    "kafka.max_in_flight is {}, and idempotence keeps order up to 5 only",
                    self.max_in_flight
                ),
                "set KAFKA_MAX_IN_FLIGHT to 1 to 5",
            );
        }
    }

    fn check_timeouts(&self, input: &mut Input) {
        let (request, transaction) = (
            millis(self.request_timeout),
            millis(self.transaction_timeout),
        );
        if self.delivery == Delivery::ExactlyOnce && request > transaction + 100 {
            input.add_contradiction(
                &["kafka.request_timeout", "kafka.transaction_timeout"],
                format!(
                    "kafka.request_timeout is {request} ms, more than kafka.transaction_timeout, {transaction} ms, and 100"
                ),
                format!(
                    "set KAFKA_REQUEST_TIMEOUT to at most {}, or KAFKA_TRANSACTION_TIMEOUT to at least {}",
                    transaction + 100,
                    request.saturating_sub(100)
                ),
            );
        }
        let message = millis(message_timeout(self));
        if millis(self.linger) >= message {
            input.add_contradiction(
                &["kafka.linger", "kafka.transaction_timeout"],
                format!(
                    "kafka.linger is {} ms, and a message has {message} ms, a third of kafka.transaction_timeout",
                    millis(self.linger)
                ),
                format!("set KAFKA_LINGER below {message}"),
            );
        }
        if self.fetch_queue_bytes_max < self.max_bytes_per_partition {
            input.add_contradiction(
                &["kafka.fetch_queue_bytes_max", "kafka.max_bytes_per_partition"],
                format!(
                    "kafka.fetch_queue_bytes_max is {}, less than kafka.max_bytes_per_partition, {}",
                    self.fetch_queue_bytes_max, self.max_bytes_per_partition
                ),
                format!("set KAFKA_FETCH_QUEUE_BYTES_MAX to at least {}", self.max_bytes_per_partition),
            );
        }
    }
}

/// Whether the text is `host:port`, or a host alone, or either in brackets for IPv6.
fn is_broker(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => match port.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let named =
        !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/@,".contains(c));
    named && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::is_broker;

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        for good in [
            "localhost:9092",
            "kafka",
            "10.0.0.1:9093",
            "[::1]:9092",
            "a-b.example.com:1",
        ] {
            assert!(is_broker(good), "{good}");
        }
        for bad in [
            "",
            ":9092",
            "kafka:",
            "kafka:port",
            "kafka:0",
            "kafka:99999",
            "kafka://a:1",
            "a b:1",
            "[::1]x",
        ] {
            assert!(!is_broker(bad), "{bad}");
        }
    }
}
