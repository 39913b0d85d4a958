//! What a right allows.

/// What may be done with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Fetch from a topic; join a group and commit its offsets.
    Read,
    /// Produce to a topic; use a transactional id.
    Write,
}

impl Operation {
    /// Its name, as `kafka-acls.sh --operation` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
        }
    }
}
