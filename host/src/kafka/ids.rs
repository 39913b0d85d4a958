//! Transactional ids name the process and its producer. So a new owner of a partition can end the open transactions of
//! its former owners.

use std::sync::OnceLock;

use uuid::Uuid;

/// Ids of this process, for so many producers: `<prefix>-<uuid of this process>-<n>`, n from 0.
pub(crate) fn transactional_ids(prefix: &str, producers: usize) -> Vec<String> {
    static PROCESS: OnceLock<Uuid> = OnceLock::new();
    let process = PROCESS.get_or_init(Uuid::new_v4);
    let id = |number| format!("{prefix}-{process}-{number}");
    (0..producers).map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbered_and_those_of_one_process() {
        let ids = transactional_ids("taskhost-g", 2);
        let stem = |number: usize| ids[number].strip_suffix(&format!("-{number}"));
        assert!(stem(0).is_some_and(|stem| stem.starts_with("taskhost-g-")));
        assert_eq!(stem(0), stem(1));
        assert_eq!(ids, transactional_ids("taskhost-g", 2));
    }
}
