//! What fits on a page and into a head: lines of a file and of a function, fields of a type.

use std::path::PathBuf;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::{name, none, read, tracked};

/// Lines of a file: one idea fits into them.
const FILE_LINES_MAX: usize = 500;

/// Lines of a function: it fits on a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// Tests that tell one story of many steps, and were longer before there was a limit: none is added, none grows.
const STORIES: [(&str, usize); 22] = [
    ("a_second_host_takes_half", 77),
    ("a_write_set_comes_back_as_it_was_written", 72),
    ("add_up", 77),
    (
        "a_page_of_a_large_table_is_found_by_the_index_made_for_it",
        96,
    ),
    (
        "a_queue_that_was_analysed_while_it_was_empty_and_filled_since_holds_nobody_up",
        84,
    ),
    ("check_letter", 76),
    (
        "three_hosts_under_load_hold_a_broken_rule_and_drain_by_the_repaired_one_with_no_dead_letter",
        80,
    ),
    ("the_commands_do_what_the_documented_scripts_do", 92),
    (
        "messages_wait_in_order_for_their_task_and_it_wakes_them",
        105,
    ),
    (
        "dead_letters_of_every_dialect_are_taken_in_once_and_replayed",
        91,
    ),
    ("an_export_is_taken_in_by_another_group_as_it_was", 71),
    (
        "dead_letters_are_seen_edited_replayed_and_discarded_over_http",
        103,
    ),
    (
        "an_edited_dead_letter_is_replayed_once_and_its_history_has_what_was_decided",
        109,
    ),
    (
        "a_new_task_type_takes_a_plugin_and_a_route_and_no_change_of_the_host",
        79,
    ),
    (
        "each_way_to_misbehave_is_one_dead_letter_and_every_good_message_around_it_is_applied",
        89,
    ),
    (
        "offsets_moved_by_hand_halt_a_partition_and_reset_to_progress_goes_on_without_repeating",
        71,
    ),
    ("health", 78),
    ("check_story", 71),
    ("a_request_creates_a_task_and_tells_task_status_of_it", 96),
    (
        "what_was_rolled_back_is_not_activated_again_unless_a_person_forces_it",
        78,
    ),
    (
        "a_rule_without_a_predecessor_holds_its_route_and_a_fixed_one_is_tried_at_once_and_drains_in_order",
        83,
    ),
    (
        "ten_thousand_replays_are_each_decided_once_though_a_host_is_killed",
        81,
    ),
];

/// Fields of a type. What has more says why, in a comment above it that begins with `WHY_MANY`.
const FIELDS_MAX: usize = 12;

const WHY_MANY: &str = "// Many fields: ";

#[test]
fn no_source_file_is_long() {
    let lines = |path: &PathBuf| read(path).lines().count();
    let long = tracked(".rs")
        .into_iter()
        .map(|path| (lines(&path), path))
        .filter(|(lines, _)| *lines > FILE_LINES_MAX);
    none(
        &long
            .map(|(lines, path)| format!("{} has {lines} lines", name(&path)))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn no_function_is_long() {
    let functions = measure().functions;
    let limit = |name: &str| {
        let story = STORIES.iter().find(|(story, _)| *story == name);
        story.map_or(FUNCTION_LINES_MAX, |(_, lines)| *lines)
    };
    let long = functions
        .iter()
        .filter(|function| function.lines > limit(&function.name))
        .map(|function| format!("{} has {} lines", function.place, function.lines));
    let is_there = |(name, most): &&(&str, usize)| {
        let mut all = functions.iter();
        all.any(|one| one.name == *name && one.lines == *most)
    };
    let outdated = STORIES
        .iter()
        .filter(|story| !functions.is_empty() && !is_there(story))
        .map(|(name, lines)| format!("{name} has not {lines} lines any more: correct STORIES"));
    none(&long.chain(outdated).collect::<Vec<_>>());
}

#[test]
fn a_type_of_many_fields_says_why() {
    let measured = measure();
    let wide = measured.types.iter();
    none(
        &wide
            .filter(|(_, fields, why)| *fields > FIELDS_MAX && !why)
            .map(|(place, fields, _)| {
                format!("{place} has {fields} fields and no comment {WHY_MANY:?}")
            })
            .collect::<Vec<_>>(),
    );
}

struct Function {
    name: String,
    /// With its file and line, for people.
    place: String,
    lines: usize,
}

/// What was found in all sources.
#[derive(Default)]
struct Measured {
    /// The file that is read.
    file: String,
    lines: Vec<String>,
    functions: Vec<Function>,
    /// Where, how many fields, and whether a comment says why.
    types: Vec<(String, usize, bool)>,
}

fn measure() -> Measured {
    let mut measured = Measured::default();
    let sources = tracked(".rs");
    for path in &sources {
        let source = read(path);
        let parsed =
            syn::parse_file(&source).unwrap_or_else(|error| panic!("{}: {error}", name(path)));
        measured.file = name(path);
        measured.lines = source.lines().map(str::to_owned).collect();
        measured.visit_file(&parsed);
    }
    assert!(sources.is_empty() || measured.functions.len() > 1000);
    assert!(sources.is_empty() || measured.types.len() > 100);
    measured
}

impl Measured {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (from, to) = (signature.span().start().line, block.span().end().line);
        let name = signature.ident.to_string();
        self.functions.push(Function {
            place: format!("{}:{from} {name}", self.file),
            name,
            lines: to - from + 1,
        });
    }

    /// Whether the comments and attributes right above this line say why there are so many fields.
    fn says_why(&self, line: usize) -> bool {
        let above = self.lines[..line - 1].iter().rev();
        above
            .map(|line| line.trim_start())
            .take_while(|line| line.starts_with("//") || line.starts_with('#'))
            .any(|line| line.starts_with(WHY_MANY))
    }
}

impl<'ast> Visit<'ast> for Measured {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let line = item.struct_token.span().start().line;
        let place = format!("{}:{line} {}", self.file, item.ident);
        let why = self.says_why(line);
        self.types.push((place, item.fields.len(), why));
        visit::visit_item_struct(self, item);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        let line = variant.ident.span().start().line;
        let place = format!("{}:{line} {}", self.file, variant.ident);
        let why = self.says_why(line);
        self.types.push((place, variant.fields.len(), why));
        visit::visit_variant(self, variant);
    }
}
