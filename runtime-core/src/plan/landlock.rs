//! A Landlock ruleset for the program, by an annotation: the specification has no element for it.
//!
//! ```json
//! {"handledAccessFS": ["execute", "read_file", "write_file"], "handledAccessNet": ["connect_tcp"],
//!  "scoped": ["signal"],
//!  "pathBeneath": [{"paths": ["/usr"], "allowedAccess": ["execute", "read_file"]}],
//!  "netPort": [{"ports": [443], "allowedAccess": ["connect_tcp"]}],
//!  "bestEffort": false}
//! ```
//! What is handled and not allowed by a rule is refused. Names are those of landlock(7), in small letters. With
//! `bestEffort` what the kernel does not know and paths that are missing are passed over, otherwise they are errors.

use std::collections::BTreeMap;
use std::ffi::CString;

use serde::Deserialize;

use super::c_string;
use crate::error::{Error, Result};
use crate::kernel::landlock::Handled;

/// The annotation whose value is a ruleset as JSON.
const ANNOTATION: &str = "/annotations/org.ocirun.landlock";

/// A name, its bit, and the version of Landlock that brought it.
type Access = (&'static str, u64, u32);

const FS: [Access; 16] = [
    ("execute", 1 << 0, 1),
    ("write_file", 1 << 1, 1),
    ("read_file", 1 << 2, 1),
    ("read_dir", 1 << 3, 1),
    ("remove_dir", 1 << 4, 1),
    ("remove_file", 1 << 5, 1),
    ("make_char", 1 << 6, 1),
    ("make_dir", 1 << 7, 1),
    ("make_reg", 1 << 8, 1),
    ("make_sock", 1 << 9, 1),
    ("make_fifo", 1 << 10, 1),
    ("make_block", 1 << 11, 1),
    ("make_sym", 1 << 12, 1),
    ("refer", 1 << 13, 2),
    ("truncate", 1 << 14, 3),
    ("ioctl_dev", 1 << 15, 5),
];
/// Those that are about a file that is no directory.
pub(crate) const OF_FILES: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15;
const NET: [Access; 2] = [("bind_tcp", 1 << 0, 4), ("connect_tcp", 1 << 1, 4)];
const SCOPES: [Access; 2] = [("abstract_unix_socket", 1 << 0, 6), ("signal", 1 << 1, 6)];

/// A ruleset in the kernel's terms.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) handled: Handled,
    pub(crate) paths: Vec<(CString, u64)>,
    pub(crate) ports: Vec<(u16, u64)>,
    pub(crate) missing: Missing,
}

