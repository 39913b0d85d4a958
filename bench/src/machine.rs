//! What a figure is worthless without: the machine and the versions it was measured with.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::contender::Contender;
use crate::database;
use crate::subject::Stage;

/// Machine and versions, as far as they can be found out.
pub(crate) fn describe(stage: &Stage) -> Value {
    json!({
        "machine": {
            "processor": after_colon("/proc/cpuinfo", "model name"),
            "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            "memory": after_colon("/proc/meminfo", "MemTotal"),
            "kernel": first_line("/proc/sys/kernel/osrelease"),
            "system": quoted("/etc/os-release", "PRETTY_NAME="),
        },
        "versions": versions(stage),
    })
}

fn versions(stage: &Stage) -> Value {
    let spring = |tag: &str| {
        let pom = fs::read_to_string(stage.contenders().join("spring/pom.xml")).ok()?;
        let (_, rest) = pom.split_once(&format!("<{tag}>"))?;
        Some(rest.split('<').next()?.to_owned())
    };
    json!({
        "commit": said(Command::new("git").args(["rev-parse", "--short", "HEAD"])),
        "taskhost": said(Command::new(stage.program(Contender::Taskhost.program().unwrap_or_default())).arg("--version")),
        "kafka": kafka(stage.kafka_libs()),
        "java": said(Command::new("java").arg("--version")),
        "postgres": database::version(&stage.database_url("postgres")).ok(),
        "librdkafka": rdkafka::util::get_rdkafka_version().1,
        "node": said(Command::new("node").arg("--version")),
        "kafkajs": node_module(stage.contenders(), "kafkajs"),
        "pg": node_module(stage.contenders(), "pg"),
        "spring-boot": spring("version"),
        "spring-kafka": spring("spring-kafka.version"),
    })
}

fn kafka(libs: &Path) -> Option<String> {
    fs::read_dir(libs).ok()?.flatten().find_map(|file| {
        let name = file.file_name().to_string_lossy().into_owned();
        let version = name.strip_prefix("kafka_2.13-")?.strip_suffix(".jar")?;
        Some(version.to_owned())
    })
}

fn node_module(contenders: &Path, name: &str) -> Option<String> {
    let path = contenders
        .join("node_modules")
        .join(name)
        .join("package.json");
    let package: Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    Some(package.get("version")?.as_str()?.to_owned())
}

/// The first line that a command says.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().next()?.trim().to_owned())
}

fn first_line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next()?.to_owned())
}

fn after_colon(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn quoted(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_matches('"').to_owned())
}
