//! `taskhost.toml` as a list of values with their lines, checked for unknown keys.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::fixed::Fixed;
use super::input::Input;
use super::nearest::nearest;
use super::problem::{Origin, Problem};
use super::setting::Setting;

/// The content of the file besides settings.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// `[topics]` entries that are not settings: logical name to real name.
    pub(super) topics: BTreeMap<String, (String, Origin)>,
    /// The `[[route]]` tables in their order, with the line on which each begins.
    pub(super) routes: Vec<(RouteTable, Origin)>,
}

/// One `[[route]]`: its texts with their lines, and its `config` as JSON.
#[derive(Debug, Default)]
pub(super) struct RouteTable {
    pub(super) texts: BTreeMap<String, (String, Origin)>,
    pub(super) config: Option<serde_json::Value>,
}

/// A file being read.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    settings: &'a [&'static Setting],
    input: &'a mut Input,
}

/// Reads the file's text into `input`, and returns everything that is not a setting.
pub(super) fn read(
    input: &mut Input,
    settings: &[&'static Setting],
    path: &Path,
    text: &str,
) -> Extras {
    let mut reader = Reader {
        path,
        text,
        settings,
        input,
    };
    let mut extras = Extras::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = reader.origin(error.span().map_or(0, |span| span.start));
        reader.add_problem(
            at,
            format!("it is not valid TOML: {}", error.message()),
            "correct the file",
        );
    }
    if !errors.is_empty() {
        return extras;
    }
    for (key, value) in document.get_ref() {
        let name: &str = key.get_ref();
        let at = reader.origin(key.span().start);
        match (name, value.get_ref()) {
            ("route", DeValue::Array(routes)) => reader.read_routes(routes, &mut extras),
            ("route", _) => reader.add_problem(
                at,
                "route is not a list",
                "write each route as a [[route]] table",
            ),
            (_, DeValue::Table(table)) if reader.is_section(name) => {
                reader.read_section(name, table, &mut extras)
            }
            _ if reader.is_section(name) => {
                reader.add_problem(
                    at,
                    format!("{name} is not a table"),
                    format!("write [{name}] and its keys below"),
                );
            }
            _ => reader.add_unknown_section(name, at),
        }
    }
    extras
}

impl Reader<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        Origin::File {
            path: self.path.to_owned(),
            line,
        }
    }

    fn add_problem(&mut self, at: Origin, what: impl Into<String>, fix: impl Into<String>) {
        self.input.problems.push(Problem {
            what: what.into(),
            at: vec![at],
            fix: fix.into(),
        });
    }

    fn is_section(&self, name: &str) -> bool {
        self.settings
            .iter()
            .any(|setting| setting.section() == name)
    }

    fn add_unknown_section(&mut self, name: &str, at: Origin) {
        let setting = self.settings.iter().find(|setting| setting.name() == name);
        let fix = match setting {
            Some(setting) => format!("write it under [{}]", setting.section()),
            None => match nearest(name, self.settings.iter().map(|setting| setting.section())) {
                Some(near) => format!("did you mean [{near}]?"),
                None => "remove it; `taskhost config` lists all keys".into(),
            },
        };
        self.add_problem(at, format!("unknown key {name}"), fix);
    }

    fn read_section(&mut self, section: &str, table: &DeTable<'_>, extras: &mut Extras) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            let at = self.origin(value.span().start);
            let full = format!("{section}.{name}");
            let known = self
                .settings
                .iter()
                .find(|setting| setting.key == full)
                .copied();
            let Some(text) = scalar(value.get_ref()) else {
                self.add_problem(
                    at,
                    format!("{full} is a {}", value.get_ref().type_str()),
                    "write a plain value or a list of them",
                );
                continue;
            };
            match known {
                Some(setting) => self.input.put(setting, text, at),
                None if section == "topics" => {
                    extras.topics.insert(name.to_owned(), (text, at));
                }
                None => match Fixed::find(&full) {
                    Some(fixed) => self.input.warn(fixed.warning(&at)),
                    None => self.add_unknown_key(section, name, at),
                },
            }
        }
    }

    fn add_unknown_key(&mut self, section: &str, name: &str, at: Origin) {
        let names = self
            .settings
            .iter()
            .filter(|setting| setting.section() == section);
        let fix = match nearest(name, names.map(|setting| setting.name())) {
            Some(near) => format!("did you mean {near}?"),
            None => "remove it; `taskhost config` lists all keys".into(),
        };
        self.add_problem(at, format!("unknown key {section}.{name}"), fix);
    }

    fn read_routes(&mut self, routes: &DeArray<'_>, extras: &mut Extras) {
        for route in routes.iter() {
            let at = self.origin(route.span().start);
            let DeValue::Table(table) = route.get_ref() else {
                self.add_problem(
                    at,
                    "a route is not a table",
                    "write each route as a [[route]] table",
                );
                continue;
            };
            let parsed = self.read_route(table);
            extras.routes.push((parsed, at));
        }
    }

    fn read_route(&mut self, table: &DeTable<'_>) -> RouteTable {
        const TEXTS: [&str; 5] = [
            "topic",
            "task_type",
            "default_task_type",
            "on_dead_letter",
            "plugin",
        ];
        let mut route = RouteTable::default();
        for (key, value) in table {
            let name: &str = key.get_ref();
            let at = self.origin(key.span().start);
            match (name, value.get_ref()) {
                ("config", DeValue::Table(_)) => match json(value) {
                    Ok(config) => route.config = Some(config),
                    Err(what) => self.add_problem(
                        at,
                        format!("route.config holds {what}"),
                        "write a value that JSON has",
                    ),
                },
                ("config", _) => self.add_problem(
                    at,
                    "route.config is not a table",
                    "write [route.config] and its keys below",
                ),
                (name, DeValue::String(text)) if TEXTS.contains(&name) => {
                    route.texts.insert(name.to_owned(), (text.to_string(), at));
                }
                (name, other) if TEXTS.contains(&name) => {
                    self.add_problem(
                        at,
                        format!("route.{name} is a {}", other.type_str()),
                        "write it as a text in quotes",
                    );
                }
                (name, _) => {
                    let fix = nearest(name, TEXTS.into_iter().chain(["config"])).map_or_else(
                        || "remove it; what the plugin reads goes into [route.config]".into(),
                        |near| format!("did you mean {near}?"),
                    );
                    self.add_problem(at, format!("unknown key route.{name}"), fix);
                }
            }
        }
        route
    }
}

/// A value as the text an environment variable would hold; `None` for tables, dates and nested lists.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(_) => integer(value).map(|number| number.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Array(items) => {
            let items: Option<Vec<String>> = items
                .iter()
                .map(|item| {
                    if item.get_ref().is_array() {
                        None
                    } else {
                        scalar(item.get_ref())
                    }
                })
                .collect();
            items.map(|items| items.join(","))
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A value as JSON; dates become text. The error names what JSON can't hold.
fn json(value: &Spanned<DeValue<'_>>) -> Result<serde_json::Value, String> {
    Ok(match value.get_ref() {
        DeValue::String(text) => serde_json::Value::String(text.to_string()),
        DeValue::Integer(_) => integer(value.get_ref())
            .ok_or("a number that is too large")?
            .into(),
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(serde_json::Value::Number)
            .ok_or_else(|| format!("{}, which is not a JSON number", number.as_str()))?,
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(items) => items
            .iter()
            .map(json)
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| Ok((key.get_ref().to_string(), json(value)?)))
            .collect::<Result<serde_json::Map<_, _>, String>>()?
            .into(),
    })
}
