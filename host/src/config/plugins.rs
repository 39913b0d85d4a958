//! Where plugins lie and how much each may use.

use std::path::PathBuf;
use std::time::Duration;

use super::input::Input;
use super::setting::section;
use super::value::Share;

section! {
    /// The plugins' files and limits.
    pub struct Plugins in "plugins" {
        /// Directory of the plugins' files; a route's plugin `x` is `x.wasm` in it.
        dir: PathBuf = "plugins", "TASKHOST_PLUGINS_DIR" => "the catalog of plugins";
        /// Directory for compiled plugins; this host alone may write there.
        cache_dir: PathBuf = ".taskhost/cache", "TASKHOST_PLUGINS_CACHE_DIR" => "the cache of compiled plugins";
        /// Whether a new or changed file in the directory is activated without being asked.
        watch: bool = "true", "TASKHOST_PLUGINS_WATCH" => "the watcher of the directory";
        /// How often the database is asked whether another version was activated. A notification tells it at once; this is
        /// for one that is lost. A batch finds out by itself anyway.
        poll_interval: Duration = "1000" [100..=3600000], "TASKHOST_PLUGINS_POLL_INTERVAL" => "the look at the activations";
        /// The memory that one batch may use.
        memory_bytes_max: u64 = "67108864" [1048576..=4294967296 bytes], "TASKHOST_PLUGINS_MEMORY_BYTES_MAX"
            => "the limit of a plugin's linear memory";
        /// How long one call of a plugin may take for one message; a batch gets 5 ms more for each of its messages.
        /// Far below the 10 s after which Postgres ends a transaction that stands still.
        decide_deadline: Duration = "1000" [1..=5000], "TASKHOST_PLUGINS_DECIDE_DEADLINE" => "the epoch deadline";
        /// The share of batches that are decided again, message by message, to find a plugin that is impure. A route with
        /// traffic has one batch a minute at least; 0 turns it off.
        purity_sample: Share = "0.01", "TASKHOST_PLUGINS_PURITY_SAMPLE" => "the sample that law 6 is watched by";
    }
}

impl Plugins {
    /// The file of the plugin with this name.
    #[must_use]
    pub fn file(&self, plugin: &str) -> PathBuf {
        self.dir.join(format!("{plugin}.wasm"))
    }

    pub(super) fn check(&self, input: &mut Input) {
        if self.dir == self.cache_dir {
            input.contradiction(
                &["plugins.dir", "plugins.cache_dir"],
                "plugins.dir and plugins.cache_dir are the same directory",
                "set TASKHOST_PLUGINS_CACHE_DIR to a directory of its own",
            );
        }
    }
}
