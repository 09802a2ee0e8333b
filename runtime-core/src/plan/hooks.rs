//! Hooks in the form that execve takes.

use std::ffi::CString;
use std::time::Duration;

use super::c_string;
use crate::error::{Error, Result};
use crate::kernel::exec::CStrings;
use crate::spec;

/// All hooks of a container, by the point at which they run.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    pub(crate) prestart: Vec<Hook>,
    pub(crate) create_runtime: Vec<Hook>,
    pub(crate) create_container: Vec<Hook>,
    pub(crate) start_container: Vec<Hook>,
    pub(crate) poststart: Vec<Hook>,
    pub(crate) poststop: Vec<Hook>,
}

/// One hook.
#[derive(Debug)]
pub(crate) struct Hook {
    pub(crate) path: CString,
    pub(crate) args: CStrings,
    pub(crate) env: CStrings,
    pub(crate) timeout: Option<Duration>,
}

impl Hooks {
    pub(crate) fn compile(written: Option<&spec::Hooks>) -> Result<Self> {
        let Some(written) = written else {
            return Ok(Self::default());
        };
        Ok(Self {
            prestart: list(written.prestart.as_deref(), "prestart")?,
            create_runtime: list(written.create_runtime.as_deref(), "createRuntime")?,
            create_container: list(written.create_container.as_deref(), "createContainer")?,
            start_container: list(written.start_container.as_deref(), "startContainer")?,
            poststart: list(written.poststart.as_deref(), "poststart")?,
            poststop: list(written.poststop.as_deref(), "poststop")?,
        })
    }

    /// Whether any hook runs between the mounts and `pivot_root`.
    pub(crate) fn before_pivot(&self) -> bool {
        !(self.prestart.is_empty()
            && self.create_runtime.is_empty()
            && self.create_container.is_empty())
    }
}

fn list(written: Option<&[spec::Hook]>, point: &str) -> Result<Vec<Hook>> {
    let hook = |(index, hook)| Hook::compile(hook, &format!("/hooks/{point}/{index}"));
    written
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(hook)
        .collect()
}

impl Hook {
    fn compile(written: &spec::Hook, pointer: &str) -> Result<Self> {
        if !written.path.starts_with('/') {
            let pointer = format!("{pointer}/path");
            return Err(Error::invalid_spec(
                &pointer,
                &format!("{:?} is not an absolute path", written.path),
            ));
        }
        let strings = |texts: Option<&Vec<String>>, name: &str| -> Result<Vec<CString>> {
            let string = |(index, text): (usize, &String)| {
                c_string(text, &format!("{pointer}/{name}/{index}"))
            };
            texts
                .into_iter()
                .flatten()
                .enumerate()
                .map(string)
                .collect()
        };
        let path = c_string(&written.path, &format!("{pointer}/path"))?;
        let mut args = strings(written.args.as_ref(), "args")?;
        if args.is_empty() {
            args.push(path.clone());
        }
        let timeout = match written.timeout.map(u64::try_from) {
            None => None,
            Some(Ok(seconds)) if seconds > 0 => Some(Duration::from_secs(seconds)),
            Some(_) => {
                return Err(Error::invalid_spec(
                    &format!("{pointer}/timeout"),
                    "must be above zero",
                ));
            }
        };
        let env = strings(written.env.as_ref(), "env")?;
        Ok(Self {
            path,
            args: CStrings::new(args),
            env: CStrings::new(env),
            timeout,
        })
    }
}
