//! Measurements of ocirun beside its peers.
//!
//! Each suite is a module with a function that measures and returns a [`table::Table`]; [`suite`] finds it by name.

pub mod cgroups;
pub mod container;
pub mod init;
pub mod lab;
pub mod options;
pub mod pod;
pub mod programs;
pub mod pull;
pub mod sample;
pub mod spec;
pub mod start;
pub mod svg;
pub mod sys;
pub mod table;

/// Measures the suite of that name, one of [`options::SUITES`].
///
/// # Errors
/// The suite's; an unknown name.
pub fn suite(name: &str, options: &options::Options) -> Result<table::Table, String> {
    match name {
        "start" => start::measure(options),
        "pull" => pull::measure(options),
        "pod" => pod::measure(options, pod::Network::Host),
        "pod-network" => pod::measure(options, pod::Network::Plugins),
        other => Err(format!("no suite {other:?}")),
    }
}
