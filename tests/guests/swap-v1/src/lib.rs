//! Version 1.0.0 of the guest that is swapped while it runs.

taskhost_sdk::export!(guest_swap::Swap<1>);
