//! Two versions of a plugin with the same rules: a custom section changes a component's digest and nothing else.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use taskhost_tests::World;

/// A plugin that is replaced by its other version, and back.
pub(crate) struct Versions {
    file: PathBuf,
    temporary: PathBuf,
    /// The one that is not there.
    other: Vec<u8>,
}

impl Versions {
    /// Of an installed plugin.
    pub(crate) fn of(world: &World, plugin: &str) -> Result<Self> {
        let file = world.plugin_dir().join(format!("{plugin}.wasm"));
        let mut other =
            fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
        other.extend(custom_section("chaos", b"the same rules"));
        let temporary = world.dir().join(format!(".{plugin}"));
        Ok(Self {
            file,
            temporary,
            other,
        })
    }

    /// Puts the other one in its place in one step, as a deployment should.
    pub(crate) fn swap(&mut self) -> Result<()> {
        let before =
            fs::read(&self.file).with_context(|| format!("can't read {}", self.file.display()))?;
        fs::write(&self.temporary, &self.other).context("can't write the other version")?;
        fs::rename(&self.temporary, &self.file)
            .context("can't put the other version in its place")?;
        self.other = before;
        Ok(())
    }
}

/// Id 0, size, name, bytes: <https://webassembly.github.io/spec/core/binary/modules.html#custom-section>. A component has
/// them in the same form. All lengths here are below 128, so that each is one byte of LEB128.
fn custom_section(name: &str, bytes: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| {
        u8::try_from(bytes.len())
            .ok()
            .filter(|length| *length < 128)
            .expect("a short text")
    };
    let mut content = vec![length(name.as_bytes())];
    content.extend(name.as_bytes());
    content.extend(bytes);
    let mut section = vec![0, length(&content)];
    section.extend(content);
    section
}
