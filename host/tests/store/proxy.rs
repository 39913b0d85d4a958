//! A TCP proxy before Postgres that loses the answer to a COMMIT.

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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(carry(client, server, cut));
        }
    });
    address
}

async fn carry(mut client: TcpStream, server: SocketAddr, cut: Cut) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let bytes = &up[..read?];
                let commits = bytes.windows(COMMIT.len()).any(|window| window == COMMIT);
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
