//! The trace of a message: read from the message, continued, and written to the messages that it causes.
//!
//! W3C trace context (<https://www.w3.org/TR/trace-context/>) in the record headers `traceparent` and
//! `tracestate`, else the pair of texts `traceId` and `spanId` that older producers write. Every message has a trace: a text
//! that is not a trace id starts a new one, and is kept beside it.

use std::str::FromStr;

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

/// Record headers: names, and values that may be null.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// A position in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// 32 lower-case hexadecimal digits, not all 0.
    pub trace_id: String,
    /// 16 lower-case hexadecimal digits, not all 0: the span that caused this.
    pub span_id: String,
    /// The W3C flags; bit 0 is "sampled".
    pub flags: u8,
    /// Data of other tracing systems, passed on unchanged.
    pub tracestate: Option<String>,
    /// The received trace id, if it was not valid: up to 200 characters.
    pub foreign: Option<String>,
}

/// The longest foreign id that is kept, in characters; ids are capped so everywhere.
const FOREIGN_MAX: usize = 200;

/// The longest `tracestate` that is passed on: what W3C asks to propagate at least. A longer one could make a record
/// too large for its topic, which would be nobody's fault here.
const TRACESTATE_BYTES_MAX: usize = 512;

impl TraceContext {
    /// The trace of a message: of its record headers, else of the texts of its meta fields, else a new one.
    #[must_use]
    pub fn extract(
        headers: &[(String, Option<Vec<u8>>)],
        trace_id: Option<&str>,
        span_id: Option<&str>,
    ) -> Self {
        let context =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &Record(headers));
        let span = context.span();
        if span.span_context().is_valid() {
            return Self::from_span(span.span_context());
        }
        let Some(text) = trace_id.map(str::trim).filter(|text| !text.is_empty()) else {
            return Self::root();
        };
        match trace(text) {
            Some(trace) => {
                let span = span_id
                    .and_then(span_of)
                    .unwrap_or_else(|| ids().new_span_id());
                Self::of(trace, span)
            }
            None => Self {
                foreign: Some(text.chars().take(FOREIGN_MAX).collect()),
                ..Self::root()
            },
        }
    }

    /// A new trace, sampled, as a tracer without a parent begins one.
    #[must_use]
    pub fn root() -> Self {
        Self::of(ids().new_trace_id(), ids().new_span_id())
    }

    /// A new span of the same trace, caused by this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span_id: ids().new_span_id().to_string(),
            ..self.clone()
        }
    }

    /// The value of the `traceparent` header.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }

    /// Writes `traceparent` and `tracestate` into record headers. Those that are there, in whatever case, are
    /// replaced, so that a message that is sent again and again has one of each.
    pub fn inject(&self, headers: &mut Headers) {
        headers.retain(|(name, _)| {
            !name.eq_ignore_ascii_case("traceparent") && !name.eq_ignore_ascii_case("tracestate")
        });
        let context = Context::new().with_remote_span_context(self.to_span());
        TraceContextPropagator::new().inject_context(&context, &mut RecordMut(headers));
    }

    fn of(trace: TraceId, span: SpanId) -> Self {
        Self {
            trace_id: trace.to_string(),
            span_id: span.to_string(),
            flags: TraceFlags::SAMPLED.to_u8(),
            tracestate: None,
            foreign: None,
        }
    }

    fn from_span(span: &SpanContext) -> Self {
        Self {
            trace_id: span.trace_id().to_string(),
            span_id: span.span_id().to_string(),
            flags: span.trace_flags().to_u8(),
            tracestate: Some(span.trace_state().header())
                .filter(|state| !state.is_empty() && state.len() <= TRACESTATE_BYTES_MAX),
            foreign: None,
        }
    }

    fn to_span(&self) -> SpanContext {
        let state = self
            .tracestate
            .as_deref()
            .and_then(|state| TraceState::from_str(state).ok());
        SpanContext::new(
            TraceId::from_hex(&self.trace_id).unwrap_or(TraceId::INVALID),
            SpanId::from_hex(&self.span_id).unwrap_or(SpanId::INVALID),
            TraceFlags::new(self.flags),
            true,
            state.unwrap_or_default(),
        )
    }
}

fn ids() -> RandomIdGenerator {
    RandomIdGenerator::default()
}

/// The trace id that a text is, if it is one: 32 hexadecimal digits in either case, not all 0.
fn trace(text: &str) -> Option<TraceId> {
    let id = hexadecimal(text, 32).then(|| TraceId::from_hex(text).ok())??;
    (id != TraceId::INVALID).then_some(id)
}

