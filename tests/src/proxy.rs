//! A proxy before a server: cuts a line at a commit, loses notifications, or is a network that swallows everything, breaks,
//! or leads elsewhere.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

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

/// How a batch is committed where it needs no COMMIT: the text with which the call is prepared.
const CALL: &[u8] = b"\0SELECT taskhost.taskhost_commit_1(";

/// How sqlx begins the names of prepared statements.
const NAME: &[u8] = b"sqlx_s_";

/// What the host sends on one connection: a COMMIT, or the call that commits by itself.
#[derive(Default)]
struct Commits {
    /// How the wire names the prepared call when its arguments follow: between the portal, without a name, and its end.
    bound: Option<Vec<u8>>,
}

impl Commits {
    /// Whether these bytes commit.
    fn are_in(&mut self, bytes: &[u8]) -> bool {
        let contains = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        if let Some(at) = bytes.windows(CALL.len()).position(|it| it == CALL) {
            // Without a name it is prepared and run within a transaction, which has its COMMIT.
            let name = bytes[..at].windows(NAME.len()).rposition(|it| it == NAME);
            self.bound = name.map(|from| [&b"\0"[..], &bytes[from..at], &b"\0"[..]].concat());
            return false;
        }
        contains(COMMIT) || self.bound.as_deref().is_some_and(contains)
    }
}

/// How a connection begins to hear notifications, in a simple query.
const LISTEN: &[u8] = b"LISTEN ";

/// A listener that passes everything on, until it is told otherwise. It ends with the test's process.
pub struct Proxy {
    url: String,
    address: String,
    network: Arc<Network>,
}

/// What all connections look at.
#[derive(Default)]
struct Network {
    plan: Mutex<Plan>,
    changed: Condvar,
}

#[derive(Default)]
struct Plan {
    server: String,
    next: Option<Cut>,
    cuts: usize,
    /// What the server says on lines that listen gets lost.
    muted: bool,
    /// Everything is held up from the next cut on.
    hold: bool,
    /// What is said to the server is held up.
    held: bool,
    /// Nothing passes.
    stalled: bool,
    /// Every connection ends, and new ones at once.
    broken: bool,
    /// The number of the next connection.
    connections: u64,
    /// Connections below this number never pass anything again.
    forgotten: u64,
    /// Connections below this number end.
    ended: u64,
}

impl Plan {
    /// Whether a connection has to end.
    fn ends(&self, connection: u64) -> bool {
        self.broken || connection < self.ended
    }
}

impl Proxy {
    /// Before the server of that URL, over TCP.
    ///
    /// # Panics
    /// If the URL has no host and port.
    #[must_use]
    pub fn start(url: &str) -> Self {
        let server = server_of(url);
        let proxy = Self::to(&server);
        Self {
            url: url.replacen(&server, &proxy.address, 1),
            ..proxy
        }
    }

    /// Before the server of that address.
    ///
    /// # Panics
    /// If there is no port to be had.
    #[must_use]
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let network = Arc::new(Network::default());
        server.clone_into(&mut network.plan().server);
        let proxy = Self {
            url: String::new(),
            address,
            network: Arc::clone(&network),
        };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let network = Arc::clone(&network);
                thread::spawn(move || carry(&client, &network));
            }
        });
        proxy
    }

    /// The database's URL through the proxy.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where the proxy listens: `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Cuts at the next COMMIT, whoever sends it.
    pub fn cut_next(&self, cut: Cut) {
        self.network.plan().next = Some(cut);
    }

    /// Cuts at the next COMMIT, and from then on nothing that is said to the server arrives until [`Proxy::release`].
    pub fn cut_next_and_hold(&self, cut: Cut) {
        let mut plan = self.network.plan();
        (plan.next, plan.hold) = (Some(cut), true);
    }

    /// What was held up goes on.
    pub fn release(&self) {
        self.change(|plan| plan.held = false);
    }

    /// Loses what the server says on lines that `LISTEN`, until it is taken back: no notification arrives, and no side
    /// notices.
    pub fn mute_listeners(&self, muted: bool) {
        self.network.plan().muted = muted;
    }

    /// How many lines were cut.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.network.plan().cuts
    }

    /// From now on nothing passes, and nobody is told: packets are swallowed.
    pub fn stall(&self) {
        self.change(|plan| plan.stalled = true);
    }

    /// From now on every connection is closed, also new ones.
    pub fn break_off(&self) {
        self.change(|plan| plan.broken = true);
    }

    /// Everything passes again. What was swallowed arrives late, as TCP sends it again.
    pub fn resume(&self) {
        self.change(|plan| (plan.stalled, plan.broken) = (false, false));
    }

    /// New connections pass again. Those from before stay dead without a word, as behind a router that forgot them.
    pub fn resume_forgetful(&self) {
        self.change(|plan| {
            plan.forgotten = plan.connections;
            (plan.stalled, plan.broken) = (false, false);
        });
    }

    /// Leads new connections to another server (`host:port`), and ends those from before.
    pub fn lead_to(&self, server: &str) {
        self.change(|plan| {
            plan.ended = plan.connections;
            server.clone_into(&mut plan.server);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.network.plan());
        self.network.changed.notify_all();
    }
}

