//! All rounds together: as JSON, and as Markdown for the documentation.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::contender::Contender;
use crate::ledger::Line;
use crate::report::spread;

/// The partitions that `ratios` is about: enough to keep all workers busy.
pub(crate) const RATIO_PARTITIONS: i32 = 4;

/// Whom taskhost is compared with: the name of each ratio.
const RATIOS: [(&str, Contender); 5] = [
    ("seed", Contender::Seed),
    ("seed_batched", Contender::SeedBatched),
    ("spring", Contender::Spring),
    ("bare", Contender::Bare),
    ("native", Contender::Native),
];

/// The values of each figure over all rounds that count.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// By subject, then by name: unit and values.
    figures: BTreeMap<String, BTreeMap<String, (String, Vec<f64>)>>,
    voids: Vec<(String, usize, String)>,
}

impl Summary {
    /// Of these rounds.
    pub(crate) fn of(lines: &[Line]) -> Self {
        let mut summary = Self::default();
        for line in lines {
            if let Some(void) = &line.void {
                let void = (line.subject.clone(), line.round, void.clone());
                summary.voids.push(void);
                continue;
            }
            let figures = summary.figures.entry(line.subject.clone()).or_default();
            for figure in &line.figures {
                let entry = figures.entry(figure.name.clone());
                let unit = figure.unit.clone();
                entry
                    .or_insert_with(|| (unit, Vec::new()))
                    .1
                    .push(figure.value);
            }
        }
        summary
    }

    /// Whether every round counts.
    pub(crate) fn is_sound(&self) -> bool {
        self.voids.is_empty()
    }

    /// A figure's minimum, median and maximum.
    pub(crate) fn spread(&self, subject: &str, name: &str) -> Option<[f64; 3]> {
        let (_, values) = self.figures.get(subject)?.get(name)?;
        Some(spread(values))
    }

    /// The median of what a contender drained.
    pub(crate) fn drained(&self, contender: Contender, partitions: i32) -> Option<f64> {
        let subject = drain_subject(contender, partitions);
        Some(self.spread(&subject, "throughput")?[1])
    }

    /// taskhost's median divided by each other's; null for what wasn't measured.
    fn ratios(&self, partitions: i32) -> Map<String, Value> {
        let own = self.drained(Contender::Taskhost, partitions);
        let ratio = |other| Some(own? / self.drained(other, partitions)?);
        RATIOS
            .into_iter()
            .map(|(name, other)| (name.to_owned(), json!(ratio(other))))
            .collect()
    }

    /// Everything, as JSON.
    pub(crate) fn json(&self, about: &Value, partitions: &[i32]) -> Value {
        let mut figures = Vec::new();
        for (subject, named) in &self.figures {
            for (name, (unit, values)) in named {
                let [min, median, max] = spread(values);
                figures.push(json!({
                    "subject": subject, "name": name, "unit": unit,
                    "min": min, "median": median, "max": max, "rounds": values,
                }));
            }
        }
        let by_partitions: Map<String, Value> = partitions
            .iter()
            .map(|count| (count.to_string(), Value::Object(self.ratios(*count))))
            .collect();
        let voids = self.voids.iter();
        let voids: Vec<Value> = voids
            .map(|(subject, round, reason)| {
                json!({ "subject": subject, "round": round, "reason": reason })
            })
            .collect();
        json!({
            "about": about,
            "ratios": self.ratios(RATIO_PARTITIONS),
            "ratio_partitions": RATIO_PARTITIONS,
            "ratios_by_partitions": by_partitions,
            "figures": figures,
            "void": voids,
        })
    }

    /// Everything, as Markdown.
    pub(crate) fn markdown(
        &self,
        about: &Value,
        contenders: &[Contender],
        partitions: &[i32],
    ) -> String {
        let mut text = heading(about);
        self.throughput(&mut text, contenders, partitions);
        self.latency(&mut text, contenders);
        self.rest(&mut text);
        for (subject, round, reason) in &self.voids {
            let first = reason.lines().next().unwrap_or_default();
            let _ = writeln!(text, "\n**Void**: {subject}, round {round}: {first}");
        }
        text
    }

    fn throughput(&self, text: &mut String, contenders: &[Contender], partitions: &[i32]) {
        text.push_str("\nBacklog drained, minimum / median / maximum:\n\n");
        text.push_str("| contender | partitions | messages/s | taskhost is faster by | CPU s/million: contender | broker | Postgres | peak MiB | ready ms |\n");
        text.push_str("|---|---|---|---|---|---|---|---|---|\n");
        for count in partitions {
            for contender in contenders {
                let subject = drain_subject(*contender, *count);
                let cell = |name: &str| cell(self.spread(&subject, name));
                let own = self.drained(Contender::Taskhost, *count);
                let ratio = own.zip(self.drained(*contender, *count)).map_or_else(
                    || "–".to_owned(),
                    |(own, other)| format!("{:.2} ×", own / other),
                );
                let _ = writeln!(
                    text,
                    "| {} | {count} | {} | {ratio} | {} | {} | {} | {} | {} |",
                    contender.name(),
                    cell("throughput"),
                    cell("processor time, contender"),
                    cell("processor time, broker"),
                    cell("processor time, Postgres"),
                    cell("memory, peak resident"),
                    cell("time to ready"),
                );
            }
        }
    }

