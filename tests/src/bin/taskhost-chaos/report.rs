//! What a run came to, as a file and in a few lines.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::verdict::Verdict;

/// `report.json`.
#[derive(Debug, Default, Serialize)]
// Many fields: each is a field of the report.
pub(crate) struct Report {
    pub(crate) faults: usize,
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    /// From SIGKILL to the next commit of a partition by another process, over all partitions of all killed hosts.
    pub(crate) recovery_seconds_max: f64,
    pub(crate) recovery: Recovery,
    /// Whether everything was decided and published in time, with nothing waiting.
    pub(crate) settled: bool,
    pub(crate) settle_seconds: f64,
    pub(crate) seconds: f64,
    pub(crate) seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scenario: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mutant: Option<&'static str>,
    /// How many faults of each kind struck, and how many while another was not over.
    pub(crate) kinds: BTreeMap<&'static str, usize>,
    pub(crate) overlapped: usize,
    /// What was not as planned, and is no damage by itself.
    pub(crate) notes: Vec<String>,
}

/// Times from SIGKILL to the next commit of each partition of the killed host.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Recovery {
    pub(crate) session_timeout_seconds: f64,
    /// No other fault meanwhile.
    pub(crate) alone: Spread,
    /// Another fault was going on or began meanwhile: broker or Postgres away, a second host killed or frozen.
    pub(crate) beside_others: Spread,
}

/// A distribution, in seconds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Spread {
    pub(crate) partitions: usize,
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) p95: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |hundredths: usize| {
            let place = (times.len() * hundredths / 100).min(times.len().saturating_sub(1));
            times.get(place).map_or(0.0, |time| seconds(*time))
        };
        Self {
            partitions: times.len(),
            min: at(0),
            median: at(50),
            p95: at(95),
            max: at(100),
        }
    }
}

impl Report {
    /// Whether nothing was lost, duplicated, reordered or wrong, and nothing stood still.
    pub(crate) fn is_good(&self) -> bool {
        self.verdict.is_clean() && self.settled
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display()))?;
        }
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text + "\n").with_context(|| format!("can't write {}", path.display()))
    }

    /// A few lines for people.
    pub(crate) fn summary(&self) -> String {
        let Verdict {
            messages,
            lost,
            duplicated,
            reordered,
            wrong,
            ..
        } = &self.verdict;
        let mut text = format!(
            "{} faults over {messages} messages in {:.0} s: {lost} lost, {duplicated} duplicated, {reordered} reordered, {wrong} wrong",
            self.faults, self.seconds,
        );
        let Recovery {
            session_timeout_seconds: session,
            alone,
            beside_others,
        } = &self.recovery;
        for (what, spread) in [
            ("no other fault meanwhile", alone),
            ("beside others", beside_others),
        ] {
            if spread.partitions > 0 {
                let Spread {
                    partitions,
                    min,
                    median,
                    p95,
                    max,
                } = spread;
                text += &format!(
                    "\nfrom SIGKILL to the next commit, {what}: {partitions} partitions, {min:.1} s to {max:.1} s, \
                     median {median:.1} s, 95 % within {p95:.1} s (session timeout {session:.0} s)",
                );
            }
        }
        if !self.settled {
            text += "\nnot everything was settled in time";
        }
        for line in self.verdict.differences.iter().chain(&self.notes) {
            text += &format!("\n  {line}");
        }
        text
    }
}

pub(crate) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}
