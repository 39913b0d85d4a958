//! Masks e-mail addresses in all log lines.
//!
//! The host itself logs none, but a plugin's line, an error's text or a URL can contain one.

use std::borrow::Cow;
use std::io::{self, Write};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// The text in the place of an address.
const PLACEHOLDER: &str = "<e-mail>";

/// A writer whose writers mask addresses.
#[derive(Debug)]
pub(super) struct Redacting<W>(pub(super) W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Redacting<W> {
    type Writer = Lines<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Lines(self.0.make_writer())
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        Lines(self.0.make_writer_for(meta))
    }
}

/// Passes lines on. The subscriber writes each line whole, so no address is cut in two.
#[derive(Debug)]
pub(super) struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(&without_addresses(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The text with each `local@domain.tld` replaced.
fn without_addresses(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut clean: Vec<u8> = Vec::new();
    let mut copied = 0;
    let mut from = 0;
    while let Some(at) = bytes[from..]
        .iter()
        .position(|byte| *byte == b'@')
        .map(|found| from + found)
    {
        let local = bytes[copied..at]
            .iter()
            .rev()
            .take_while(|byte| is_local(**byte))
            .count();
        let domain = bytes[at + 1..]
            .iter()
            .take_while(|byte| is_domain(**byte))
            .count();
        from = at + 1;
        if local > 0 && bytes[at + 1..at + 1 + domain].contains(&b'.') {
            clean.extend_from_slice(&bytes[copied..at - local]);
            clean.extend_from_slice(PLACEHOLDER.as_bytes());
            copied = at + 1 + domain;
            from = copied;
        }
    }
    if clean.is_empty() && copied == 0 {
        return Cow::Borrowed(bytes);
    }
    clean.extend_from_slice(&bytes[copied..]);
    Cow::Owned(clean)
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._%+-".contains(&byte) || !byte.is_ascii()
}

fn is_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-".contains(&byte) || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_and_all_else_stays() {
        for (text, expected) in [
            ("nothing to hide", "nothing to hide"),
            ("a@b.example, jörg@x.de!", "<e-mail>, <e-mail>!"),
            (r#"{"email":"a.b+c@d.example"}"#, r#"{"email":"<e-mail>"}"#),
            ("@home user@host a @ b.c x@", "@home user@host a @ b.c x@"),
            ("postgres://u:p@db.example.com/x", "postgres://u:<e-mail>/x"),
        ] {
            assert_eq!(
                without_addresses(text.as_bytes()),
                expected.as_bytes(),
                "{text}"
            );
        }
    }
}
