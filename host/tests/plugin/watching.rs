//! The plugin directory: however a file gets there, it is offered once, whole.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use taskhost::plugin::{Timing, Watcher};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::{Setting, catalog, guest, until};

/// A directory that is watched until the test ends.
struct Watched {
    setting: Setting,
    directory: TempDir,
    stop: CancellationToken,
}

impl Watched {
    fn start(timing: Timing) -> Self {
        let setting = catalog("swap", "swap", "{}");
        let directory = TempDir::new().expect("there is room for a directory");
        let watched = Self {
            setting,
            directory,
            stop: CancellationToken::new(),
        };
        let watcher = Watcher::new(
            watched.setting.catalog.clone(),
            watched.path(),
            "a test",
            timing,
        );
        tokio::spawn(watcher.run(watched.stop.clone()));
        watched
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn version(&self) -> Option<String> {
        self.setting
            .catalog
            .current(0)
            .map(|active| active.version.version.clone())
    }

    fn activations(&self) -> usize {
        self.setting.versions.history("swap").len()
    }

    async fn until_version(&self, version: &str) {
        until(&format!("version {version} decides"), || {
            self.version().as_deref() == Some(version)
        })
        .await;
    }

    fn rename_into_place(&self, name: &str) {
        let temporary = self.path().join(".swap.wasm.tmp");
        fs::write(&temporary, guest(name)).expect("it can be written");
        fs::rename(temporary, self.path().join("swap.wasm")).expect("it can be renamed");
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Only notifications: the rescan would come too late for any test.
fn by_notification() -> Timing {
    Timing {
        rescan: Duration::from_secs(3_600),
        ..Timing::default()
    }
}

#[tokio::test]
async fn a_rename_into_place_swaps_without_waiting_for_a_rescan() {
    let watched = Watched::start(by_notification());
    // The watcher may still be looking around; the first file is found either way.
    watched.rename_into_place("guest_swap_v1");
    watched.until_version("1.0.0").await;
    watched.rename_into_place("guest_swap_v2");
    watched.until_version("2.0.0").await;
    assert_eq!(watched.activations(), 2);
    assert_eq!(watched.setting.catalog.refusals(0), []);
}

#[tokio::test]
async fn a_burst_of_writes_is_one_offer_of_the_whole_file() {
    let watched = Watched::start(Timing {
        rescan: Duration::from_millis(300),
        ..Timing::default()
    });
    let bytes = guest("guest_swap_v1");
    let mut file = fs::File::create(watched.path().join("swap.wasm")).expect("it can be made");
    // Some pauses are longer than it takes to settle, so halves are looked at, too.
    for (number, piece) in bytes.chunks(bytes.len() / 6).enumerate() {
        file.write_all(piece).expect("it can be written");
        file.sync_all().expect("it can be written");
        let pause = if number % 2 == 0 { 50 } else { 450 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    watched.until_version("1.0.0").await;
    assert_eq!(watched.activations(), 1);
    assert_eq!(
        watched.setting.catalog.refusals(0),
        [],
        "a half-written file is not refused"
    );
}

#[tokio::test]
async fn temporary_and_foreign_files_are_never_looked_at() {
    let watched = Watched::start(Timing {
        rescan: Duration::from_millis(50),
        ..Timing::default()
    });
    for name in [
        "swap.wasm~",
        ".swap.wasm.swp",
        "4913",
        "swap.wasm.tmp",
        "other.wasm",
        "swap.txt",
    ] {
        fs::write(watched.path().join(name), b"not a component").expect("it can be written");
    }
    watched.rename_into_place("guest_swap_v1");
    watched.until_version("1.0.0").await;
    assert_eq!(watched.setting.catalog.refusals(0), []);
}

#[tokio::test]
async fn a_broken_file_is_refused_once_and_its_repair_is_taken() {
    let watched = Watched::start(Timing {
        settle_broken: Duration::from_millis(300),
        rescan: Duration::from_millis(50),
        ..Timing::default()
    });
    watched.rename_into_place("guest_swap_v1");
    watched.until_version("1.0.0").await;
    fs::write(watched.path().join("swap.wasm"), b"broken").expect("it can be written");
    until("the file is refused", || {
        !watched.setting.catalog.refusals(0).is_empty()
    })
    .await;
    assert_eq!(watched.version().as_deref(), Some("1.0.0"));
    watched.rename_into_place("guest_swap_v2");
    watched.until_version("2.0.0").await;
    let refused = watched
        .setting
        .heard
        .all()
        .iter()
        .filter(|told| told.contains("refused"))
        .count();
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn a_removed_file_changes_nothing_and_its_return_neither() {
    let watched = Watched::start(Timing {
        rescan: Duration::from_millis(50),
        ..Timing::default()
    });
    watched.rename_into_place("guest_swap_v1");
    watched.until_version("1.0.0").await;
    fs::remove_file(watched.path().join("swap.wasm")).expect("it can be removed");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(watched.version().as_deref(), Some("1.0.0"));
    watched.rename_into_place("guest_swap_v1");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(
        (watched.version().as_deref(), watched.activations()),
        (Some("1.0.0"), 1)
    );
}

#[tokio::test]
async fn a_swapped_symbolic_link_is_a_change_of_the_files_behind_it() {
    let watched = Watched::start(by_notification());
    // As Kubernetes lays a ConfigMap out: file -> ..data/file, ..data -> a directory of one revision.
    for (revision, name) in [("..1", "guest_swap_v1"), ("..2", "guest_swap_v2")] {
        fs::create_dir(watched.path().join(revision)).expect("it can be made");
        fs::write(watched.path().join(revision).join("swap.wasm"), guest(name))
            .expect("it can be written");
    }
    symlink("..1", watched.path().join("..data")).expect("it can be linked");
    symlink("..data/swap.wasm", watched.path().join("swap.wasm")).expect("it can be linked");
    watched.until_version("1.0.0").await;
    symlink("..2", watched.path().join("..data_tmp")).expect("it can be linked");
    fs::rename(
        watched.path().join("..data_tmp"),
        watched.path().join("..data"),
    )
    .expect("it can be renamed");
    watched.until_version("2.0.0").await;
}

#[tokio::test]
async fn a_lost_notification_costs_a_rescan() {
    let setting = catalog("swap", "swap", "{}");
    let parent = TempDir::new().expect("there is room for a directory");
    let directory = parent.path().join("later");
    let timing = Timing {
        rescan: Duration::from_millis(100),
        ..Timing::default()
    };
    let stop = CancellationToken::new();
    // The directory does not even exist yet, so nothing can be heard of it.
    tokio::spawn(
        Watcher::new(setting.catalog.clone(), &directory, "a test", timing).run(stop.clone()),
    );
    tokio::time::sleep(Duration::from_millis(150)).await;
    fs::create_dir(&directory).expect("it can be made");
    fs::write(directory.join("swap.wasm"), guest("guest_swap_v1")).expect("it can be written");
    until("it decides", || setting.catalog.current(0).is_some()).await;
    stop.cancel();
}

#[tokio::test]
async fn a_file_is_offered_again_when_the_versions_are_back() {
    let watched = Watched::start(Timing {
        rescan: Duration::from_millis(100),
        ..Timing::default()
    });
    watched.setting.versions.set_unavailable(true);
    watched.rename_into_place("guest_swap_v1");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(watched.version(), None);
    watched.setting.versions.set_unavailable(false);
    watched.until_version("1.0.0").await;
}

#[tokio::test]
async fn at_the_start_every_file_is_offered_at_once() {
    let setting = catalog("swap", "swap", "{}");
    let directory = TempDir::new().expect("there is room for a directory");
    fs::write(directory.path().join("swap.wasm"), guest("guest_swap_v1"))
        .expect("it can be written");
    let mut watcher = Watcher::new(
        setting.catalog.clone(),
        directory.path(),
        "a test",
        Timing::default(),
    );
    watcher.offer_all().await;
    assert!(setting.catalog.current(0).is_some());
}
