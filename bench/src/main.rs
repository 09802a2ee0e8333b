//! Measurements of ocirun beside its peers.

fn main() {}
