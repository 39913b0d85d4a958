//! A TCP proxy before Postgres that loses the answer to a COMMIT, or to a call that commits.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// When the line is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The COMMIT never arrives.
    Before,
    /// The COMMIT arrives, its answer doesn't.
    After,
}

/// The wire form of a simple query `COMMIT`: tag, length, text, NUL.
const COMMIT: &[u8] = b"Q\x00\x00\x00\x0bCOMMIT\x00";

/// Starts a proxy and says where it listens. It cuts the line at the first COMMIT of each connection.
pub(crate) async fn start(server: SocketAddr, cut: Cut) -> SocketAddr {
    start_at(server, cut, COMMIT).await
}

/// Starts a proxy before the server of a URL and gives the URL through it. It cuts the line at the first message of each
/// connection that has the marker in it.
pub(crate) async fn before(url: &str, cut: Cut, marker: &[u8]) -> String {
    let (start, database) = url.rsplit_once('/').unwrap();
    let at = start.rfind(['@', '/']).unwrap() + 1;
    let server = start[at..].replace("localhost", "127.0.0.1");
    let address = start_at(server.parse().unwrap(), cut, marker).await;
    format!("{}{address}/{database}", &start[..at])
}

async fn start_at(server: SocketAddr, cut: Cut, marker: &[u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let marker = marker.to_vec();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(carry(client, server, cut, marker.clone()));
        }
    });
    address
}

async fn carry(
    mut client: TcpStream,
    server: SocketAddr,
    cut: Cut,
    marker: Vec<u8>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let bytes = &up[..read?];
                let commits = bytes.windows(marker.len()).any(|window| window == marker);
                if commits && cut == Cut::Before {
                    return Ok(());
                }
                server.write_all(bytes).await?;
                if commits {
                    // Until the server has answered, and nobody hears it.
                    let _unheard = server.read(&mut down).await?;
                    return Ok(());
                }
                if bytes.is_empty() {
                    return Ok(());
                }
            }
            read = server.read(&mut down) => {
                let bytes = &down[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                client.write_all(bytes).await?;
            }
        }
    }
}
