//! The address of the running host's HTTP API, and its answers, for commands that ask it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use super::{Failure, Global, found};
use crate::config::URL_VARIABLE;

/// The base URL without a final slash: `--url`, else `TASKHOST_URL`, else `http.addr` if it is set, else the address of
/// a running `taskhost dev`, else the default address of a host.
///
/// # Errors
/// A wrong configuration, if the configuration is needed.
pub fn host_url(flag: Option<&str>, global: &Global) -> Result<String, Failure> {
    let named = flag
        .map(str::to_owned)
        .or_else(|| std::env::var(URL_VARIABLE).ok())
        .filter(|url| !url.is_empty());
    let url = match named {
        Some(url) => url,
        None => configured(global)?,
    };
    Ok(url.trim_end_matches('/').to_owned())
}

/// How long the host may take to answer. It answers from memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The host's JSON answer at this URL.
///
/// # Errors
/// If there is no answer, or it isn't JSON.
pub(super) fn answer(url: &str) -> Result<Value, Failure> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(ANSWER_TIMEOUT))
        .build()
        .into();
    let failed = |error: ureq::Error| {
        Failure::Failed(format!(
            "{url} doesn't answer: {error}; check that the host runs, and --url"
        ))
    };
    let mut answer = agent.get(url).call().map_err(failed)?;
    answer.body_mut().read_json().map_err(failed)
}

fn configured(global: &Global) -> Result<String, Failure> {
    let loaded = global.load_with(&[])?;
    let dev = || found::running_dev().filter(|found| !found.env.taskhost_url.is_empty());
    if !loaded.origins.is_set("http.addr")
        && let Some(found) = dev()
    {
        let file = found::shown(&found.path);
        eprintln!(
            "note: {URL_VARIABLE} from {}, a running `taskhost dev`",
            file.display()
        );
        return Ok(found.env.taskhost_url);
    }
    Ok(format!("http://{}", reachable(loaded.config.http.addr)))
}

/// The address to connect to, for an address to listen on: nobody can connect to "all addresses".
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

    #[test]
    fn a_host_that_is_not_there_is_a_failure_that_names_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let failure = answer(&format!("http://{address}/api/plugins")).expect_err("nobody");
        assert!(
            failure.to_string().contains(&address.to_string()),
            "{failure}"
        );
    }
}
