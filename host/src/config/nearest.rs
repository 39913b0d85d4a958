//! Finds the known name that an unknown one most probably stands for.

/// The candidate that is one or two single-letter edits away from `name`, one if it is very short: more would
/// turn `KAFKA_PORT` into `KAFKA_ACKS`.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 2).clamp(1, EDITS_MAX))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many edits still look like a slip: a letter too many, or two that changed places.
const EDITS_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_the_one_that_was_meant() {
        let known = ["brokers", "group_id", "client_id"];
        assert_eq!(nearest("broker", known.into_iter()), Some("brokers"));
        assert_eq!(nearest("groupid", known.into_iter()), Some("group_id"));
        assert_eq!(nearest("unrelated_thing", known.into_iter()), None);
        assert_eq!(nearest("KAFKA_PORT", ["KAFKA_ACKS"].into_iter()), None);
    }
}
