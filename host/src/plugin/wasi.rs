//! WASI without any access. It is linked so that ordinary programs load, and gives them this:
//!
//! | asked for | given |
//! |---|---|
//! | wall clock, monotonic clock | a clock that stands still at 0 |
//! | a timer | one that never fires, unless it is due at once |
//! | random numbers | the same ones in every instance |
//! | environment, arguments, files | none |
//! | sockets, names | refused without a call of the operating system |
//! | stdin | its end |
//! | stdout, stderr | log lines |

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use tokio::io::AsyncWrite;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{
    DynPollable, IoError, Network, OutputStream, Pollable, SocketError, SocketResult, StreamResult,
    TcpSocket, UdpSocket, subscribe,
};
use wasmtime_wasi::{Deterministic, HostMonotonicClock, HostWallClock, WasiCtx};

use super::lines::{Lines, Origin};
use super::state::State;

/// The most bytes of random numbers in one call. A larger request is an attempt to make the host allocate.
const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// The most bytes in one write to a stream: the usual limit of WASI hosts.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// The random numbers of every instance: the digits of the square root of 2.
const SEED: &[u8] = &[
    0x6a, 0x09, 0xe6, 0x67, 0xf3, 0xbc, 0xc9, 0x08, 0xb2, 0xfb, 0x13, 0x66, 0xea, 0x95, 0x7d, 0x3e,
    0x3a, 0xde, 0xc1, 0x75, 0x12, 0x77, 0x50, 0x99, 0xda, 0x2f, 0x59, 0x0b, 0x06, 0x67, 0x32, 0x2a,
];

/// The same randomness as a number, for calls that ask for a seed.
const SEED_NUMBER: u128 = 0x6a09_e667_f3bc_c908_b2fb_1366_ea95_7d3e;

/// The context of one instance.
pub(super) fn context(lines: &Lines) -> WasiCtx {
    WasiCtx::builder()
        .stdout(Stream {
            origin: Origin::Stdout,
            lines: lines.clone(),
        })
        .stderr(Stream {
            origin: Origin::Stderr,
            lines: lines.clone(),
        })
        .wall_clock(Still)
        .monotonic_clock(Still)
        .secure_random(Deterministic::new(SEED.to_vec()))
        .insecure_random(Deterministic::new(SEED.to_vec()))
        .insecure_random_seed(SEED_NUMBER)
        .max_random_size(RANDOM_BYTES_MAX)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

/// Links WASI 0.2, without the parts that reach the operating system's timers and sockets.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<State, Nothing>(linker, nothing)?;
    tcp_create_socket::add_to_linker::<State, Nothing>(linker, nothing)?;
    udp_create_socket::add_to_linker::<State, Nothing>(linker, nothing)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn nothing(state: &mut State) -> Granted<'_> {
    Granted {
        table: state.table(),
    }
}

/// Names [`Granted`] for the linker.
struct Nothing;

impl HasData for Nothing {
    type Data<'a> = Granted<'a>;
}

/// What the shadowed interfaces work with.
struct Granted<'a> {
    table: &'a mut ResourceTable,
}

impl monotonic_clock::Host for Granted<'_> {
    fn now(&mut self) -> wasmtime::Result<monotonic_clock::Instant> {
        Ok(0)
    }

    fn resolution(&mut self) -> wasmtime::Result<monotonic_clock::Duration> {
        Ok(1)
    }

    fn subscribe_instant(
        &mut self,
        when: monotonic_clock::Instant,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        self.subscribe_duration(when)
    }

    fn subscribe_duration(
        &mut self,
        wait: monotonic_clock::Duration,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        let timer = self.table.push(Timer { due: wait == 0 })?;
        subscribe(self.table, timer)
    }
}

impl network::Host for Granted<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(&mut self, _: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(None)
    }
}

impl network::HostNetwork for Granted<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

impl tcp_create_socket::Host for Granted<'_> {
    fn create_tcp_socket(&mut self, _: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        Err(ErrorCode::AccessDenied.into())
    }
}

impl udp_create_socket::Host for Granted<'_> {
    async fn create_udp_socket(&mut self, _: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        Err(ErrorCode::AccessDenied.into())
    }
}

/// A timer on a clock that stands still.
struct Timer {
    due: bool,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {
        if !self.due {
            pending::<()>().await;
        }
    }
}

/// The clock that stands still.
struct Still;

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        0
    }
}

/// Standard output or standard error.
#[derive(Clone)]
struct Stream {
    origin: Origin,
    lines: Lines,
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // WASI 0.2 never asks for this form.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl Pollable for Stream {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async {})
    }
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.lines.write(self.origin, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}
