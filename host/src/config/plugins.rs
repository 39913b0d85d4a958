//! The settings of plugins: their files and their limits.

use std::path::PathBuf;
use std::time::Duration;

use super::input::Input;
use super::section::section;
use super::value::Share;

section! {
    /// The plugins' files and limits.
    pub struct Plugins in "plugins" {
        /// Directory of the plugins' files; a route's plugin `x` is `x.wasm` in it.
        dir: PathBuf = "plugins", "TASKHOST_PLUGINS_DIR" => "the catalog of plugins";
        /// Directory for compiled plugins. Only this host may write there.
        cache_dir: PathBuf = ".taskhost/cache", "TASKHOST_PLUGINS_CACHE_DIR" => "the cache of compiled plugins";
        /// Whether a new or changed file in the directory is activated automatically.
        watch: bool = "true", "TASKHOST_PLUGINS_WATCH" => "the watcher of the directory";
        /// How often the host asks the database whether another version was activated. Normally a notification arrives at
        /// once; this interval is for a lost one. In any case each batch checks it before its commit.
        poll_interval: Duration = "1000" [100..=3600000], "TASKHOST_PLUGINS_POLL_INTERVAL" => "the poll of the activations";
        /// The memory that one batch may use.
        memory_bytes_max: u64 = "67108864" [1048576..=4294967296 bytes], "TASKHOST_PLUGINS_MEMORY_BYTES_MAX"
            => "the limit of a plugin's linear memory";
        /// How long one call of a plugin may take for one message. A batch gets 5 ms more for each of its messages. The limit
        /// is far below the 10 s after which Postgres ends an idle transaction.
        decide_deadline: Duration = "1000" [1..=5000], "TASKHOST_PLUGINS_DECIDE_DEADLINE" => "the epoch deadline";
        /// The share of batches that are decided again, message by message, to find an impure plugin. Each route with traffic
        /// has at least one such batch a minute; 0 turns it off.
        purity_sample: Share = "0.01", "TASKHOST_PLUGINS_PURITY_SAMPLE" => "the sample of the purity check";
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
            input.add_contradiction(
                &["plugins.dir", "plugins.cache_dir"],
                "plugins.dir and plugins.cache_dir are the same directory",
                "set TASKHOST_PLUGINS_CACHE_DIR to a directory of its own",
            );
        }
    }
}
