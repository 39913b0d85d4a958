//! Ports on loopback, and the question whether a Kafka broker answers on one.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Finds `N` different ports that are free now. Somebody else may take one before it is used: who asks must be
/// ready to ask again.
pub(super) fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        // All are held until the last one is known, or two could be the same.
        listeners.push(listener);
    }
    Ok(ports)
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
