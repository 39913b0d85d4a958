//! The medians as pictures: throughput and latency, one bar for each contender.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use plotters::prelude::*;

use crate::contender::Contender;
use crate::summary::{RATIO_PARTITIONS, Summary, drain_subject, pace_subject};

const SIZE: (u32, u32) = (900, 420);

/// Told apart by people who see red and green alike: the palette of Okabe and Ito.
const COLOURS: [RGBColor; 7] = [
    RGBColor(153, 153, 153),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
];

/// Bars of one height each, in groups with a name.
struct Chart<'a> {
    title: String,
    contenders: &'a [Contender],
    /// In the contenders' order; none where nothing was measured.
    groups: Vec<(String, Vec<Option<f64>>)>,
}

/// Draws both and says where they are.
pub(crate) fn draw(
    directory: &Path,
    summary: &Summary,
    contenders: &[Contender],
    partitions: &[i32],
) -> anyhow::Result<Vec<PathBuf>> {
    let drained = |count: i32| {
        let median = |contender: &Contender| {
            let spread = summary.spread(&drain_subject(*contender, count), "throughput");
            spread.map(|it| it[1])
        };
        let name = format!("{count} partition(s)");
        (name, contenders.iter().map(median).collect())
    };
    let latency = |share: &str| {
        let median = |contender: &Contender| {
            let name = format!("latency, {share}");
            Some(summary.spread(&pace_subject(*contender), &name)?[1])
        };
        (share.to_owned(), contenders.iter().map(median).collect())
    };
    let charts = [
        (
            "benchmarks-throughput.svg",
            Chart {
                title: "Backlog drained, messages a second, median".to_owned(),
                contenders,
                groups: partitions.iter().map(|count| drained(*count)).collect(),
            },
        ),
        (
            "benchmarks-latency.svg",
            Chart {
                title: format!(
                    "Latency at half of each one's own maximum, {RATIO_PARTITIONS} partitions, ms, median"
                ),
                contenders,
                groups: ["p50", "p99", "p99.9"].map(latency).into(),
            },
        ),
    ];
    let mut paths = Vec::new();
    for (name, chart) in charts {
        let path = directory.join(name);
        bars(&path, &chart).with_context(|| format!("{} can't be drawn", path.display()))?;
        paths.push(path);
    }
    Ok(paths)
}

#[expect(clippy::cast_precision_loss, reason = "places of a handful of bars")]
fn bars(path: &Path, chart: &Chart<'_>) -> anyhow::Result<()> {
    let values = chart.groups.iter().flat_map(|(_, values)| values);
    let most = values.flatten().copied().fold(1.0, f64::max);
    // A gap as wide as a bar between two groups.
    let width = chart.contenders.len() as f64 + 1.0;
    let all = width * chart.groups.len() as f64;
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut context = ChartBuilder::on(&area)
        .caption(&chart.title, ("sans-serif", 18))
        .margin(12)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..all, -most * 0.1..most * 1.1)?;
    context
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .draw()?;
    for (place, contender) in chart.contenders.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let of_group = |(group, (_, values)): (usize, &(String, Vec<Option<f64>>))| {
            let left = group as f64 * width + place as f64 + 0.5;
            Some((left, values.get(place).copied().flatten()?))
        };
        let found: Vec<(f64, f64)> = chart
            .groups
            .iter()
            .enumerate()
            .filter_map(of_group)
            .collect();
        let bars = found.iter().map(|(left, value)| {
            Rectangle::new([(left + 0.05, 0.0), (left + 0.95, *value)], colour.filled())
        });
        context
            .draw_series(bars)?
            .label(contender.name())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        context.draw_series(found.iter().map(|(left, value)| {
            let digits = usize::from(*value < 100.0);
            Text::new(
                format!("{value:.digits$}"),
                (*left, *value + most * 0.05),
                ("sans-serif", 10),
            )
        }))?;
    }
    context.draw_series(chart.groups.iter().enumerate().map(|(group, (name, _))| {
        let at = (group as f64 * width + 0.5, -most * 0.03);
        Text::new(name.clone(), at, ("sans-serif", 13))
    }))?;
    context
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Line;
    use crate::report::Figure;

    #[test]
    fn a_chart_has_a_bar_for_what_was_measured() {
        let line = |subject: &str, value| Line {
            settings: String::new(),
            subject: subject.to_owned(),
            round: 1,
            figures: vec![Figure {
                name: "throughput".to_owned(),
                unit: "messages/s".to_owned(),
                value,
            }],
            void: None,
        };
        let lines = [
            line("drain/seed/4", 812.0),
            line("drain/taskhost/4", 23_456.0),
        ];
        let directory = tempfile::tempdir().expect("a directory");
        let summary = Summary::of(&lines);
        let contenders = [Contender::Seed, Contender::Spring, Contender::Taskhost];
        let paths = draw(directory.path(), &summary, &contenders, &[4]).expect("drawn");
        let svg = std::fs::read_to_string(&paths[0]).expect("an SVG");
        assert!(svg.contains("812") && svg.contains("23456"), "{svg}");
    }
}
