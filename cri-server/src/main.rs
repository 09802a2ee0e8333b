//! `ocirun-cri`.
fn main() {}
