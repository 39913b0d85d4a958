//! Why Postgres can't be reached, told apart, with its own words and the next step: for commands, whose reader
//! waits for an answer and not for the database.

use std::io;
use std::time::Duration;

use sqlx::{ConnectOptions, Connection};

use super::pool::Store;

/// What keeps a client from the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The host's name can't be resolved.
    UnknownHost,
    /// Nobody listens at that address and port.
    Refused,
    /// TLS can't be agreed on.
    Tls,
    /// User or password are wrong, or the user may not connect.
    Authentication,
    /// The server has no database of that name.
    NoDatabase,
    /// No answer in time.
    NoAnswer,
    /// The server answers with something else.
    Other,
}

impl Cause {
    /// What to do about it.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::UnknownHost => "check the host name in DATABASE_URL and that it resolves here",
            Self::Refused => {
                "check host and port in DATABASE_URL, and that Postgres runs and listens there"
            }
            Self::Tls => "check sslmode in DATABASE_URL and the server's certificate",
            Self::Authentication => {
                "check user and password in DATABASE_URL, and the server's pg_hba.conf"
            }
            Self::NoDatabase => "create the database, or name another one in DATABASE_URL",
            Self::NoAnswer => {
                "check host and port in DATABASE_URL and that no firewall drops the connection"
            }
            Self::Other => "see Postgres' log",
        }
    }
}

/// Why the database is out of reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {}", cause.next_step())]
pub struct Diagnosis {
    /// The kind of trouble.
    pub cause: Cause,
    /// The server's or the system's own words, without URL and password.
    pub reason: String,
}

impl Store {
    /// Makes a connection of its own, once: the pool would go on trying, and say only that it did.
    ///
    /// # Errors
    /// The diagnosis.
    pub async fn diagnose(&self, patience: Duration) -> Result<(), Diagnosis> {
        match tokio::time::timeout(patience, self.options.connect()).await {
            Ok(Ok(connection)) => {
                // It answered, and that was all that was asked.
                connection.close().await.ok();
                Ok(())
            }
            Ok(Err(error)) => Err(judge(&error)),
            Err(_) => Err(Diagnosis {
                cause: Cause::NoAnswer,
                reason: format!("no answer within {} ms", patience.as_millis()),
            }),
        }
    }
}

fn judge(error: &sqlx::Error) -> Diagnosis {
    let (cause, reason) = match error {
        sqlx::Error::Io(error) => (of_system(error), error.to_string()),
        sqlx::Error::Tls(error) => (Cause::Tls, error.to_string()),
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            (of_sqlstate(&code), error.message().to_owned())
        }
        other => (Cause::Other, other.to_string()),
    };
    Diagnosis { cause, reason }
}

fn of_system(error: &io::Error) -> Cause {
    match error.kind() {
        // A socket's file that isn't there is a server that isn't.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Cause::Refused,
        io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Cause::NoAnswer,
        // The standard library has no kind of its own for it.
        _ if error.to_string().contains("lookup address") => Cause::UnknownHost,
        _ => Cause::Other,
    }
}

/// Class 28 is "invalid authorization specification", 3D000 a database that doesn't exist
/// (<https://www.postgresql.org/docs/15/errcodes-appendix.html>); 42501 is a missing CONNECT right.
fn of_sqlstate(code: &str) -> Cause {
    match code {
        "3D000" => Cause::NoDatabase,
        "42501" => Cause::Authentication,
        _ if code.starts_with("28") => Cause::Authentication,
        _ => Cause::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_and_the_server_say_is_told_apart() {
        let lookup = "failed to lookup address information: Name or service not known";
        for (error, cause) in [
            (io::Error::other(lookup), Cause::UnknownHost),
            (io::ErrorKind::ConnectionRefused.into(), Cause::Refused),
            (io::ErrorKind::TimedOut.into(), Cause::NoAnswer),
            (io::Error::other("strange"), Cause::Other),
        ] {
            assert_eq!(judge(&sqlx::Error::Io(error)).cause, cause);
        }
        for (code, cause) in [
            ("28P01", Cause::Authentication),
            ("28000", Cause::Authentication),
            ("3D000", Cause::NoDatabase),
            ("53300", Cause::Other),
        ] {
            assert_eq!(of_sqlstate(code), cause, "{code}");
        }
    }
}
