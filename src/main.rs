//! The `redvigil` program.

fn main() {}
