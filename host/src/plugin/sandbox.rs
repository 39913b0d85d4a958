//! The only place that creates stores, which hold instances. It sets every limit.
//!
//! A new store has no epoch deadline, no limiter, and generous copying limits. So nothing else in the host creates one.

use std::time::Duration;

use wasmtime::Store;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bindings::Plugin;
use super::bindings::taskhost::plugin::{logging, types};
use super::engine::{Engine, TICK};
use super::limiter::Limiter;
use super::lines::Lines;
use super::wasi;

/// The most handles of streams, timers and the like that an instance may hold at once. Each costs the host memory.
const HANDLES_MAX: usize = 1000;

/// Bytes of a descriptor, counted like an answer.
const DESCRIPTOR_BYTES_MAX: usize = 1 << 20;

/// The host's data for one instance.
pub(super) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    limiter: Limiter,
    lines: Lines,
}

impl State {
    pub(super) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl types::Host for State {}

impl logging::Host for State {
    fn log(
        &mut self,
        level: logging::Level,
        cause: Option<u32>,
        message: String,
    ) -> wasmtime::Result<()> {
        self.lines.push(level, cause, &message);
        Ok(())
    }
}

/// Everything that a plugin can import.
pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker)?;
    Plugin::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// A store with every limit set, ready to instantiate and configure.
pub(super) fn store(engine: &Engine) -> Store<State> {
    let limits = engine.limits();
    let lines = Lines::new(limits.log_lines_max);
    let mut table = ResourceTable::new();
    table.set_max_capacity(HANDLES_MAX);
    let state = State {
        wasi: wasi::context(&lines),
        table,
        limiter: Limiter::new(limits),
        lines,
    };
    let mut store = Store::new(engine.inner(), state);
    store.limiter(|state| &mut state.limiter);
    store.set_max_component_handles(HANDLES_MAX);
    store.epoch_deadline_trap();
    allow(&mut store, limits.configure_deadline, DESCRIPTOR_BYTES_MAX);
    store
}

/// Sets the deadline of the next call, and the largest size of its answer.
pub(super) fn allow(store: &mut Store<State>, deadline: Duration, answer_bytes_max: usize) {
    // The first tick can come at once, so one more than the deadline has.
    let ticks = deadline
        .as_millis()
        .div_ceil(TICK.as_millis())
        .saturating_add(1);
    store.set_epoch_deadline(u64::from(u32::try_from(ticks).unwrap_or(u32::MAX)));
    store.set_hostcall_fuel(answer_bytes_max);
}