/// What becomes of paths that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Refused,
    PassedOver,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Written {
    #[serde(rename = "handledAccessFS")]
    fs: Vec<String>,
    #[serde(rename = "handledAccessNet")]
    net: Vec<String>,
    scoped: Vec<String>,
    path_beneath: Vec<PathBeneath>,
    net_port: Vec<NetPort>,
    best_effort: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PathBeneath {
    paths: Vec<String>,
    allowed_access: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NetPort {
    ports: Vec<u16>,
    allowed_access: Vec<String>,
}

impl Ruleset {
    /// The ruleset of the annotation, for a kernel with this version of Landlock, which is asked for where it matters.
    pub(crate) fn compile(
        annotations: Option<&BTreeMap<String, String>>,
        no_new_privileges: bool,
        version: impl FnOnce() -> u32,
    ) -> Result<Option<Self>> {
        let name = ANNOTATION.trim_start_matches("/annotations/");
        let Some(text) = annotations.and_then(|all| all.get(name)) else {
            return Ok(None);
        };
        if !text.trim_start().starts_with('{') {
            // A list would be taken for the members in their order.
            return Err(Error::invalid_spec(ANNOTATION, "is no object"));
        }
        let written: Written = serde_json::from_str(text)
            .map_err(|error| Error::invalid_spec(ANNOTATION, &error.to_string()))?;
        if !no_new_privileges {
            let text = "a program that may gain privileges cannot be restricted: set process.noNewPrivileges";
            return Err(Error::invalid_spec(ANNOTATION, text));
        }
        let kernel = Kernel {
            version: version(),
            best_effort: written.best_effort,
        };
        let handled = Handled {
            fs: kernel.bits(&written.fs, &FS)?,
            net: kernel.bits(&written.net, &NET)?,
            scoped: kernel.bits(&written.scoped, &SCOPES)?,
        };
        let ruleset = Self {
            handled,
            paths: paths(&written.path_beneath, &kernel, handled.fs)?,
            ports: ports(&written.net_port, &kernel, handled.net)?,
            missing: if written.best_effort {
                Missing::PassedOver
            } else {
                Missing::Refused
            },
        };
        Ok((handled != Handled::default()).then_some(ruleset))
    }
}

/// Of rules only what is handled counts; those that then allow nothing are refused by the kernel, and say nothing.
fn paths(written: &[PathBeneath], kernel: &Kernel, handled: u64) -> Result<Vec<(CString, u64)>> {
    let mut rules = Vec::new();
    for rule in written {
        let allowed = kernel.bits(&rule.allowed_access, &FS)? & handled;
        for path in &rule.paths {
            if !path.starts_with('/') {
                let text = format!("{path:?} is not an absolute path");
                return Err(Error::invalid_spec(ANNOTATION, &text));
            }
            rules.push((c_string(path, ANNOTATION)?, allowed));
        }
    }
    rules.retain(|(_, allowed)| *allowed != 0);
    Ok(rules)
}

/// As [`paths`].
fn ports(written: &[NetPort], kernel: &Kernel, handled: u64) -> Result<Vec<(u16, u64)>> {
    let mut rules = Vec::new();
    for rule in written {
        let allowed = kernel.bits(&rule.allowed_access, &NET)? & handled;
        rules.extend(rule.ports.iter().map(|port| (*port, allowed)));
    }
    rules.retain(|(_, allowed)| *allowed != 0);
    Ok(rules)
}

struct Kernel {
    version: u32,
    best_effort: bool,
}

impl Kernel {
    fn bits(&self, names: &[String], known: &[Access]) -> Result<u64> {
        let mut bits = 0;
        for name in names {
            let Some((_, bit, since)) = known.iter().find(|(known, ..)| known == name) else {
                let text = format!("unknown access {name:?}");
                return Err(Error::invalid_spec(ANNOTATION, &text));
            };
            if self.version >= *since {
                bits |= bit;
            } else if !self.best_effort {
                return Err(Error::unsupported(format!(
                    "{ANNOTATION}: {name} needs Landlock {since}, this kernel has {}",
                    self.version
                )));
            }
        }
        Ok(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str, version: u32) -> Result<Option<Ruleset>> {
        let name = "org.ocirun.landlock".to_owned();
        Ruleset::compile(
            Some(&BTreeMap::from([(name, text.to_owned())])),
            true,
            || version,
        )
    }

    #[test]
    fn rulesets() {
        let text = r#"{"handledAccessFS": ["execute", "read_file"], "handledAccessNet": ["bind_tcp"], "scoped": ["signal"],
            "pathBeneath": [{"paths": ["/usr", "/etc/passwd"], "allowedAccess": ["read_file", "write_file"]},
                            {"paths": ["/x"], "allowedAccess": ["make_dir"]}],
            "netPort": [{"ports": [80, 443], "allowedAccess": ["bind_tcp"]}]}"#;
        let ruleset = compile(text, 6).unwrap().unwrap();
        assert_eq!(
            ruleset.handled,
            Handled {
                fs: 5,
                net: 1,
                scoped: 2
            }
        );
        assert_eq!(
            ruleset.paths,
            [(c"/usr".to_owned(), 4), (c"/etc/passwd".to_owned(), 4)]
        );
        assert_eq!(ruleset.ports, [(80, 1), (443, 1)]);
        assert_eq!(ruleset.missing, Missing::Refused);
    }

    #[test]
    fn what_the_kernel_lacks_is_an_error_or_passed_over() {
        let text = r#"{"handledAccessFS": ["read_file", "truncate"], "handledAccessNet": ["bind_tcp"], "bestEffort": BEST}"#;
        let error = compile(&text.replace("BEST", "false"), 2)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("truncate needs Landlock 3, this kernel has 2"),
            "{error}"
        );
        let ruleset = compile(&text.replace("BEST", "true"), 2).unwrap().unwrap();
        assert_eq!(
            ruleset.handled,
            Handled {
                fs: 4,
                net: 0,
                scoped: 0
            }
        );
        assert_eq!(compile(&text.replace("BEST", "true"), 0).unwrap(), None);
        assert_eq!(compile("{}", 6).unwrap(), None);
    }

    #[test]
    fn refused() {
        for (text, words) in [
            ("[]", "no object"),
            (r#"{"handledAccess": []}"#, "unknown field"),
            (r#"{"handledAccessFS": ["fly"]}"#, "unknown access \"fly\""),
            (
                r#"{"pathBeneath": [{"paths": ["x"], "allowedAccess": []}]}"#,
                "absolute",
            ),
            (
                r#"{"netPort": [{"ports": [65536], "allowedAccess": []}]}"#,
                "65536",
            ),
        ] {
            let error = compile(text, 6).unwrap_err();
            assert_eq!(error.pointer(), Some(ANNOTATION), "{text}");
            assert!(error.to_string().contains(words), "{error}");
        }
        let name = "org.ocirun.landlock".to_owned();
        let annotations = BTreeMap::from([(name, r#"{"scoped": ["signal"]}"#.to_owned())]);
        let error = Ruleset::compile(Some(&annotations), false, || 6).unwrap_err();
        assert!(error.to_string().contains("noNewPrivileges"), "{error}");
    }
}
