//! Law 3 where a plugin faults: a batch that is halved until the culprits are found comes out as if each message had been
//! decided alone.

use proptest::prelude::*;

use crate::solo::{log, messages};
use crate::world::World;

proptest! {
    #[test]
    fn a_batch_that_is_halved_comes_out_as_one_by_one(
        asked in messages(),
        size in 1usize..40,
        piece in 1usize..50,
    ) {
        let log = log(&asked);
        let (mut halved, mut single) = (World::solo(), World::solo());
        for batch in log.chunks(size) {
            halved.batch_in_pieces(batch, piece);
        }
        for message in &log {
            single.batch(std::slice::from_ref(message));
        }
        prop_assert_eq!(halved.store, single.store);
    }
}
