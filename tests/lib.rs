//! Tests across the crates live in `it/`; this library is empty.
