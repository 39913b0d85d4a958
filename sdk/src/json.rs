//! Reads JSON. Errors name the place and never the value: they are logged, and the data may be personal.

use serde::de::DeserializeOwned;

/// The longest field name in an error, in characters. A map's keys come from the sender.
const FIELD_CHARS_MAX: usize = 100;

/// Reads a message's or a task's JSON.
///
/// # Errors
///
/// A sentence that names the field, without its value.
pub(crate) fn read<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    // The fast way first: only JSON that fails is read again, with its path.
    serde_json::from_str(json).map_err(|plain| {
        let mut reader = serde_json::Deserializer::from_str(json);
        match serde_path_to_error::deserialize::<_, T>(&mut reader) {
            // The only remaining error is text after the document.
            Ok(_) => what(&plain),
            Err(error) => {
                let path: String = error
                    .path()
                    .to_string()
                    .chars()
                    .take(FIELD_CHARS_MAX)
                    .collect();
                let what = what(error.inner());
                if path == "." {
                    what
                } else {
                    format!("field `{path}`: {what}")
                }
            }
        }
    })
}

/// Reads a configuration. It belongs to the operator, unlike a message, so its errors show everything.
///
/// # Errors
///
/// A sentence that names the field that is unknown, missing or malformed.
pub(crate) fn read_config<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    let mut unknown = Vec::new();
    let mut reader = serde_json::Deserializer::from_str(json);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut reader, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
    let config = read.map_err(|error: serde_json::Error| match track.path().to_string() {
        path if path == "." => format!("the configuration is malformed: {error}"),
        path => format!("the configuration's `{path}` is malformed: {error}"),
    })?;
    reader
        .end()
        .map_err(|error| format!("the configuration is malformed: {error}"))?;
    if unknown.is_empty() {
        return Ok(config);
    }
    Err(format!(
        "the configuration has fields that the plugin does not know: {}",
        unknown.join(", ")
    ))
}

/// The part of serde's error that comes from our types, not from the sender.
fn what(error: &serde_json::Error) -> String {
    let full = error.to_string();
    let text = full
        .rsplit_once(" at line ")
        .map_or(full.as_str(), |(text, _)| text);
    if text.starts_with("missing field `") {
        return text.to_owned();
    }
    match text.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None if error.is_data() => "not what the plugin expects".to_owned(),
        None => "not one JSON document".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Config {
        limit: u32,
        mail: Mail,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Mail {
        host: String,
    }

    #[derive(Debug, Deserialize)]
    struct Order {
        #[expect(dead_code, reason = "only reading it is tested")]
        lines: Vec<Line>,
    }

    #[derive(Debug, Deserialize)]
    struct Line {
        #[expect(dead_code, reason = "only reading it is tested")]
        count: u32,
    }

    #[test]
    fn an_error_names_the_field_and_hides_its_value() {
        for (json, sentence) in [
            (
                r#"{"lines": [{"count": 1}, {"count": "s3cret, expected"}]}"#,
                "field `lines[1].count`: expected u32",
            ),
            (
                r#"{"lines": [{}]}"#,
                "field `lines[0]`: missing field `count`",
            ),
            (r#"{"other": 1}"#, "missing field `lines`"),
            (r#"{"lines": []} s3cret"#, "not one JSON document"),
            (r#"{"lines": "#, "field `lines`: not one JSON document"),
        ] {
            assert_eq!(read::<Order>(json).expect_err(json), sentence);
        }
    }

    #[test]
    fn an_empty_configuration_is_the_default_one() {
        assert_eq!(read_config::<Config>("{}"), Ok(Config::default()));
    }

    #[test]
    fn every_unknown_field_of_a_configuration_is_named() {
        assert_eq!(
            read_config::<Config>(r#"{"limit": 1, "limits": 2, "mail": {"hots": "x"}}"#),
            Err(
                "the configuration has fields that the plugin does not know: limits, mail.hots"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_malformed_field_of_a_configuration_is_named() {
        let error =
            read_config::<Config>(r#"{"mail": {"host": 7}}"#).expect_err("a number is no host");
        assert!(
            error.starts_with("the configuration's `mail.host` is malformed"),
            "{error}"
        );
        assert!(read_config::<Config>("{} {}").is_err());
        assert!(read_config::<Config>("").is_err());
    }
}
