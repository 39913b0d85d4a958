//! Reloading for ever costs nothing, and what was compiled once is not compiled again.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use taskhost::deciders::Rule as _;
use taskhost::plugin::{
    Activated, Activation, Answer, Catalog, InMemory, Library, NewActivation, Offer, Offered,
    PluginRoute, RolledBack, SavedVersion, Versions,
};
use taskhost_core::record::TopicPartition;
use tempfile::TempDir;

use crate::support::{causes, engine, guest, quick, route, variant, works};

/// Resident memory of this process in bytes.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("it says so");
    let kilobytes = line
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse::<u64>().ok());
    kilobytes.expect("it is a number") * 1024
}

/// Versions that the reloads go round. Each is compiled once and loaded from the directory afterwards, so
/// the test takes seconds; with 500 compiled ones it was as flat and took two minutes.
const VARIANTS: u32 = 40;

#[tokio::test]
async fn five_hundred_reloads_leave_memory_flat() {
    let route = PluginRoute {
        route: route("misbehave"),
        plugin: "it".to_owned(),
        config: "{}".into(),
    };
    let directory = TempDir::new().expect("there is room for a directory");
    let compiled = directory.path().join("compiled");
    let library = Library::with_directory(engine(quick()), &compiled).expect("it can be made");
    let versions = Arc::new(WithoutBytes(InMemory::new()));
    let catalog = Catalog::new(library, versions, vec![route], HashSet::new());
    let guest = guest("guest_bad_descriptor");
    let at = TopicPartition::new("misbehave", 0);
    let mut before = 0;
    for number in 0..500 + VARIANTS {
        // The first round warms everything up.
        if number == VARIANTS {
            before = resident_bytes();
        }
        let offer = Offer {
            route: 0,
            bytes: variant(&guest, number % VARIANTS),
            config: r#"{"flaw":"none"}"#.into(),
            file: "it.wasm".to_owned(),
            by: "a test".to_owned(),
            reason: "again".to_owned(),
            force: true,
            despite_rollback: false,
            seen: None,
        };
        assert!(matches!(
            catalog.offer(offer).await,
            Ok(Offered::Activated(_))
        ));
        let active = catalog.current(0).expect("something is active");
        let causes = causes("misbehave", &active.descriptor, &[json!({"id": "a"})]);
        active
            .decide(&works(&causes), &at, false)
            .expect("it answers");
    }
    assert_eq!(
        catalog.library().used_count(),
        1,
        "replaced components are dropped"
    );
    let after = resident_bytes();
    let (from, to) = (before / 1024, after / 1024);
    println!("500 reloads: {from} KiB resident before, {to} KiB after");
    // One compiled version of this guest has about 1 MiB, so a leak of one in ten would show.
    assert!(
        after < before + (48 << 20),
        "500 reloads grew the process from {before} to {after} bytes"
    );
}

/// Keeps no bytes, as a host's own memory doesn't.
struct WithoutBytes(InMemory);

impl Versions for WithoutBytes {
    fn current<'a>(&'a self, route: &'a str) -> Answer<'a, Option<Activation>> {
        self.0.current(route)
    }

    fn is_superseded<'a>(
        &'a self,
        route: &'a str,
        digest: &'a str,
        config: &'a str,
    ) -> Answer<'a, bool> {
        self.0.is_superseded(route, digest, config)
    }

    fn rolled_back<'a>(
        &'a self,
        route: &'a str,
        digest: &'a str,
        config: &'a str,
    ) -> Answer<'a, Option<RolledBack>> {
        self.0.rolled_back(route, digest, config)
    }

    fn before<'a>(&'a self, route: &'a str, number: i64) -> Answer<'a, Option<Activation>> {
        self.0.before(route, number)
    }

    fn save(&self, version: SavedVersion) -> Answer<'_, ()> {
        self.0.save(SavedVersion {
            bytes: [].into(),
            ..version
        })
    }

    fn bytes<'a>(&'a self, digest: &'a str) -> Answer<'a, Option<Arc<[u8]>>> {
        self.0.bytes(digest)
    }

    fn activate(&self, new: NewActivation) -> Answer<'_, Activated> {
        self.0.activate(new)
    }
}

fn only_file(directory: &Path) -> std::path::PathBuf {
    let mut files = fs::read_dir(directory)
        .expect("it can be listed")
        .map(|entry| entry.expect("it is there").path());
    let file = files.next().expect("there is a file");
    assert_eq!(files.next(), None);
    file
}

#[test]
fn compiled_code_is_kept_and_only_trusted_when_it_is_this_hosts_own() {
    let directory = TempDir::new().expect("there is room for a directory");
    let path = directory.path().join("compiled");
    let open = || Library::with_directory(engine(quick()), &path).expect("it can be made");
    let bytes = guest("guest_swap_v1");
    let started = Instant::now();
    let digest = open()
        .open(&bytes)
        .expect("it is a plugin")
        .digest()
        .to_owned();
    let compiled_in = started.elapsed();
    let file = only_file(&path);
    let mode = |path: &Path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!((mode(&path), mode(&file)), (0o700, 0o600));

    // Another process finds it without the component's bytes.
    let started = Instant::now();
    let found = open().find(&digest).expect("it was compiled before");
    println!(
        "compiled in {compiled_in:?}, loaded in {:?}",
        started.elapsed()
    );
    assert!(found.describe("{}").is_ok());

    // Somebody else could have written it.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).expect("it can be set");
    assert!(open().find(&digest).is_none());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it can be set");
    assert!(open().find(&digest).is_some());

    // It is damaged.
    let mut damaged = fs::read(&file).expect("it can be read");
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&file, damaged).expect("it can be written");
    let library = open();
    assert!(library.find(&digest).is_none());
    assert!(library.open(&bytes).is_ok(), "it is compiled again");
    assert!(open().find(&digest).is_some(), "and kept again");

    // It is a link to somewhere else.
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(&file, &elsewhere).expect("it can be moved");
    std::os::unix::fs::symlink(&elsewhere, &file).expect("it can be linked");
    assert!(open().find(&digest).is_none());
}

#[test]
fn one_component_is_compiled_once_however_often_it_is_opened() {
    let library = Library::new(engine(quick()));
    let bytes = guest("guest_swap_v1");
    let first = library.open(&bytes).expect("it is a plugin");
    let second = library.open(&bytes).expect("it is a plugin");
    assert!(Arc::ptr_eq(&first, &second));
    drop((first, second));
    assert!(
        library.find(&taskhost::plugin::digest(&bytes)).is_none(),
        "nobody uses it"
    );
}
