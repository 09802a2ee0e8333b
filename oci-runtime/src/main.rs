//! `ocirun`, an OCI runtime.

fn main() {}
