//! Between core's trace and the propagators': what a record says, and the span in which it is decided.

use taskhost_core::trace::{Trace, TraceHint};

use crate::telemetry::trace::TraceContext;

/// The trace of a message, in a span of its own.
pub(crate) fn of_hint(hint: &TraceHint) -> Trace {
    let header = |name: &str, value: &Option<String>| {
        value
            .clone()
            .map(|value| (name.to_owned(), Some(value.into_bytes())))
    };
    let headers: Vec<_> = [
        header("traceparent", &hint.traceparent),
        header("tracestate", &hint.tracestate),
    ]
    .into_iter()
    .flatten()
    .collect();
    let context =
        TraceContext::extract(&headers, hint.trace_id.as_deref(), hint.span_id.as_deref()).child();
    Trace {
        trace_id: context.trace_id,
        span_id: context.span_id,
        flags: context.flags,
        tracestate: context.tracestate,
        foreign: context.foreign,
    }
}

/// The same trace, in a new span.
pub(crate) fn next_span(trace: &Trace) -> Trace {
    let context = TraceContext {
        trace_id: trace.trace_id.clone(),
        span_id: trace.span_id.clone(),
        flags: trace.flags,
        tracestate: trace.tracestate.clone(),
        foreign: trace.foreign.clone(),
    };
    Trace {
        span_id: context.child().span_id,
        ..trace.clone()
    }
}
