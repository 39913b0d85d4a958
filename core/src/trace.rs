//! The trace a cause belongs to, as W3C Trace Context names it (<https://www.w3.org/TR/trace-context/>).

use serde::{Deserialize, Serialize};

/// What a record says of its trace, before anybody reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceHint {
    /// Record header `traceparent`.
    pub traceparent: Option<String>,
    /// Record header `tracestate`.
    pub tracestate: Option<String>,
    /// Meta field `traceId`, as it came.
    pub trace_id: Option<String>,
    /// Meta field `spanId`, as it came.
    pub span_id: Option<String>,
}

/// The trace of a cause and the span in which it is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// 32 lower-case hexadecimal digits.
    pub trace_id: String,
    /// The span of this decision: 16 lower-case hexadecimal digits.
    pub span_id: String,
    /// W3C trace flags; bit 0 is "sampled".
    pub flags: u8,
    /// W3C `tracestate`, passed on as it came.
    pub tracestate: Option<String>,
    /// A `traceId` that is no W3C trace id, kept as it came.
    pub foreign: Option<String>,
}

impl Trace {
    /// The `traceparent` header of version 00.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}
