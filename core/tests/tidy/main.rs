//! The rules of the house that a compiler doesn't check: module docs, short files and functions, no circles of imports,
//! links that lead somewhere.

mod circles;
mod modules;
mod sizes;

use std::path::{Path, PathBuf};
use std::process::Command;

/// What would make `taskhost-core` touch the world: runtimes, clients, and the crates that bring them.
const IMPURE: [&str; 14] = [
    "axum", "futures", "hyper", "nix", "notify", "rand", "rdkafka", "reqwest", "sqlx", "taskhost",
    "tokio", "ureq", "wasmtime", "wit",
];

/// The checkout.
fn root() -> PathBuf {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    core.parent().expect("core has a parent").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Tracked files that are there, with this ending. The sources without their repository have no list of them, and
/// then there is nothing to check.
fn tracked(ending: &str) -> Vec<PathBuf> {
    if !root().join(".git").exists() {
        return Vec::new();
    }
    let list = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output()
        .expect("a repository has git");
    let files: Vec<PathBuf> = String::from_utf8_lossy(&list.stdout)
        .split('\0')
        .filter(|name| name.ends_with(ending))
        .map(|name| root().join(name))
        .filter(|path| path.is_file())
        .collect();
    let complaint = String::from_utf8_lossy(&list.stderr);
    assert!(!files.is_empty(), "git lists no {ending}: {complaint}");
    files
}

/// Fails with every problem at once.
fn none(problems: &[String]) {
    assert!(problems.is_empty(), "\n  {}\n", problems.join("\n  "));
}

fn name(path: &Path) -> String {
    let short = path.strip_prefix(root()).unwrap_or(path);
    short.display().to_string()
}

#[test]
fn every_source_file_says_first_what_it_is() {
    let silent = tracked(".rs")
        .into_iter()
        .filter(|path| !read(path).starts_with("//!"));
    none(
        &silent
            .map(|path| format!("{} does not start with //!", name(&path)))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for page in tracked(".md") {
        let folder = page.parent().expect("a file has a folder").to_owned();
        for link in links(&read(&page)) {
            let (target, anchor) = match link.split_once('#') {
                Some((target, anchor)) => (target, Some(anchor)),
                None => (link.as_str(), None),
            };
            let file = if target.is_empty() {
                page.clone()
            } else {
                folder.join(target)
            };
            let found = match anchor {
                Some(anchor) if file.is_file() => anchors(&read(&file)).any(|a| a == anchor),
                _ => file.exists(),
            };
            if !found {
                broken.push(format!("{}: {link}", name(&page)));
            }
        }
    }
    none(&broken);
}

#[test]
fn sources_that_the_documents_name_exist() {
    let (mut named, mut missing) = (0, Vec::new());
    for page in tracked(".md") {
        for path in sources_named(&read(&page)) {
            named += 1;
            if !root().join(path).is_file() {
                missing.push(format!("{}: {path}", name(&page)));
            }
        }
    }
    none(&missing);
    assert!(named > 10 || !root().join(".git").exists(), "{named} found");
}

#[test]
fn make_targets_of_the_documents_exist() {
    let makefile = read(&root().join("Makefile"));
    let mut missing = Vec::new();
    for page in ["README.md", "CONTRIBUTING.md"] {
        for target in targets(&read(&root().join(page))) {
            if !makefile
                .lines()
                .any(|line| line.starts_with(&format!("{target}:")))
            {
                missing.push(format!("{page}: make {target}"));
            }
        }
    }
    none(&missing);
}

#[test]
fn core_depends_on_nothing_that_touches_the_world() {
    let manifest = read(&root().join("core/Cargo.toml"));
    let all = manifest
        .split("[dependencies]")
        .nth(1)
        .expect("dependencies");
    let section = all.split("\n[").next().expect("a section");
    let names = section
        .lines()
        .filter_map(|line| line.split(['.', '=', ' ']).next());
    let impure = names.filter(|name| {
        IMPURE
            .iter()
            .any(|bad| name == bad || name.starts_with(&format!("{bad}-")))
    });
    none(
        &impure
            .map(|name| format!("core depends on {name}"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn each_foreign_library_has_one_folder_of_the_host() {
    let folders = [
        ("rdkafka", "host/src/kafka/"),
        ("wasmtime", "host/src/plugin/"),
        ("sqlx", "host/src/store/"),
        ("axum", "host/src/admin/"),
    ];
    let mut strays = Vec::new();
    for path in tracked(".rs") {
        let (file, source) = (name(&path), read(&path));
        for (library, folder) in folders {
            let names = |line: &str| line.trim_start().starts_with(&format!("use {library}"));
            if file.starts_with("host/src/")
                && !file.starts_with(folder)
                && source.lines().any(names)
            {
                strays.push(format!("{file} names {library}, which belongs to {folder}"));
            }
        }
    }
    none(&strays);
}

#[test]
fn the_c_interface_of_librdkafka_is_in_one_folder() {
    let sources = tracked(".rs");
    let kafka: Vec<&PathBuf> = sources
        .iter()
        .filter(|path| name(path).starts_with("host/src/kafka/"))
        .collect();
    assert!(sources.is_empty() || kafka.len() > 10);
    let strays = kafka
        .iter()
        .filter(|path| !name(path).starts_with("host/src/kafka/ffi/"))
        .filter(|path| read(path).contains("unsafe_code"));
    none(
        &strays
            .map(|path| format!("{} has unsafe code, which belongs to ffi/", name(path)))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn the_codes_of_dead_letters_are_documented() {
    let page = read(&root().join("docs/messages.md"));
    let faults = taskhost_core::fault::Kind::ALL.map(taskhost_core::fault::Kind::code);
    let codes: Vec<String> = ["cause.rs", "envelope.rs", "json.rs"]
        .iter()
        .flat_map(|file| codes(&read(&root().join("core/src").join(file))))
        .chain(faults.iter().map(|code| (*code).to_owned()))
        .collect();
    assert!(codes.len() > 25, "only {} codes found", codes.len());
    let missing = codes.iter().filter(|code| {
        let last = code.trim_start_matches("plugin-undeclared");
        !page.contains(&format!("`{code}`")) && !page.contains(&format!("`{last}`"))
    });
    none(
        &missing
            .map(|code| format!("docs/messages.md lacks {code}"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn the_reasons_to_halt_are_documented() {
    let page = read(&root().join("docs/http.md"));
    let codes = codes(&read(&root().join("core/src/halt.rs")));
    assert!(codes.len() > 9, "only {} codes found", codes.len());
    let missing = codes
        .iter()
        .filter(|code| !page.contains(&format!("| `{code}` |")));
    none(
        &missing
            .map(|code| format!("docs/http.md lacks {code}"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn tests_that_the_protocols_page_names_exist() {
    let sources = tracked(".rs");
    let page = read(&root().join("docs/protocol-tests.md"));
    let named: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|code| code.contains("::"))
        .collect();
    let missing = named.iter().filter(|name| {
        let (file, test) = name.split_once("::").expect("a file and a test");
        let function = format!("fn {test}(");
        !sources.iter().any(|path| {
            path.file_stem().is_some_and(|stem| stem == file) && read(path).contains(&function)
        })
    });
    none(
        &missing
            .map(|name| format!("docs/protocol-tests.md: no test {name}"))
            .collect::<Vec<_>>(),
    );
    assert!(!sources.is_empty() && !named.is_empty() || !root().join(".git").exists());
}

/// One message, from fetch to watermark: whoever reads it can follow the names, and there are few of them.
#[test]
fn functions_that_the_walk_in_the_architecture_names_are_where_it_says() {
    let page = read(&root().join("ARCHITECTURE.md"));
    let (_, walk) = page
        .split_once("## One message, from fetch to watermark")
        .expect("the walk");
    let walk = walk.split("\n## ").next().unwrap_or_default();
    let steps: Vec<(&str, &str)> = walk
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(". `")?;
            let (name, rest) = rest.split_once("` (")?;
            Some((name, rest.split_once(')')?.0))
        })
        .collect();
    let wrong = steps.iter().filter(|(name, path)| {
        let (owner, function) = name.rsplit_once("::").unwrap_or(("", name));
        let source = std::fs::read_to_string(root().join(path)).unwrap_or_default();
        let is_type = owner.starts_with(char::is_uppercase);
        let is_there = ['(', '<']
            .iter()
            .any(|next| source.contains(&format!("fn {function}{next}")));
        !is_there || (is_type && !source.contains(&format!("impl {owner} ")))
    });
    none(
        &wrong
            .map(|(name, path)| format!("ARCHITECTURE.md: {name} is not in {path}"))
            .collect::<Vec<_>>(),
    );
    assert!((5..=15).contains(&steps.len()), "{} steps", steps.len());
}

/// Relative targets of Markdown links outside code.
fn links(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(page) {
        for part in line.split("](").skip(1) {
            let target = part.split([')', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// Paths of Rust files from the checkout's root.
fn sources_named(page: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "/_-.".contains(c);
    let words = page.split(move |c| !is_part(c));
    words.filter(|word| {
        let folders = ["core/", "host/", "sim/", "bench/", "tests/"];
        word.ends_with(".rs") && folders.iter().any(|folder| word.starts_with(folder))
    })
}

/// Lines outside fenced code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The anchors that a page's headings get: lower case, spaces to hyphens, punctuation gone.
fn anchors(page: &str) -> impl Iterator<Item = String> {
    prose(page)
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
}

/// What follows `make ` at the beginning of a command or of code in a line.
fn targets(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in page.lines() {
        let spans = line.split('`').skip(1).step_by(2);
        for code in spans.chain(std::iter::once(line)) {
            let Some(rest) = code.strip_prefix("make ") else {
                continue;
            };
            let word = rest.split([' ', '#']).next().unwrap_or_default();
            if !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
                found.push(word.to_owned());
            }
        }
    }
    found
}

/// Texts that look like a code and stand where one is given.
fn codes(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let one = |part: &str| {
        let text = part.trim_start().strip_prefix('"')?.split('"').next()?;
        let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (text.contains('-') || text == "tombstone")
            .then_some(text)
            .filter(|text| text.chars().all(ok))
            .map(str::to_owned)
    };
    source
        .split("Undecodable::new(")
        .chain(source.split("=> "))
        .filter_map(one)
        .collect()
}
