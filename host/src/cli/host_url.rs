//! Where the running host's HTTP API is, for commands that ask it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::{Failure, Global};
use crate::config::URL_VARIABLE;

/// Where a running `taskhost dev` leaves its addresses, as `NAME=value` lines.
const DEV_FILE: &str = ".taskhost/dev.env";

/// The base URL without a slash at its end: `--url`, else `TASKHOST_URL`, else that of a running `taskhost dev`
/// in this directory, else where the configuration lets a host of this machine listen.
///
/// # Errors
/// A wrong configuration, if it comes to that.
pub fn host_url(flag: Option<&str>, global: &Global) -> Result<String, Failure> {
    let named = flag
        .map(str::to_owned)
        .or_else(|| std::env::var(URL_VARIABLE).ok())
        .filter(|url| !url.is_empty());
    let url = match named.or_else(|| from_dev(Path::new(DEV_FILE))) {
        Some(url) => url,
        None => format!("http://{}", reachable(global.load()?.config.http.addr)),
    };
    Ok(url.trim_end_matches('/').to_owned())
}

/// The URL in the file of a running `taskhost dev`.
fn from_dev(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines()
        .filter_map(|line| line.trim_start_matches("export ").split_once('='))
        .find(|(name, _)| name.trim() == URL_VARIABLE)
        .map(|(_, value)| value.trim().trim_matches(['"', '\'']).to_owned())
}

/// An address to connect to, for one to listen on: "all addresses" is none that can be reached.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        ip if ip.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_dev_is_found_by_its_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("dev.env");
        assert_eq!(from_dev(&file), None);
        std::fs::write(
            &file,
            "KAFKA_BROKERS=a:1\nexport TASKHOST_URL=\"http://127.0.0.1:4000/\"\n",
        )
        .expect("a file");
        assert_eq!(from_dev(&file).as_deref(), Some("http://127.0.0.1:4000/"));
    }

    #[test]
    fn a_flag_comes_first_and_loses_its_slash() {
        let url = host_url(Some("http://host:1/"), &Global::default()).expect("a URL");
        assert_eq!(url, "http://host:1");
    }

    #[test]
    fn a_host_that_listens_everywhere_is_reached_on_this_machine() {
        for (listen, connect) in [
            ("0.0.0.0:3000", "127.0.0.1:3000"),
            ("[::]:3000", "[::1]:3000"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ] {
            let listen: SocketAddr = listen.parse().expect("an address");
            assert_eq!(reachable(listen).to_string(), connect);
        }
    }
}
