//! The values of both sources. They are read setting by setting, and all problems are collected.

use std::collections::BTreeMap;
use std::path::Path;

use super::fixed::Fixed;
use super::nearest::nearest;
use super::offered::{CONFIG_VARIABLE, Offered, URL_VARIABLE};
use super::problem::{Origin, Problem};
use super::setting::Setting;
use super::value::{MASK, Value};

/// One setting with its effective value.
#[derive(Clone, Debug)]
pub struct Effective {
    /// Its row of the table.
    pub setting: &'static Setting,
    /// Its value for output; secrets are `***`.
    pub value: String,
    /// Where the value comes from.
    pub origin: Origin,
}

/// Every setting's value and its origin, in the table's order.
#[derive(Clone, Debug, Default)]
pub struct Origins(Vec<Effective>);

impl Origins {
    /// All settings, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = &Effective> {
        self.0.iter()
    }

    /// The origin of the setting with this key; `None` if no setting has it.
    #[must_use]
    pub fn of(&self, key: &str) -> Option<&Origin> {
        self.0
            .iter()
            .find(|row| row.setting.key == key)
            .map(|row| &row.origin)
    }

    /// Sets the effective value of a setting whose default depends on others.
    pub(super) fn show(&mut self, key: &str, value: &str) {
        if let Some(row) = self.0.iter_mut().find(|row| row.setting.key == key) {
            value.clone_into(&mut row.value);
        }
    }

    /// Whether somebody set the setting of this key.
    #[must_use]
    pub fn is_set(&self, key: &str) -> bool {
        self.of(key)
            .is_some_and(|origin| *origin != Origin::Default)
    }
}

/// The values of the sources, and the problems found so far.
#[derive(Debug, Default)]
pub(super) struct Input {
    texts: BTreeMap<&'static str, (String, Origin)>,
    pub(super) origins: Origins,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl Input {
    /// Stores a source's value of a setting; the later source wins. Empty text counts as not set, because
    /// `${NAME:-}` in a compose file or a chart becomes empty text.
    pub(super) fn put(&mut self, setting: &'static Setting, text: String, origin: Origin) {
        if !text.trim().is_empty() {
            self.texts.insert(setting.key, (text, origin));
        }
    }

    /// The setting's value from the sources, else its default.
    pub(super) fn take<T: Value>(&mut self, setting: &'static Setting) -> T {
        let (text, origin) = self
            .texts
            .remove(setting.key)
            .unwrap_or_else(|| (setting.default.to_owned(), Origin::Default));
        let value = parse::<T>(setting, &text).unwrap_or_else(|reason| {
            let shown = if T::HIDDEN_IF_MALFORMED {
                MASK
            } else {
                text.trim()
            };
            self.problems.push(Problem {
                what: format!("{} is {shown:?}, {reason}", setting.key),
                at: vec![origin.clone()],
                fix: format!("correct {} or {}", setting.env, setting.key),
            });
            parse::<T>(setting, setting.default)
                .unwrap_or_else(|reason| unreachable!("default of {}: {reason}", setting.key))
        });
        self.origins.0.push(Effective {
            setting,
            value: value.show(),
            origin,
        });
        value
    }

    /// Adds a contradiction between settings, named by their keys.
    pub(super) fn add_contradiction(
        &mut self,
        keys: &[&str],
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let mut at: Vec<Origin> = Vec::new();
        for origin in keys.iter().filter_map(|key| self.origins.of(key)) {
            if *origin != Origin::Default && !at.contains(origin) {
                at.push(origin.clone());
            }
        }
        self.problems.push(Problem {
            what: what.into(),
            at,
            fix: fix.into(),
        });
    }

    /// Adds a warning: something works, but probably not as intended.
    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// Warns of settings that somebody set and that have no effect.
    pub(super) fn warn_without_effect(&mut self, keys: &[&str], because: &str) {
        for key in keys {
            if let Some(origin) = self
                .origins
                .of(key)
                .filter(|origin| **origin != Origin::Default)
            {
                let text = format!("{key} ({origin}) has no effect: {because}");
                self.warnings.push(text);
            }
        }
    }

    /// Adds the problem that a file named by a setting can't be read.
    pub(super) fn readable(&mut self, key: &str, path: &Path) {
        if let Err(error) = std::fs::File::open(path) {
            self.add_contradiction(
                &[key],
                format!(
                    "{key} names {}, which can't be read: {error}",
                    path.display()
                ),
                "name a file that this user can read",
            );
        }
    }
}

/// Reads the text of one setting and checks its range.
fn parse<T: Value>(setting: &Setting, text: &str) -> Result<T, String> {
    let value = T::parse(text)?;
    if let (Some(number), Some((low, high))) = (value.number(), setting.range)
        && !(low..=high).contains(&number)
    {
        return Err(format!("expected {low} to {high}"));
    }
    Ok(value)
}

/// Stores the values of a running `taskhost dev`: first, so that every other source wins.
pub(super) fn offered(input: &mut Input, settings: &[&'static Setting], offered: &Offered) {
    for (name, value) in &offered.values {
        if let Some(setting) = settings.iter().find(|setting| setting.env == *name) {
            input.put(setting, value.clone(), Origin::Dev(offered.path.clone()));
        }
    }
}

/// Reads the environment: known names become values, unknown ones with our prefixes warnings.
pub(super) fn environment(
    input: &mut Input,
    settings: &[&'static Setting],
    variables: impl Iterator<Item = (String, String)>,
) {
    let mut unknown = Vec::new();
    for (name, value) in variables {
        if let Some(setting) = settings.iter().find(|setting| setting.env == name) {
            input.put(setting, value, Origin::Env(name));
        } else if let Some(fixed) = Fixed::find(&name) {
            // Empty text counts as not set.
            if !value.trim().is_empty() {
                input.warn(fixed.warning(&Origin::Env(name)));
            }
        } else if PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            && !OTHER_NAMES.contains(&name.as_str())
        {
            unknown.push(name);
        }
    }
    unknown.sort();
    for name in unknown {
        let hint = nearest(&name, settings.iter().map(|setting| setting.env))
            .map(|near| format!(", did you mean {near}?"))
            .unwrap_or_default();
        input.warn(format!(
            "the environment variable {name} is unknown to taskhost and has no effect{hint}"
        ));
    }
}

/// The prefixes of names that are probably meant for taskhost.
const PREFIXES: [&str; 4] = ["KAFKA_", "TASKHOST_", "TASK_", "WEB_CRAWL_"];

/// Names that the command line reads itself.
const OTHER_NAMES: [&str; 5] = [
    CONFIG_VARIABLE,
    URL_VARIABLE,
    crate::dev::broker::LIBS_VARIABLE,
    crate::failpoint::VARIABLE,
    "TASKHOST_BIN",
];
