//! The faults, drawn from the seed before anything happens.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// Hosts that are always meant to run. One more joins and leaves.
pub(crate) const HOSTS: usize = 3;

/// Names of failpoints, and up to which turn they are armed: beyond it, a run seldom comes to them again soon.
const FAILPOINTS: [(&str, u32); 8] = [
    ("before-postgres-commit", 40),
    ("after-postgres-commit", 40),
    ("publish-inside-transaction", 40),
    ("publish-before-commit", 40),
    ("publish-after-commit", 40),
    ("recovery-after-claim", 3),
    ("recovery-after-fence", 2),
    ("recovery-after-publish", 1),
];

/// One thing that goes wrong, or is changed. Hosts are numbered from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL; started again at once, or once another host has its partitions.
    Kill { host: usize, at_once: bool },
    /// SIGKILL, and started again to die at a failpoint.
    Failpoint {
        host: usize,
        name: &'static str,
        turn: u32,
    },
    /// SIGSTOP until its partitions are taken and a while longer, or only for a while; then SIGCONT.
    Freeze {
        host: usize,
        beyond_session: bool,
        more: Duration,
    },
    /// The broker dies, or is stopped in good order, and is started again.
    Broker { crash: bool, down: Duration },
    /// Postgres ends at once, or in good order, and is started again.
    Postgres { crash: bool, down: Duration },
    /// A plugin is replaced by another version with the same rules.
    Swap { plugin: &'static str },
    /// One more host joins the group.
    Join,
    /// It leaves in good order.
    Leave,
}

/// A fault and its circumstances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// From 1.
    pub(crate) number: usize,
    pub(crate) fault: Fault,
    /// How long the load goes on before it strikes.
    pub(crate) after: Duration,
    /// Whether the next one strikes before this one is over.
    pub(crate) overlaps: bool,
}

/// What is drawn from, so that each twenty faults have some of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// SIGKILL a host at a random moment.
    Kill,
    /// A host dies at a failpoint.
    Failpoint,
    /// SIGSTOP and SIGCONT a host.
    Freeze,
    /// The broker dies or stops, and comes back.
    Broker,
    /// Postgres dies or stops, and comes back.
    Postgres,
    /// A plugin is replaced.
    Swap,
    /// A fourth host joins or leaves.
    Guest,
}

const BAG: [(Kind, usize); 7] = [
    (Kind::Kill, 5),
    (Kind::Failpoint, 4),
    (Kind::Freeze, 3),
    (Kind::Broker, 2),
    (Kind::Postgres, 2),
    (Kind::Swap, 2),
    (Kind::Guest, 2),
];

/// So many faults; of some kinds only, if any are named.
pub(crate) fn plan(seed: u64, count: usize, only: &[Kind]) -> Vec<Planned> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed_fa17);
    let mut bag: Vec<Kind> = Vec::new();
    let mut plan: Vec<Planned> = Vec::with_capacity(count);
    let mut guest = false;
    for number in 1..=count {
        if bag.is_empty() {
            bag = BAG
                .iter()
                .filter(|(kind, _)| only.is_empty() || only.contains(kind))
                .flat_map(|(kind, times)| std::iter::repeat_n(*kind, *times))
                .collect();
            bag.shuffle(&mut rng);
        }
        let open = plan
            .last()
            .filter(|before| before.overlaps)
            .map(|before| before.fault.clone());
        let fault = draw(
            &mut rng,
            bag.pop().unwrap_or(Kind::Kill),
            open.as_ref(),
            &mut guest,
        );
        if let Some(before) = plan.last_mut()
            && before.overlaps
            && !before.fault.goes_with(&fault)
        {
            before.overlaps = false;
        }
        let beside = plan.last().is_some_and(|before| before.overlaps);
        plan.push(Planned {
            number,
            fault,
            after: Duration::from_millis(rng.random_range(0..1_200)),
            overlaps: !beside && number < count && rng.random_ratio(1, 3),
        });
    }
    plan
}

