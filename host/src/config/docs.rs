//! Generates `docs/configuration.md` from the table of settings.

use std::fmt::Write as _;

use super::kafka::FIXED;
use super::setting::Setting;

/// The page as it must be in the repository.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(include_str!("docs_head.md"));
    page.push_str("| variable | key in taskhost.toml | default | kind | meaning | used as |\n");
    page.push_str("|---|---|---|---|---|---|\n");
    for setting in super::settings() {
        // Writing to a String can't fail.
        let _ = writeln!(
            page,
            "| `{}` | `{}` | {} | {} | {} | {} |",
            setting.env,
            setting.key,
            code(setting.default),
            kind(setting),
            cell(setting.about.trim()),
            cell(setting.becomes),
        );
    }
    page.push_str(include_str!("docs_fixed.md"));
    page.push_str("| client | librdkafka's property | value | why |\n|---|---|---|---|\n");
    for property in FIXED {
        let _ = writeln!(
            page,
            "| {} | `{}` | `{}` | {} |",
            property.client, property.name, property.value, property.why
        );
    }
    page.push_str(include_str!("docs_tail.md"));
    page
}

/// The kind of value, with unit and range.
fn kind(setting: &Setting) -> String {
    let unit = setting.unit.unwrap_or(setting.kind);
    let range = setting
        .range
        .map(|(low, high)| format!(", {low} to {high}"))
        .unwrap_or_default();
    cell(&format!("{unit}{range}"))
}

fn code(text: &str) -> String {
    if text.is_empty() {
        "none".into()
    } else {
        format!("`{text}`")
    }
}

/// The text with its `|` escaped, so that it stays in its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