/// The span id that a text is, if it is one: 16 hexadecimal digits in either case, not all 0.
fn span_of(text: &str) -> Option<SpanId> {
    let text = text.trim();
    let id = hexadecimal(text, 16).then(|| SpanId::from_hex(text).ok())??;
    (id != SpanId::INVALID).then_some(id)
}

fn hexadecimal(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Record headers to read from; of several of one name the last counts, as in Kafka's own clients.
struct Record<'a>(&'a [(String, Option<Vec<u8>>)]);

impl Extractor for Record<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self
            .0
            .iter()
            .rev()
            .find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Record headers to write to.
struct RecordMut<'a>(&'a mut Headers);

impl Injector for RecordMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0
                .push((key.to_ascii_lowercase(), Some(value.into_bytes())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec())))
            .collect()
    }

    #[test]
    fn a_tracestate_that_is_longer_than_anybody_must_propagate_is_left_behind() {
        for (bytes, kept) in [(10, true), (100, false)] {
            let value = "v".repeat(bytes);
            let state: Vec<String> = (0..10).map(|n| format!("k{n}={value}")).collect();
            let state = state.join(",");
            let found = headers(&[("traceparent", PARENT), ("tracestate", &state)]);
            let context = TraceContext::extract(&found, None, None);
            assert_eq!(context.tracestate.is_some(), kept, "{bytes} bytes each");
            assert!(PARENT.contains(&context.trace_id), "the trace goes on");
        }
    }

    fn is_new(context: &TraceContext) -> bool {
        trace(&context.trace_id).is_some()
            && span_of(&context.span_id).is_some()
            && context.flags == 1
    }

    #[test]
    fn a_traceparent_header_is_the_trace_before_any_other_text() {
        let headers = headers(&[("TraceParent", PARENT), ("tracestate", "a=1,b=2")]);
        let context = TraceContext::extract(&headers, Some("trace-id-string"), None);
        assert_eq!(context.traceparent(), PARENT);
        assert_eq!(context.tracestate.as_deref(), Some("a=1,b=2"));
        assert_eq!(context.foreign, None);
    }

    #[test]
    fn without_a_usable_header_the_pair_of_texts_is_the_trace() {
        let trace_id = "4BF92F3577B34DA6A3CE929D0E0E4736";
        for headers in [
            headers(&[]),
            headers(&[("traceparent", "00-nonsense")]),
            vec![("traceparent".into(), None)],
        ] {
            let context = TraceContext::extract(&headers, Some(trace_id), Some("00F067AA0BA902B7"));
            assert_eq!(context.traceparent(), PARENT);
            let context = TraceContext::extract(&headers, Some(trace_id), Some("span-id-string"));
            assert_eq!(context.trace_id, trace_id.to_ascii_lowercase());
            assert!(is_new(&context) && context.foreign.is_none());
        }
    }

    #[test]
    fn a_text_that_is_no_trace_id_starts_a_new_trace_and_is_kept() {
        let zero = "0".repeat(32);
        for text in [
            "trace-id-string",
            zero.as_str(),
            "4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
        ] {
            let context = TraceContext::extract(&[], Some(text), Some("00f067aa0ba902b7"));
            assert!(is_new(&context), "{context:?}");
            assert_eq!(context.foreign.as_deref(), Some(text));
        }
        let long = TraceContext::extract(&[], Some(&"ä".repeat(1000)), None);
        assert_eq!(long.foreign.map(|text| text.chars().count()), Some(200));
    }

    #[test]
    fn with_nothing_at_all_each_message_has_a_trace_of_its_own() {
        let (one, other) = (
            TraceContext::extract(&[], None, None),
            TraceContext::extract(&[], Some(" "), None),
        );
        assert!(is_new(&one) && is_new(&other) && one.trace_id != other.trace_id);
        assert_eq!(other.foreign, None);
    }

    #[test]
    fn headers_are_replaced_and_never_appended() {
        let mut headers = headers(&[
            ("Traceparent", PARENT),
            ("tracestate", "a=1"),
            ("other", "x"),
            ("traceparent", PARENT),
        ]);
        let parent = TraceContext::extract(&headers, None, None);
        let child = parent.child();
        assert_eq!(
            (&child.trace_id, &child.tracestate),
            (&parent.trace_id, &parent.tracestate)
        );
        assert_ne!(child.span_id, parent.span_id);
        child.inject(&mut headers);
        child.inject(&mut headers);
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["other", "traceparent", "tracestate"]);
        assert_eq!(TraceContext::extract(&headers, None, None), child);
        TraceContext::root().inject(&mut headers);
        assert_eq!(
            headers.len(),
            2,
            "no tracestate where there is none: {headers:?}"
        );
    }
}
