//! The host's side of an instance: what it may hold, and what it writes.

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bindings::taskhost::plugin::{logging, types};
use super::limiter::Limiter;
use super::limits::Limits;
use super::lines::Lines;

/// The most handles of streams, timers and the like that an instance may hold at once. Each costs the host memory.
pub(super) const HANDLES_MAX: usize = 1000;

/// The host's data for one instance.
pub(super) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    limiter: Limiter,
    lines: Lines,
}

impl State {
    pub(super) fn new(wasi: WasiCtx, limits: &Limits, lines: Lines) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        Self {
            wasi,
            table,
            limiter: Limiter::new(limits),
            lines,
        }
    }

    pub(super) fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.limiter
    }

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
