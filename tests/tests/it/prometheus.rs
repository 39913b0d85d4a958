//! Prometheus' text format, read strictly.

use std::collections::{BTreeMap, BTreeSet};

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// Reads an exposition; panics at the first thing that a scraper could stumble over.
pub(crate) fn parse(text: &str) -> (BTreeMap<String, String>, Vec<Sample>) {
    assert!(text.ends_with('\n'), "the last line has an end");
    let (mut kinds, mut helps) = (BTreeMap::new(), BTreeSet::new());
    let (mut samples, mut series) = (Vec::new(), BTreeSet::new());
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(!help.is_empty() && helps.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(
                is_name(name) && ["counter", "gauge", "histogram"].contains(&kind),
                "{line}"
            );
            assert!(
                kinds.insert(name.to_owned(), kind.to_owned()).is_none(),
                "a type stands twice: {line}"
            );
            name.clone_into(&mut current);
        } else {
            let sample = sample(line);
            let suffix = sample
                .name
                .strip_prefix(&current)
                .unwrap_or_else(|| panic!("{line} outside its family"));
            let allowed: &[&str] = match kinds[&current].as_str() {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(allowed.contains(&suffix), "{line} in the family {current}");
            assert!(
                series.insert((sample.name.clone(), sample.labels.clone())),
                "it stands twice: {line}"
            );
            samples.push(sample);
        }
    }
    assert_eq!(helps, kinds.keys().cloned().collect());
    (kinds, samples)
}

fn is_name(text: &str) -> bool {
    text.chars()
        .all(|each| each.is_ascii_alphanumeric() || each == '_')
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

fn sample(line: &str) -> Sample {
    let (series, value) = line
        .rsplit_once(' ')
        .unwrap_or_else(|| panic!("no sample: {line}"));
    let value = value
        .parse()
        .unwrap_or_else(|_| panic!("no number: {line}"));
    let Some((name, rest)) = series.split_once('{') else {
        assert!(is_name(series), "{line}");
        return Sample {
            name: series.to_owned(),
            labels: BTreeMap::new(),
            value,
        };
    };
    assert!(is_name(name), "{line}");
    let mut rest = rest
        .strip_suffix('}')
        .unwrap_or_else(|| panic!("labels without an end: {line}"));
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, after) = rest
            .split_once("=\"")
            .unwrap_or_else(|| panic!("no label: {line}"));
        let (value, after) = after
            .split_once('"')
            .unwrap_or_else(|| panic!("no value: {line}"));
        assert!(is_name(label) && !value.contains('\\'), "{line}");
        assert!(
            labels.insert(label.to_owned(), value.to_owned()).is_none(),
            "{line}"
        );
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Sample {
        name: name.to_owned(),
        labels,
        value,
    }
}
