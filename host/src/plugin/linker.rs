//! What a plugin can import.

use wasmtime::component::{HasSelf, Linker};

use super::bindings::Plugin;
use super::state::State;
use super::wasi;

/// Everything that a plugin can import.
pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker)?;
    Plugin::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}
