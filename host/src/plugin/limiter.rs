//! Refuses memory beyond the limit, at the instruction that asks for it.
//!
//! WebAssembly lets a guest continue when memory is refused. Here the guest ends instead: the fault says what happened and
//! its backtrace says where. Otherwise the guest would panic somewhere later.

use wasmtime::ResourceLimiter;

use super::limits::Limits;

/// Instances, memories and tables of one store, each: the pooling allocator allows a component fewer.
const PARTS_MAX: usize = 64;

/// Why a guest was ended when it asked for memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Exhausted {
    /// Linear memory.
    #[error("it asked for {asked} bytes of memory, at most {bytes_max} are allowed")]
    Memory { asked: usize, bytes_max: usize },
    /// A table.
    #[error("it asked for a table of {asked} elements, at most {elements_max} are allowed")]
    Table { asked: usize, elements_max: usize },
    /// The machine had no memory, or the module's own maximum was reached.
    #[error("its memory could not grow: {reason}")]
    Growth { reason: String },
}

/// Counts the bytes of all memories of one store.
#[derive(Debug)]
pub(super) struct Limiter {
    memory_bytes: usize,
    memory_bytes_max: usize,
    table_elements_max: usize,
}

impl Limiter {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes: 0,
            memory_bytes_max: limits.memory_bytes_max,
            table_elements_max: limits.table_elements_max,
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let asked = self
            .memory_bytes
            .saturating_add(desired.saturating_sub(current));
        if asked > self.memory_bytes_max {
            return Err(Exhausted::Memory {
                asked,
                bytes_max: self.memory_bytes_max,
            }
            .into());
        }
        self.memory_bytes = asked;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Exhausted::Growth {
            reason: format!("{error:#}"),
        }
        .into())
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.table_elements_max {
            return Err(Exhausted::Table {
                asked: desired,
                elements_max: self.table_elements_max,
            }
            .into());
        }
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Exhausted::Growth {
            reason: format!("{error:#}"),
        }
        .into())
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}
