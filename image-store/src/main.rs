//! `ocirun-image`: pulls, keeps and unpacks OCI images.
#![forbid(unsafe_code)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