fn draw(rng: &mut StdRng, kind: Kind, open: Option<&Fault>, guest: &mut bool) -> Fault {
    let busy = open.and_then(Fault::host);
    let mut host = rng.random_range(0..HOSTS);
    if busy == Some(host) {
        host = (host + 1) % HOSTS;
    }
    let mut while_ms = |most| Duration::from_millis(rng.random_range(0..most));
    match kind {
        Kind::Kill => Fault::Kill {
            host,
            at_once: while_ms(2).is_zero(),
        },
        Kind::Failpoint => {
            let (name, turns) = FAILPOINTS[rng.random_range(0..FAILPOINTS.len())];
            Fault::Failpoint {
                host,
                name,
                turn: rng.random_range(1..=turns),
            }
        }
        Kind::Freeze => {
            let more = while_ms(2_000);
            Fault::Freeze {
                host,
                beyond_session: rng.random_ratio(3, 4),
                more,
            }
        }
        Kind::Broker => Fault::Broker {
            down: while_ms(3_000),
            crash: rng.random_ratio(1, 2),
        },
        Kind::Postgres => Fault::Postgres {
            down: while_ms(3_000),
            crash: rng.random_ratio(1, 2),
        },
        Kind::Swap => Fault::Swap {
            plugin: ["web_crawl", "task_status"][rng.random_range(0..2)],
        },
        Kind::Guest => {
            *guest = !*guest;
            if *guest { Fault::Join } else { Fault::Leave }
        }
    }
}

impl Fault {
    /// What it is counted as.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Failpoint { .. } => "kill at a failpoint",
            Self::Freeze { .. } => "freeze",
            Self::Broker { crash: true, .. } => "broker killed",
            Self::Broker { crash: false, .. } => "broker stopped",
            Self::Postgres { crash: true, .. } => "Postgres killed",
            Self::Postgres { crash: false, .. } => "Postgres stopped",
            Self::Swap { .. } => "swap",
            Self::Join => "join",
            Self::Leave => "leave",
        }
    }

    fn host(&self) -> Option<usize> {
        match self {
            Self::Kill { host, .. } | Self::Failpoint { host, .. } | Self::Freeze { host, .. } => {
                Some(*host)
            }
            _ => None,
        }
    }

    /// Whether another may strike before it is over.
    fn goes_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Broker { .. }, Self::Broker { .. })
            | (Self::Postgres { .. }, Self::Postgres { .. }) => false,
            // Who leaves in good order needs both services for its farewell.
            (Self::Broker { .. } | Self::Postgres { .. }, Self::Leave) => false,
            _ => true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |host: &usize| format!("host {}", host + 1);
        match self {
            Self::Kill { host, .. } => write!(f, "SIGKILL {}", name(host)),
            Self::Failpoint {
                host,
                name: point,
                turn,
            } => write!(
                f,
                "SIGKILL {}, which then dies at {point}:{turn}",
                name(host)
            ),
            Self::Freeze { host, .. } => write!(f, "SIGSTOP {}", name(host)),
            Self::Broker { crash: true, .. } => f.write_str("SIGKILL the broker"),
            Self::Broker { crash: false, .. } => f.write_str("stop the broker"),
            Self::Postgres { crash: true, .. } => f.write_str("SIGQUIT Postgres"),
            Self::Postgres { crash: false, .. } => f.write_str("stop Postgres"),
            Self::Swap { plugin } => write!(f, "swap {plugin}"),
            Self::Join => f.write_str("a fourth host joins"),
            Self::Leave => f.write_str("the fourth host leaves (SIGTERM)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_plan_and_a_longer_one_begins_like_it() {
        let (short, long) = (plan(3, 40, &[]), plan(3, 60, &[]));
        assert_eq!(short[..39], long[..39]);
        assert_ne!(short, plan(4, 40, &[]));
    }

    #[test]
    fn no_host_has_two_faults_at_a_time() {
        for pair in plan(5, 2_000, &[])
            .windows(2)
            .filter(|pair| pair[0].overlaps)
        {
            assert!(pair[0].fault.goes_with(&pair[1].fault), "{pair:?}");
            let (one, other) = (pair[0].fault.host(), pair[1].fault.host());
            assert!(one.is_none() || one != other, "{pair:?}");
        }
    }
}