    fn latency(&self, text: &mut String, contenders: &[Contender]) {
        let _ = writeln!(
            text,
            "\nLatency at half of each contender's own median with {RATIO_PARTITIONS} partitions, minimum / median / maximum:\n"
        );
        text.push_str(
            "| contender | messages/s | p50 ms | p99 ms | p99.9 ms |\n|---|---|---|---|---|\n",
        );
        for contender in contenders {
            let subject = pace_subject(*contender);
            let cell = |name: &str| cell(self.spread(&subject, name));
            let rate = self
                .spread(&subject, "rate")
                .map_or_else(|| "–".to_owned(), |[_, median, _]| format!("{median:.0}"));
            let _ = writeln!(
                text,
                "| {} | {rate} | {} | {} | {} |",
                contender.name(),
                cell("latency, p50"),
                cell("latency, p99"),
                cell("latency, p99.9"),
            );
        }
    }

    /// What isn't a contest.
    fn rest(&self, text: &mut String) {
        text.push_str("\nThe host alone, minimum / median / maximum:\n\n");
        text.push_str("| figure | unit | value |\n|---|---|---|\n");
        let own = self
            .figures
            .iter()
            .filter(|(subject, _)| subject.starts_with("host/"));
        for (subject, named) in own {
            for (name, (unit, values)) in named {
                let round = subject.trim_start_matches("host/");
                let _ = writeln!(
                    text,
                    "| {round}: {name} | {unit} | {} |",
                    cell(Some(spread(values)))
                );
            }
        }
    }
}

/// What a round of draining is called.
pub(crate) fn drain_subject(contender: Contender, partitions: i32) -> String {
    format!("drain/{}/{partitions}", contender.name())
}

/// What a round of latency is called.
pub(crate) fn pace_subject(contender: Contender) -> String {
    format!("pace/{}", contender.name())
}

fn cell(spread: Option<[f64; 3]>) -> String {
    match spread {
        None => "–".to_owned(),
        Some(values) => {
            let digits = if values[1].abs() < 100.0 { 1 } else { 0 };
            values.map(|value| format!("{value:.digits$}")).join(" / ")
        }
    }
}

fn heading(about: &Value) -> String {
    let mut text = String::new();
    for part in ["command", "date", "settings", "machine", "versions"] {
        let said = match &about[part] {
            Value::String(one) => one.clone(),
            Value::Object(many) => many
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| match value.as_str() {
                    Some(text) => format!("{name} {text}"),
                    None => format!("{name} {value}"),
                })
                .collect::<Vec<_>>()
                .join(", "),
            _ => continue,
        };
        let _ = writeln!(text, "- {part}: {said}");
    }
    text
}

/// Writes text between a page's two markers, with pictures that are beside the page below it.
pub(crate) fn write_between_markers(
    page: &Path,
    text: &str,
    plots: &[PathBuf],
) -> anyhow::Result<()> {
    const BEGIN: &str = "<!-- figures: written by make bench ARGS=--write-docs -->\n";
    const END: &str = "<!-- figures: end -->";
    let whole = std::fs::read_to_string(page)?;
    let missing = || format!("{} has no markers for the figures", page.display());
    let (head, rest) = whole.split_once(BEGIN).with_context(missing)?;
    let (_, tail) = rest.split_once(END).with_context(missing)?;
    let mut whole = format!("{head}{BEGIN}\n{text}");
    for name in plots.iter().filter_map(|plot| plot.file_name()) {
        let name = name.to_string_lossy();
        let _ = write!(whole, "\n![The medians of the table]({name})\n");
    }
    std::fs::write(page, format!("{whole}\n{END}{tail}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Figure;

    fn line(subject: &str, value: f64, void: Option<&str>) -> Line {
        let figure = Figure {
            name: "throughput".to_owned(),
            unit: "messages/s".to_owned(),
            value,
        };
        Line {
            settings: String::new(),
            subject: subject.to_owned(),
            round: 1,
            figures: vec![figure],
            void: void.map(str::to_owned),
        }
    }

    #[test]
    fn a_ratio_is_of_medians_and_a_void_round_counts_for_nothing() {
        let summary = Summary::of(&[
            line("drain/taskhost/4", 100.0, None),
            line("drain/taskhost/4", 300.0, None),
            line("drain/taskhost/4", 200.0, None),
            line("drain/seed/4", 10.0, None),
            line("drain/spring/4", 1000.0, Some("an event came twice")),
        ]);
        let json = summary.json(&Value::Null, &[4]);
        assert_eq!(json["ratios"]["seed"], 20.0);
        assert_eq!(json["ratios"]["spring"], Value::Null);
        assert_eq!(json["ratios_by_partitions"]["4"]["seed"], 20.0);
        assert_eq!(json["void"][0]["reason"], "an event came twice");
        assert!(!summary.is_sound());
        let page = summary.markdown(&Value::Null, &[Contender::Seed], &[4]);
        assert!(
            page.contains("| seed | 4 | 10.0 / 10.0 / 10.0 | 20.00 × |"),
            "{page}"
        );
        assert!(page.contains("**Void**: drain/spring/4, round 1"), "{page}");
        assert!(page.contains("| seed | – | – | – | – |"), "{page}");
    }

    #[test]
    fn figures_are_written_between_the_markers_and_nothing_else_changes() {
        let directory = tempfile::tempdir().expect("a directory");
        let page = directory.path().join("page.md");
        let marked = "before\n<!-- figures: written by make bench ARGS=--write-docs -->\nold\n<!-- figures: end -->\nafter\n";
        std::fs::write(&page, marked).expect("written");
        write_between_markers(&page, "new", &["/x/a.svg".into()]).expect("written");
        let text = std::fs::read_to_string(&page).expect("read");
        assert!(text.starts_with("before\n") && text.ends_with("-->\nafter\n"));
        assert!(
            text.contains("\nnew\n![The medians of the table](a.svg)\n") && !text.contains("old")
        );
        std::fs::write(&page, "no markers").expect("written");
        write_between_markers(&page, "new", &[]).expect_err("no markers");
    }
}
