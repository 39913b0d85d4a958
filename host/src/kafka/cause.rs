//! The causes why a client can't reach the cluster: librdkafka's code and text for each, and the next step.

use rdkafka::error::RDKafkaErrorCode;

use super::ffi::verify;

/// Why a client can't reach the cluster. The most specific cause comes first: a refused password also causes a lost
/// connection, never the other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// A setting is wrong.
    Configuration,
    /// The broker doesn't offer the mechanism.
    Mechanism,
    /// The port takes no login.
    LoginUnwanted,
    /// The broker doesn't accept the user or the password.
    Authentication,
    /// No authority known here signed the broker's certificate.
    CertificateUntrusted,
    /// The broker's certificate is not valid at this time.
    CertificateExpired,
    /// The broker's certificate is for another host.
    CertificateHost,
    /// The broker wants a certificate of the client, or doesn't accept the one it got.
    ClientCertificate,
    /// The port doesn't speak TLS.
    TlsUnwanted,
    /// The port speaks TLS only.
    TlsWanted,
    /// The port wants a login.
    LoginWanted,
    /// The TLS handshake failed otherwise.
    Tls,
    /// The host's name can't be resolved.
    UnknownHost,
    /// Nobody listens at that address and port.
    Refused,
    /// A connection, but no answer in time; or no connection at all.
    NoAnswer,
}

impl Cause {
    /// Its name for scripts, with hyphens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Mechanism => "mechanism",
            Self::LoginUnwanted => "login-unwanted",
            Self::Authentication => "authentication",
            Self::CertificateUntrusted => "certificate-untrusted",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateHost => "certificate-host",
            Self::ClientCertificate => "client-certificate",
            Self::TlsUnwanted => "tls-unwanted",
            Self::TlsWanted => "tls-wanted",
            Self::LoginWanted => "login-wanted",
            Self::Tls => "tls",
            Self::UnknownHost => "unknown-host",
            Self::Refused => "refused",
            Self::NoAnswer => "no-answer",
        }
    }

    /// What to do about it.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::Configuration => "correct the setting that is named",
            Self::Mechanism => {
                "set KAFKA_SASL_MECHANISM to one that the broker offers on this port"
            }
            Self::LoginUnwanted => {
                "this port takes no login: set KAFKA_BROKERS to the broker's SASL port, or \
                 KAFKA_SASL_ENABLED=false"
            }
            Self::Authentication => {
                "check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, and that the user exists for \
                 this KAFKA_SASL_MECHANISM"
            }
            Self::CertificateUntrusted => {
                "set KAFKA_SSL_CA to the file with the certificate of the authority that signed the \
                 broker's certificate"
            }
            Self::CertificateExpired => {
                "renew the broker's certificate; if it is valid, check the clock of this machine"
            }
            Self::CertificateHost => {
                "use a name that the certificate has, in KAFKA_BROKERS and in the broker's \
                 advertised.listeners, or give the broker a certificate with this name"
            }
            Self::ClientCertificate => {
                "set KAFKA_SSL_CERT and KAFKA_SSL_KEY to a client certificate that is valid and signed \
                 by an authority of the broker's trust store"
            }
            Self::TlsUnwanted => {
                "this port doesn't speak TLS: set KAFKA_BROKERS to the broker's TLS port, or \
                 KAFKA_SSL_ENABLED=false"
            }
            Self::TlsWanted => {
                "this port seems to want TLS: set KAFKA_SSL_ENABLED=true, or KAFKA_BROKERS to another port"
            }
            Self::LoginWanted => {
                "this port seems to want a login: set KAFKA_SASL_ENABLED=true, KAFKA_SASL_MECHANISM, \
                 KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, or KAFKA_BROKERS to another port"
            }
            Self::Tls => {
                "check KAFKA_SSL_ENABLED, and which TLS versions and ciphers the broker accepts on this port"
            }
            Self::UnknownHost => {
                "check the host name in KAFKA_BROKERS and that it resolves here; \
                 a broker may also advertise a name that only its own network knows (advertised.listeners)"
            }
            Self::Refused => {
                "check host and port in KAFKA_BROKERS, and that the broker runs and listens there"
            }
            Self::NoAnswer => {
                "check that no firewall drops the connection, and whether the port wants TLS \
                 (KAFKA_SSL_ENABLED) or SASL (KAFKA_SASL_ENABLED)"
            }
        }
    }

    /// Whether another try can't help: somebody has to change a setting, here or at the broker.
    pub(super) fn is_settled(self) -> bool {
        self < Self::UnknownHost
    }

    /// The cause in a report of librdkafka.
    pub(super) fn of(code: Option<RDKafkaErrorCode>, text: &str) -> Self {
        let lower = text.to_ascii_lowercase();
        let says = |words: &str| lower.contains(words);
        match code {
            Some(RDKafkaErrorCode::Resolve) => return Self::UnknownHost,
            Some(RDKafkaErrorCode::SaslAuthenticationFailed) => return Self::Authentication,
            _ => {}
        }
        let known = [
            (verify::EXPIRED, Self::CertificateExpired),
            (verify::NOT_YET_VALID, Self::CertificateExpired),
            (verify::OTHER_HOST, Self::CertificateHost),
            (verify::UNTRUSTED, Self::CertificateUntrusted),
            ("unsupported sasl mechanism", Self::Mechanism),
            // Brokers answer this on a listener without SASL.
            ("not valid in current sasl state", Self::LoginUnwanted),
            (
                "connecting to a plaintext broker listener",
                Self::TlsUnwanted,
            ),
            // The error of a TLS client on a plaintext answer.
            ("wrong version number", Self::TlsUnwanted),
            ("connecting to a ssl listener", Self::TlsWanted),
            ("broker might require sasl", Self::LoginWanted),
            // An alert is the broker's answer about our certificate.
            ("alert bad certificate", Self::ClientCertificate),
            ("alert certificate", Self::ClientCertificate),
            ("alert unknown ca", Self::ClientCertificate),
            ("alert handshake failure", Self::ClientCertificate),
            (
                "client ssl authentication might be required",
                Self::ClientCertificate,
            ),
            ("ssl handshake failed", Self::Tls),
            ("failed to resolve", Self::UnknownHost),
            ("connection refused", Self::Refused),
        ];
        if let Some((_, cause)) = known.iter().find(|(words, _)| says(words)) {
            return *cause;
        }
        match code {
            Some(RDKafkaErrorCode::Authentication) => Self::Authentication,
            Some(RDKafkaErrorCode::SSL) => Self::Tls,
            // A TLS port closes the connection on a first request that isn't TLS. A SASL port closes it on the first request
            // after the versions are known. Neither says why.
            _ if says("disconnected") && says("in state apiversion_query") && !says("ssl://") => {
                Self::TlsWanted
            }
            _ if says("disconnected") && says("in state up") => Self::LoginWanted,
            _ if says("sasl") && says("authentication") => Self::Authentication,
            _ => Self::NoAnswer,
        }
    }
}
