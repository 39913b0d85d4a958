//! A proxy before Postgres that cuts a line at a COMMIT, or loses notifications.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// When the line is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The COMMIT never arrives.
    BeforeCommit,
    /// The COMMIT arrives and is carried out; its answer is lost.
    AfterCommit,
}

/// The wire form of a simple query `COMMIT`: tag, length, text, NUL.
const COMMIT: &[u8] = b"Q\x00\x00\x00\x0bCOMMIT\x00";

/// How a connection begins to hear notifications, in a simple query.
const LISTEN: &[u8] = b"LISTEN ";
/// How often a line that is held up looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A listener that passes everything on, until it is told to cut. It ends with the test's process.
pub struct Proxy {
    url: String,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    next: Option<Cut>,
    cuts: usize,
    /// Whether what the server says on lines that listen gets lost.
    muted: bool,
    /// Whether everything is held up from the next cut on.
    hold: bool,
    /// Whether everything is held up from the next BEGIN on.
    hold_at_begin: bool,
    /// Whether everything is held up.
    held: bool,
}

impl Proxy {
    /// Before the server of that URL, over TCP.
    ///
    /// # Panics
    /// If the URL has no host and port.
    #[must_use]
    pub fn start(url: &str) -> Self {
        let (_, rest) = url.split_once("://").expect("a URL");
        let (authority, _) = rest.split_once('/').expect("a URL with a database");
        let server = authority
            .rsplit_once('@')
            .map_or(authority, |(_, server)| server)
            .to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own = listener.local_addr().expect("an address").to_string();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let proxy = Self {
            url: url.replacen(&server, &own, 1),
            plan: Arc::clone(&plan),
        };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, plan) = (server.clone(), Arc::clone(&plan));
                thread::spawn(move || carry(&client, &server, &plan));
            }
        });
        proxy
    }

    /// The database's URL through the proxy.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Cuts at the next COMMIT, whoever sends it.
    pub fn cut_next(&self, cut: Cut) {
        lock(&self.plan).next = Some(cut);
    }

    /// Loses what the server says on lines that `LISTEN`, until it is taken back: no notification arrives, and no side
    /// notices.
    pub fn mute_listeners(&self, muted: bool) {
        lock(&self.plan).muted = muted;
    }

    /// Cuts at the next COMMIT, and from then on nothing that is said to the server arrives until [`Proxy::release`].
    pub fn cut_next_and_hold(&self, cut: Cut) {
        let mut plan = lock(&self.plan);
        (plan.next, plan.hold) = (Some(cut), true);
    }

    /// From the next BEGIN on, that included, nothing arrives at the server until [`Proxy::release`].
    pub fn hold_at_begin(&self) {
        lock(&self.plan).hold_at_begin = true;
    }

    /// Whether everything is held up.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        lock(&self.plan).held
    }

    /// What was held up goes on.
    pub fn release(&self) {
        lock(&self.plan).held = false;
    }

    /// How many lines were cut.
    #[must_use]
    pub fn cuts(&self) -> usize {
        lock(&self.plan).cuts
    }
}

/// Carries one connection until an end closes it or it is cut. Its end is all that its sides learn.
fn carry(client: &TcpStream, server: &str, plan: &Mutex<Plan>) {
    await_release(plan);
    let Ok(server) = TcpStream::connect(server) else {
        return;
    };
    let (deaf, listens) = (Mutex::new(false), Mutex::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let lost = |_: &[u8]| *lock(&listens) && lock(plan).muted;
            pass(&server, client, |_| *lock(&deaf), lost);
            client.shutdown(Shutdown::Both).ok();
        });
        let cut = |bytes: &[u8]| {
            await_release(plan);
            if bytes.windows(LISTEN.len()).any(|window| window == LISTEN) {
                *lock(&listens) = true;
            }
            let commits = bytes.windows(COMMIT.len()).any(|window| window == COMMIT);
            let cut = if commits { take(plan) } else { None };
            if cut == Some(Cut::AfterCommit) {
                // From here on nothing that the server says is heard.
                *lock(&deaf) = true;
            }
            cut == Some(Cut::BeforeCommit)
        };
        pass(client, &server, cut, |_| false);
        server.shutdown(Shutdown::Both).ok();
        client.shutdown(Shutdown::Both).ok();
    });
}

/// Passes bytes on from one end to the other, but for those that are lost. Ends when there are no more, or when `cut`
/// says so of the bytes at hand.
fn pass(
    mut from: &TcpStream,
    mut to: &TcpStream,
    cut: impl Fn(&[u8]) -> bool,
    lost: impl Fn(&[u8]) -> bool,
) {
    let mut buffer = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..count];
        if cut(bytes) || (!lost(bytes) && to.write_all(bytes).is_err()) {
            return;
        }
    }
}

fn take(plan: &Mutex<Plan>) -> Option<Cut> {
    let mut plan = lock(plan);
    let cut = plan.next.take()?;
    plan.cuts += 1;
    plan.held = std::mem::take(&mut plan.hold);
    Some(cut)
}

fn await_release(plan: &Mutex<Plan>) {
    while lock(plan).held {
        thread::sleep(LOOK_EVERY);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
