//! Versions of a plugin with the same rules: a custom section changes a component's digest and nothing else.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use taskhost_tests::World;

/// A plugin that is replaced by another version again and again, each time by one that was never there: a file never
/// brings a version back.
pub(crate) struct Versions {
    file: PathBuf,
    temporary: PathBuf,
    original: Vec<u8>,
    made: u32,
}

impl Versions {
    /// Of an installed plugin.
    pub(crate) fn of(world: &World, plugin: &str) -> Result<Self> {
        let file = world.plugin_dir().join(format!("{plugin}.wasm"));
        let original = fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
        let temporary = world.dir().join(format!(".{plugin}"));
        Ok(Self {
            file,
            temporary,
            original,
            made: 0,
        })
    }

    /// Puts the next one in its place in one step, as a deployment should.
    pub(crate) fn swap(&mut self) -> Result<()> {
        self.made += 1;
        let mut bytes = self.original.clone();
        bytes.extend(custom_section("chaos", &self.made.to_be_bytes()));
        fs::write(&self.temporary, bytes).context("can't write the next version")?;
        fs::rename(&self.temporary, &self.file).context("can't put the next version in its place")
    }
}

/// Id 0, size, name, bytes: <https://webassembly.github.io/spec/core/binary/modules.html#custom-section>. A component has
/// them in the same form. All lengths here are below 128, so that each is one byte of LEB128.
fn custom_section(name: &str, bytes: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).ok();
        length.filter(|length| *length < 128).expect("a short text")
    };
    let mut content = vec![length(name.as_bytes())];
    content.extend(name.as_bytes());
    content.extend(bytes);
    let mut section = vec![0, length(&content)];
    section.extend(content);
    section
}
