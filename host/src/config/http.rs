//! The setting of the HTTP API: its address.

use std::net::SocketAddr;

use super::section::section;

section! {
    /// The HTTP API: health, metrics, plugins, console.
    pub struct Http in "http" {
        /// Address and port to listen on. Use 0.0.0.0 in a container; port 0 picks a free one.
        addr: SocketAddr = "127.0.0.1:3000", "HTTP_ADDR" => "the listener of the HTTP API";
    }
}
