//! Driver conformance suite.
fn main() {}
