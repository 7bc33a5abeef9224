//! The `holofs` program.

fn main() {}
