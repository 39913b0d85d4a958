//! No circle of imports: what a module needs never needs the module, so each can be read after what it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::modules::{Names, Tree};
use crate::{none, root, tracked};

/// The crates of the workspace, by their folder.
const CRATES: [&str; 5] = ["core", "host", "sim", "bench", "tests"];

type Graph = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

#[test]
fn no_modules_need_each_other() {
    let mut circles = Vec::new();
    for root in roots() {
        circles.extend(circles_of(&by_file(&Tree::load(&root))));
    }
    none(&circles);
}

#[test]
fn no_folders_of_the_host_need_each_other() {
    none(&circles_of(&by_folder(&Tree::load(
        &root().join("host/src/lib.rs"),
    ))));
}

#[test]
fn a_circle_is_seen() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tidy/circle/lib.rs");
    let circles = circles_of(&by_file(&Tree::load(&fixture)));
    assert_eq!(circles.len(), 1, "{circles:?}");
    assert!(circles[0].contains("left.rs -> core/tests/tidy/circle/right.rs"));
}

/// The root file of each library, program and test of the workspace.
fn roots() -> Vec<PathBuf> {
    let sources = tracked(".rs");
    let of = |krate: &str| {
        let folder = root().join(krate);
        let is_root = |path: &PathBuf| {
            let Ok(inside) = path.strip_prefix(&folder) else {
                return false;
            };
            let inside: Vec<_> = inside.iter().filter_map(|part| part.to_str()).collect();
            matches!(
                inside.as_slice(),
                ["src", "lib.rs" | "main.rs"]
                    | ["src", "bin", _]
                    | ["src", "bin", _, "main.rs"]
                    | ["tests" | "benches", _]
                    | ["tests" | "benches", _, "main.rs"]
            )
        };
        let found: Vec<PathBuf> = sources
            .iter()
            .filter(|path| is_root(path))
            .cloned()
            .collect();
        assert!(
            sources.is_empty() || !found.is_empty(),
            "no crate in {krate}"
        );
        found
    };
    CRATES.iter().flat_map(|krate| of(krate)).collect()
}

fn by_file(tree: &Tree) -> Graph {
    assert!(!tree.modules.is_empty(), "a crate without modules");
    let file = |name: &Names| crate::name(&tree.modules[name].file);
    let mut graph = Graph::new();
    for (from, needs) in tree.edges() {
        let to = needs.into_iter().map(|(to, names)| (file(to), names));
        graph.insert(file(from), to.collect());
    }
    graph
}

/// The crate's modules of the first level, each with all below it.
fn by_folder(tree: &Tree) -> Graph {
    let mut graph = Graph::new();
    for (from, needs) in tree.edges() {
        let Some(folder) = from.first() else {
            continue;
        };
        let own = graph.entry(folder.clone()).or_default();
        for (to, names) in needs {
            let Some(other) = to.first().filter(|other| *other != folder) else {
                continue;
            };
            let (to, from) = (to.join("::"), from.join("::"));
            let names = names.iter().map(|name| format!("{to}::{name} in {from}"));
            own.entry(other.clone()).or_default().extend(names);
        }
    }
    assert!(graph.len() > 5, "only {} folders", graph.len());
    graph
}

/// Each set of nodes that reach each other, with the edges between them.
fn circles_of(graph: &Graph) -> Vec<String> {
    let reached: BTreeMap<&String, BTreeSet<&String>> = graph
        .keys()
        .map(|from| (from, reach(graph, from)))
        .collect();
    let mut told: BTreeSet<&String> = BTreeSet::new();
    let mut circles = Vec::new();
    for from in graph.keys() {
        if told.contains(from) || !reached[from].contains(from) {
            continue;
        }
        let mates: BTreeSet<&String> = graph
            .keys()
            .filter(|to| reached[from].contains(to) && reached[*to].contains(from))
            .collect();
        let mut lines = vec![format!("{} need each other:", mates.len())];
        for a in &mates {
            for (b, names) in graph[*a].iter().filter(|(b, _)| mates.contains(b)) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                lines.push(format!("    {a} -> {b}: {}", names.join(", ")));
            }
        }
        circles.push(lines.join("\n  "));
        told.extend(mates);
    }
    circles
}

/// All that can be reached from here, and this only if a way leads back.
fn reach<'g>(graph: &'g Graph, from: &String) -> BTreeSet<&'g String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&String> = graph[from].keys().collect();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(graph.get(next).into_iter().flat_map(BTreeMap::keys));
        }
    }
    found
}
