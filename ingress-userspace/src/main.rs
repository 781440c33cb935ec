//! `sluice`.
fn main() {}
