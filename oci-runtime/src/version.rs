//! The version, in the lines that callers read.

/// The specification that is followed.
pub(crate) const SPEC: &str = "1.3.0";

/// The version of runc whose behaviour this is, for callers that compare: what they find under that name must be no
/// younger than they need.
const RUNC: &str = "1.4.0";

/// Everything after the name of the program.
pub(crate) fn text() -> String {
    lines(env!("CARGO_PKG_VERSION"))
}

/// What `--version` prints for a program called `name`.
pub(crate) fn of(name: &str) -> String {
    let version = if name == "runc" {
        RUNC
    } else {
        env!("CARGO_PKG_VERSION")
    };
    format!("{name} version {}", lines(version))
}

fn lines(version: &str) -> String {
    format!(
        "{version}\ncommit: ocirun-{}\nspec: {SPEC}",
        env!("CARGO_PKG_VERSION")
    )
}
