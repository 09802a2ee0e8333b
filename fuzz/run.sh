#!/bin/sh
# Fuzzes one target: `fuzz/run.sh config -max_total_time=3600`. What it makes up is kept in fuzz/target/corpus/TARGET;
# `fuzz/run.sh config -merge=1` puts what is worth keeping of that into fuzz/corpus, which `cargo test` replays.
set -eu
target=$1
shift
cd "$(dirname "$0")"
# Coverage by a pass of LLVM that stable compilers have. Not static as all else here: libFuzzer looks for memcmp(3) in
# the C library, and rustc takes `-crt-static` for nothing where `+crt-static` stands too.
export RUSTFLAGS="--cfg fuzzing -C codegen-units=1 -C passes=sancov-module
    -C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters
    -C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares"
cargo build --quiet --release
new=target/corpus/$target
mkdir -p "$new"
case " $* " in
*" -merge=1 "*) first=corpus/$target second=$new ;;
*) first=$new second=corpus/$target ;;
esac
FUZZ_TARGET=$target exec target/*/release/ocirun-fuzz -max_len=16384 -artifact_prefix="target/$target-" "$@" \
    "$first" "$second"
