//! Secured Kafka: every way of encrypting and logging in, what is said when one is wrong, and the rights a host needs.
//!
//! One broker has a listener for each case. Its plaintext listener is the tests' own: who comes there may do anything.

mod certificates;
mod connections;
mod rights;

use taskhost::dev::Listener;
use taskhost_tests::{HostBuilder, Services, World};

use certificates::Certificates;

/// The user of all SASL mechanisms, as in the documentation.
const USER: &str = "taskhost";
/// Its password.
const PASSWORD: &str = "s3cret";

const LISTENERS: [Listener; 8] = [
    listener("TLS", "SSL"),
    listener("MUTUAL", "SSL"),
    listener("EXPIRED", "SSL"),
    listener("ELSEWHERE", "SSL"),
    listener("SASL", "SASL_PLAINTEXT"),
    listener("SASLTLS", "SASL_SSL"),
    listener("SCRAM512", "SASL_PLAINTEXT"),
    listener("SASLMUTUAL", "SASL_SSL"),
];

const fn listener(name: &'static str, protocol: &'static str) -> Listener {
    Listener { name, protocol }
}

/// A broker with all listeners, a Postgres, and the certificates of both sides.
struct Secured {
    services: Services,
    certificates: Certificates,
}

impl Secured {
    fn start() -> Self {
        let certificates = Certificates::make();
        let settings = settings(&certificates);
        let settings: Vec<(&str, &str)> = settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let services = Services::with_listeners(&LISTENERS, &settings, &[]);
        Self {
            services,
            certificates,
        }
    }

    fn world(&self) -> World {
        World::on(&self.services, 2)
    }

    /// A listener's address; `PLAINTEXT` is the tests' own.
    fn address(&self, listener: &str) -> String {
        if listener == "PLAINTEXT" {
            return self.services.bootstrap();
        }
        let address = self.services.broker.listener(listener);
        address.unwrap_or_else(|| panic!("no listener {listener}"))
    }

    /// A host that comes to a listener, with these settings.
    fn host(&self, world: &World, listener: &str, environment: &[(&str, &str)]) -> HostBuilder {
        let host = world
            .host()
            .env("KAFKA_BROKERS", self.address(listener))
            .env("KAFKA_CONNECTION_TIMEOUT", "2000");
        environment.iter().fold(host, |host, (name, value)| {
            // A certificate is meant by the name of its file.
            let file = matches!(*name, "KAFKA_SSL_CA" | "KAFKA_SSL_CERT" | "KAFKA_SSL_KEY");
            match file {
                true => host.env(name, self.certificates.path(value).display().to_string()),
                false => host.env(name, *value),
            }
        })
    }
}

/// The broker's settings for its listeners.
fn settings(certificates: &Certificates) -> Vec<(String, String)> {
    let path = |file: &str| certificates.path(file).display().to_string();
    let mut settings = vec![
        ("super.users".to_owned(), "User:ANONYMOUS".to_owned()),
        (
            "authorizer.class.name".to_owned(),
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
        ),
    ];
    let mut set = |listener: &str, name: &str, value: String| {
        let listener = listener.to_ascii_lowercase();
        settings.push((format!("listener.name.{listener}.{name}"), value));
    };
    for (listener, certificate) in [
        ("TLS", "broker.pem"),
        ("MUTUAL", "broker.pem"),
        ("EXPIRED", "expired.pem"),
        ("ELSEWHERE", "elsewhere.pem"),
        ("SASLTLS", "broker.pem"),
        ("SASLMUTUAL", "broker.pem"),
    ] {
        set(listener, "ssl.keystore.type", "PEM".to_owned());
        set(listener, "ssl.keystore.location", path(certificate));
    }
    for listener in ["MUTUAL", "SASLMUTUAL"] {
        set(listener, "ssl.client.auth", "required".to_owned());
        set(listener, "ssl.truststore.type", "PEM".to_owned());
        set(listener, "ssl.truststore.location", path("authority.crt"));
    }
    let module = "org.apache.kafka.common.security";
    for (listener, mechanisms) in [
        (
            "SASL",
            ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].as_slice(),
        ),
        ("SASLTLS", &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
        ("SASLMUTUAL", &["PLAIN"]),
        ("SCRAM512", &["SCRAM-SHA-512"]),
    ] {
        set(listener, "sasl.enabled.mechanisms", mechanisms.join(","));
        for mechanism in mechanisms {
            let login = match *mechanism {
                "PLAIN" => {
                    format!("{module}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";")
                }
                _ => format!("{module}.scram.ScramLoginModule required;"),
            };
            let name = format!("{}.sasl.jaas.config", mechanism.to_ascii_lowercase());
            set(listener, &name, login);
        }
    }
    settings
}
