//! `ocirun-fuzz`: one program for all targets, `FUZZ_TARGET` says which; arguments are libFuzzer's.
//!
//! ```sh
//! cd fuzz && cargo build --release
//! FUZZ_TARGET=config target/*/release/ocirun-fuzz -max_total_time=3600 new-inputs corpus/config
//! FUZZ_TARGET=config target/*/release/ocirun-fuzz -merge=1 corpus/config new-inputs
//! ```
//!
//! What is to be a JSON text is changed as one: elements are removed, repeated, moved, and given values that matter.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use runtime_core::fuzz::Target;

mod json;

fn target() -> &'static (&'static str, Target) {
    static TARGET: OnceLock<(&str, Target)> = OnceLock::new();
    TARGET.get_or_init(|| {
        let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let all = [&runtime_core::fuzz::TARGETS[..], &cri_server::fuzz::TARGETS].concat();
        let found = all.iter().find(|(name, _)| *name == wanted);
        found.copied().unwrap_or_else(|| {
            let names = all.iter().map(|(name, _)| *name).collect::<Vec<_>>();
            panic!("FUZZ_TARGET={wanted:?}: is none of {}", names.join(", "))
        })
    })
}

fuzz_target!(|bytes: &[u8]| target().1(bytes));

fuzz_mutator!(|bytes: &mut [u8], size: usize, most: usize, seed: u32| {
    let is_json = ["config", "seccomp", "state"].contains(&target().0);
    // Now and then a byte, so that the parser itself is not forgotten.
    if is_json && !seed.is_multiple_of(8) {
        if let Some(text) = json::changed(&bytes[..size], seed).filter(|text| text.len() <= most) {
            bytes[..text.len()].copy_from_slice(&text);
            return text.len();
        }
    }
    fuzzer_mutate(bytes, size, most)
});
