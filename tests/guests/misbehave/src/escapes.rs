//! Attempts to reach something, to keep something, and to take more than is given.

use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use taskhost_sdk::bindings::taskhost::plugin::logging::{Level, log};

/// More lines than a batch may log.
const LINES: u32 = 100_000;
/// What memory grows by: one mebibyte.
const STEP_BYTES: usize = 1 << 20;
/// How much work passes between two looks at the clock.
const ROUNDS: u32 = 1_000_000;

#[inline(never)]
pub(crate) fn spin() -> ! {
    loop {
        black_box(0);
    }
}

pub(crate) fn sleep() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(60 * 60));
    }
}

#[inline(never)]
pub(crate) fn allocate() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1_u8; STEP_BYTES]));
    }
}

/// Calls itself without end. It keeps nothing in memory, so that the call stack is what runs out.
pub(crate) fn recurse() -> u64 {
    deeper(0, black_box(u64::MAX))
}

#[inline(never)]
fn deeper(depth: u64, end: u64) -> u64 {
    if depth == end {
        0
    } else {
        deeper(depth + 1, end).rotate_left(7) ^ depth
    }
}

/// Takes one handle after another and gives none back: each is a row of the host's table.
#[inline(never)]
pub(crate) fn grow_table() -> ! {
    loop {
        handle();
    }
}

#[cfg(target_family = "wasm")]
#[expect(
    unsafe_code,
    reason = "the standard library hands out no handle that could be kept"
)]
fn handle() {
    #[link(wasm_import_module = "wasi:clocks/monotonic-clock@0.2.0")]
    unsafe extern "C" {
        #[link_name = "subscribe-duration"]
        fn subscribe_duration(nanoseconds: u64) -> i32;
    }
    // SAFETY: the import takes a number and returns one.
    black_box(unsafe { subscribe_duration(1) });
}

#[cfg(not(target_family = "wasm"))]
fn handle() {
    panic!("only a host has handles");
}

/// Wall clock and monotonic clock, before and after some work.
pub(crate) fn clock() -> Value {
    let wall = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map(|since| since.as_nanos().to_string())
    };
    let (wall_before, started) = (wall().ok(), Instant::now());
    for round in 0..ROUNDS {
        black_box(round);
    }
    let passed = started.elapsed().as_nanos().to_string();
    json!({"wallBefore": wall_before, "wallAfter": wall().ok(), "passedNanos": passed})
}

/// What hashing with the process' random keys gives.
pub(crate) fn random() -> Value {
    RandomState::new().hash_one(0).to_string().into()
}

pub(crate) fn environment() -> Value {
    std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into(),
            )
        })
        .collect::<serde_json::Map<String, Value>>()
        .into()
}

pub(crate) fn arguments() -> Value {
    std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect()
}

/// Every file and directory that could be read; the good answer is an empty list.
pub(crate) fn read_file() -> Value {
    let file = |path: &&str| std::fs::read(path).is_ok() || std::fs::read_dir(path).is_ok();
    let mut paths = vec![
        "/etc/passwd",
        "/proc/self/environ",
        "/",
        ".",
        "..",
        "Cargo.toml",
        "/dev/random",
    ];
    paths.retain(file);
    paths.into()
}

/// Every file that could be written; the good answer is an empty list.
pub(crate) fn write_file() -> Value {
    let mut paths = vec!["/tmp/guest-misbehave", "guest-misbehave"];
    paths.retain(|path| std::fs::write(path, b"I was here").is_ok());
    paths.into()
}

/// Every address that could be reached or listened on, or the name that was found; the good answer is an
/// empty list.
pub(crate) fn socket() -> Value {
    let mut reached = Vec::new();
    for address in ["127.0.0.1:9092", "127.0.0.1:5432", "127.0.0.1:3000"] {
        // Refused is not denied: somebody would have had to ask the network.
        match TcpStream::connect(address) {
            Ok(_) => reached.push(format!("connected to {address}")),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                reached.push(format!("asked {address}"));
            }
            Err(_) => {}
        }
    }
    if std::net::TcpListener::bind("127.0.0.1:0").is_ok() {
        reached.push("listens".to_owned());
    }
    if std::net::UdpSocket::bind("127.0.0.1:0").is_ok() {
        reached.push("receives".to_owned());
    }
    if std::net::ToSocketAddrs::to_socket_addrs("localhost:80").is_ok() {
        reached.push("found a name".to_owned());
    }
    reached.into()
}

/// How often this instance was asked.
pub(crate) fn state() -> Value {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    (ASKED.fetch_add(1, Ordering::Relaxed) + 1).into()
}

pub(crate) fn log_flood(cause: u32) {
    for line in 0..LINES {
        log(Level::Info, Some(cause), &format!("flood {line}"));
    }
}

pub(crate) fn print_flood() {
    for line in 0..LINES / 2 {
        println!("flood {line} on stdout");
        eprintln!("flood {line} on stderr");
    }
}
