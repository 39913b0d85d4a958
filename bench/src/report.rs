//! The figures: minimum, median and maximum of their rounds, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Figures by name, with their unit.
#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: BTreeMap<(&'static str, &'static str), Vec<f64>>,
}

impl Report {
    /// Adds a round's figure.
    pub(crate) fn add(&mut self, name: &'static str, unit: &'static str, value: f64) {
        eprintln!("  {name}: {value:.1} {unit}");
        self.figures.entry((name, unit)).or_default().push(value);
    }

    /// A Markdown table.
    pub(crate) fn table(&self) -> String {
        let mut text =
            "| figure | unit | minimum | median | maximum | rounds |\n|---|---|---|---|---|---|\n"
                .to_owned();
        for ((name, unit), values) in &self.figures {
            let [min, median, max] = spread(values);
            let count = values.len();
            let _ = writeln!(
                text,
                "| {name} | {unit} | {min:.1} | {median:.1} | {max:.1} | {count} |"
            );
        }
        text
    }

    /// Writes the same as JSON.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let figures: Vec<serde_json::Value> = self
            .figures
            .iter()
            .map(|((name, unit), values)| {
                let [min, median, max] = spread(values);
                serde_json::json!({ "name": name, "unit": unit, "min": min, "median": median, "max": max, "rounds": values })
            })
            .collect();
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(
            path,
            serde_json::to_string_pretty(&serde_json::json!({ "figures": figures }))?,
        )?;
        Ok(())
    }
}

fn spread(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    [
        at(0),
        at(sorted.len() / 2),
        at(sorted.len().saturating_sub(1)),
    ]
}

/// The value below which that share of the values lies.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index of a list of thousands"
    )]
    let index = ((values.len().saturating_sub(1)) as f64 * share).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}
