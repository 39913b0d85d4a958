//! Ports on loopback, and a check whether a Kafka broker answers on one.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::error::{self, Result};

/// Starts a service on the given port, or on a free one. If somebody else takes the free port first, tries another one.
pub(super) fn on_port<T>(asked: Option<u16>, start: impl Fn(u16) -> Result<T>) -> Result<(u16, T)> {
    /// Each loss is a coincidence already.
    const TRIES: usize = 5;
    let mut tries = 1;
    loop {
        let port = asked.map_or_else(free_port, Ok)?;
        match start(port) {
            Err(error) if error.is_port_taken() && asked.is_none() && tries < TRIES => tries += 1,
            started => return Ok((port, started?)),
        }
    }
}

/// A port on loopback that is free at this moment.
pub(super) fn free_port() -> Result<u16> {
    let port = listen().and_then(|listener| port(&listener));
    port.map_err(error::io("listen on", Path::new("127.0.0.1:0")))
}

/// Different ports on loopback that are free at this moment.
pub(super) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let held: io::Result<Vec<TcpListener>> = (0..count).map(|_| listen()).collect();
    let ports = held.and_then(|held| held.iter().map(port).collect());
    ports.map_err(error::io("listen on", Path::new("127.0.0.1:0")))
}

fn listen() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}

fn port(listener: &TcpListener) -> io::Result<u16> {
    Ok(listener.local_addr()?.port())
}

/// Whether the broker on this port answers a metadata request and names itself in the answer: a broker does so
/// once the controller has let it in, and from then on serves clients.
pub(super) fn broker_answers(port: u16) -> bool {
    number_of_brokers(port).is_ok_and(|brokers| brokers > 0)
}

/// Asks for the cluster's metadata without topics (`Metadata`, version 1, of Kafka's wire protocol).
fn number_of_brokers(port: u16) -> io::Result<i32> {
    const REQUEST: [u8; 22] = [
        0, 0, 0, 18, // what follows, in bytes
        0, 3, 0, 1, // the request (3, metadata) and its version
        0, 0, 0, 7, // correlation id
        0, 4, b'd', b'e', b'v', b' ', // client id
        0, 0, 0, 0, // no topics
    ];
    let patience = Duration::from_secs(2);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(&REQUEST)?;
    // Length, correlation id, number of brokers; the brokers themselves don't matter.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    let [.., a, b, c, d] = answer;
    Ok(i32::from_be_bytes([a, b, c, d]))
}
