//! A list that is read page by page: the first so many rows of it, or all.

use super::database::Database;
use super::output;
use super::{Failure, Output};
use crate::store::Pages;

/// How much of a list is printed, and how.
pub(super) struct Listing<'a> {
    /// The most rows.
    pub(super) limit: u32,
    pub(super) output: Output,
    /// What people read if there are none.
    pub(super) nothing: &'a str,
}

/// Rows to ask for: one more than are printed shows whether there are more.
pub(super) fn rows_to_ask(limit: u32) -> u32 {
    limit.saturating_add(1)
}

impl Listing<'_> {
    /// Prints the rows; `text` is given a page, and whether it is the first.
    pub(super) fn print<T>(
        &self,
        database: &Database,
        mut pages: Pages<T>,
        mut text: impl FnMut(&[T], bool) -> String,
    ) -> Result<(), Failure> {
        let mut left = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let (mut is_first, mut more) = (true, false);
        loop {
            let mut page = database.ask(pages.next())?;
            if page.is_empty() {
                break;
            }
            more = page.len() > left;
            page.truncate(left);
            left -= page.len();
            let text = text(&page, is_first);
            is_first = false;
            if output::print_part(&text)?.is_break() || more {
                break;
            }
        }
        database.runtime.block_on(pages.close());
        if !self.output.json && is_first {
            output::print(self.nothing)?;
        }
        if more && !self.output.json {
            eprintln!("there are more; --limit and --all list them");
        }
        Ok(())
    }
}
