//! The configuration from outside: what is read, what is refused, and in which words.

mod loading;
mod mapping;
mod refusing;
mod routing;

use std::path::Path;

use super::{Config, ConfigErrors, Loaded};

/// Loads a file's text and `NAME=value` variables.
fn load(toml: &str, env: &[&str]) -> Result<Loaded, ConfigErrors> {
    let env: Vec<(String, String)> = env
        .iter()
        .map(|pair| pair.split_once('=').expect("NAME=value"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Config::parse(Some((Path::new("taskhost.toml"), toml)), env.into_iter())
}

/// Loads what is expected to be good.
fn good(toml: &str, env: &[&str]) -> Loaded {
    match load(toml, env) {
        Ok(loaded) => loaded,
        Err(errors) => panic!("{errors}"),
    }
}

/// The complaint about what is expected to be bad.
fn bad(toml: &str, env: &[&str]) -> String {
    load(toml, env)
        .map(|_| ())
        .expect_err("a bad configuration")
        .to_string()
}