fn server_of(url: &str) -> String {
    let (_, rest) = url.split_once("://").expect("a URL");
    let (authority, _) = rest.split_once('/').expect("a URL with a database");
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, server)| server)
        .to_owned()
}

impl Network {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while nothing passes, to the server or from it. False if the connection has to end.
    fn let_pass(&self, connection: u64, to_server: bool) -> bool {
        let stands = |plan: &mut Plan| {
            plan.stalled || connection < plan.forgotten || (to_server && plan.held)
        };
        let plan = self
            .changed
            .wait_while(self.plan(), |plan| !plan.ends(connection) && stands(plan))
            .unwrap_or_else(PoisonError::into_inner);
        !plan.ends(connection)
    }

    /// Waits until the connection is broken off.
    fn wait_broken(&self, connection: u64, ended: &Mutex<bool>) {
        let _plan = self
            .changed
            .wait_while(self.plan(), |plan| !plan.ends(connection) && !*lock(ended))
            .unwrap_or_else(PoisonError::into_inner);
    }

    fn take(&self) -> Option<Cut> {
        let mut plan = self.plan();
        let cut = plan.next.take()?;
        plan.cuts += 1;
        plan.held |= std::mem::take(&mut plan.hold);
        Some(cut)
    }
}

/// Carries one connection until an end closes it or it is cut. Its end is all that its sides learn.
fn carry(client: &TcpStream, network: &Network) {
    let (number, server) = {
        let mut plan = network.plan();
        plan.connections += 1;
        (plan.connections - 1, plan.server.clone())
    };
    if !network.let_pass(number, true) {
        return;
    }
    let Ok(server) = TcpStream::connect(server) else {
        return;
    };
    let (deaf, ended) = (Mutex::new(false), Mutex::new(false));
    let (listens, sent) = (Mutex::new(false), Mutex::new(Commits::default()));
    let end = || {
        server.shutdown(Shutdown::Both).ok();
        client.shutdown(Shutdown::Both).ok();
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            network.wait_broken(number, &ended);
            end();
        });
        scope.spawn(|| {
            let cut = |_: &[u8]| !network.let_pass(number, false) || *lock(&deaf);
            let lost = || *lock(&listens) && network.plan().muted;
            pass(&server, client, cut, lost);
            client.shutdown(Shutdown::Both).ok();
        });
        let cut = |bytes: &[u8]| {
            if !network.let_pass(number, true) {
                return true;
            }
            if bytes.windows(LISTEN.len()).any(|window| window == LISTEN) {
                *lock(&listens) = true;
            }
            let commits = lock(&sent).are_in(bytes);
            let cut = if commits { network.take() } else { None };
            if cut == Some(Cut::AfterCommit) {
                // From here on nothing that the server says is heard.
                *lock(&deaf) = true;
            }
            cut == Some(Cut::BeforeCommit)
        };
        pass(client, &server, cut, || false);
        end();
        *lock(&ended) = true;
        // Under the plan's lock, so that it is not missed between a look and a wait.
        drop(network.plan());
        network.changed.notify_all();
    });
}

/// Passes bytes on from one end to the other, but for those that are lost. Ends when there are no more, or when `cut` says
/// so of the bytes at hand.
fn pass(
    mut from: &TcpStream,
    mut to: &TcpStream,
    cut: impl Fn(&[u8]) -> bool,
    lost: impl Fn() -> bool,
) {
    let mut buffer = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..count];
        if cut(bytes) || (!lost() && to.write_all(bytes).is_err()) {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
