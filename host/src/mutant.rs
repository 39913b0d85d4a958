//! Guards of the exactly-once protocol that a test can switch off, one at a time, to show that an oracle reports the damage
//! that the guard prevents. `docs/protocol-tests.md` says which oracle reports which: the simulator all but `token`, chaos
//! `epoch`, `token`, `offsets` and `republish`.
//!
//! For tests only. In a release build debug assertions are off, and every question is a constant `false`. In the build of
//! `make test` the environment variable `TASKHOST_MUTANT`, read once, arms at most one of them, and the log says so. A build
//! of its own for this would compile the host a second time.
//!
//! `version`, `activation`, `rows` and `settle` are asked by the simulator's ledger only. In a host they change nothing: there
//! the SQL function makes these checks.

/// A guard that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// `epoch`: a batch is committed on progress as it is, whoever claimed the partition and wherever it is. The claim's
    /// number, the batch's number and the offset guard the same thing: with only one of them switched off, the others
    /// prevent the damage.
    Epoch,
    /// `token`: a batch is known by its number instead of by a random token of the attempt.
    Token,
    /// `offsets`: messages are published in transactions that don't carry their offsets.
    Offsets,
    /// `republish`: recovery treats what an earlier owner committed as published.
    Republish,
    /// `version`: a task is written whatever version it has.
    Version,
    /// `activation`: a batch is committed whatever version of a plugin is active.
    Activation,
    /// `rows`: a batch is committed whether or not the rows that it decided are still there.
    Rows,
    /// `settle`: a batch gives no turn to what waits behind it.
    Settle,
    /// `twice`: recovery publishes the last published frame once more.
    Twice,
    /// `withdraw`: recovery reads the watermark while frames of its own may still be on their way.
    Withdraw,
    /// `wake`: after a commit nobody looks for messages that wait for its tasks.
    Wake,
    /// `fence`: former owners are not fenced.
    Fence,
}

impl Mutant {
    /// All of them, by the names that the environment gives them.
    pub const ALL: [(&'static str, Self); 12] = [
        ("epoch", Self::Epoch),
        ("token", Self::Token),
        ("offsets", Self::Offsets),
        ("republish", Self::Republish),
        ("version", Self::Version),
        ("activation", Self::Activation),
        ("rows", Self::Rows),
        ("settle", Self::Settle),
        ("twice", Self::Twice),
        ("withdraw", Self::Withdraw),
        ("wake", Self::Wake),
        ("fence", Self::Fence),
    ];
}

/// Whether a guard is switched off.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn is_armed(_: Mutant) -> bool {
    false
}

/// Whether a guard is switched off.
#[cfg(debug_assertions)]
pub fn is_armed(mutant: Mutant) -> bool {
    static ARMED: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
    let named = || {
        let name = std::env::var("TASKHOST_MUTANT").ok()?;
        let known = Mutant::ALL.into_iter().find(|(known, _)| *known == name);
        let (_, armed) = known?;
        tracing::error!(guard = ?armed, "TASKHOST_MUTANT switches off a guard against damage: for tests only");
        Some(armed)
    };
    *ARMED.get_or_init(named) == Some(mutant)
}
