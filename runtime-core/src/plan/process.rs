//! The container's program: arguments, environment and identity in the form that the system calls take.

use std::collections::HashSet;
use std::ffi::{CStr, CString};

use nix::sys::resource::Resource;
use nix::sys::stat::Mode;
use nix::unistd::Gid;

use super::c_string;
use super::capabilities::Sets;
use super::labels::Labels;
use super::scheduling::Scheduling;
use crate::container::create::{InitProgram, InitRuns};
use crate::error::{Error, Result};
use crate::kernel::exec::CStrings;
use crate::kernel::tty::Size;
use crate::spec;

/// A process to be started in a container.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) program: Program,
    pub(crate) args: CStrings,
    pub(crate) env: Environment,
    pub(crate) cwd: CString,
    pub(crate) user: User,
    pub(crate) capabilities: Sets,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) no_new_privileges: bool,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) terminal: Option<Terminal>,
    pub(crate) scheduling: Scheduling,
    pub(crate) labels: Labels,
}

/// Where the program may be.
#[derive(Debug)]
pub(crate) struct Program {
    /// As given.
    pub(crate) name: String,
    /// Paths to try, in order; one where the name has a slash; none where it is not run at all.
    pub(crate) candidates: Vec<CString>,
}

/// Environment of the program.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) strings: CStrings,
    /// Place of a `HOME` that was not given: the container's `/etc/passwd` says what it is.
    pub(crate) home: Option<usize>,
}

/// Who runs the program.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<Gid>,
    pub(crate) umask: Mode,
}

/// One resource limit.
#[derive(Debug)]
pub(crate) struct Rlimit {
    pub(crate) resource: Resource,
    pub(crate) name: &'static str,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// A terminal of the program's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    pub(crate) size: Option<Size>,
}

impl Process {
    /// Resolves `written`, which `pointer` leads to.
    pub(crate) fn compile(
        written: &spec::Process,
        pointer: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let args: Vec<CString> = c_strings(written.args.as_deref(), &format!("{pointer}/args"))?;
        let Some(name) = written
            .args
            .iter()
            .flatten()
            .next()
            .filter(|name| !name.is_empty())
        else {
            return Err(Error::invalid_spec(
                &format!("{pointer}/args"),
                "args must not be empty",
            ));
        };
        if !written.cwd.starts_with('/') {
            let text = format!("Cwd must be an absolute path, not {:?}", written.cwd);
            return Err(Error::invalid_spec(&format!("{pointer}/cwd"), &text));
        }
        let env = written.env.as_deref().unwrap_or_default();
        Ok(Self {
            program: Program::find(name, search_path(env), pointer)?,
            args: CStrings::new(args),
            env: Environment::compile(env, &format!("{pointer}/env"))?,
            cwd: c_string(&written.cwd, &format!("{pointer}/cwd"))?,
            user: User {
                uid: written.user.uid,
                gid: written.user.gid,
                groups: written
                    .user
                    .additional_gids
                    .iter()
                    .flatten()
                    .map(|&gid| Gid::from_raw(gid))
                    .collect(),
                umask: Mode::from_bits_truncate(written.user.umask.unwrap_or(0o022)),
            },
            capabilities: Sets::compile(written.capabilities.as_ref(), warnings),
            rlimits: rlimits(written.rlimits.as_deref().unwrap_or_default(), pointer)?,
            no_new_privileges: written.no_new_privileges,
            oom_score_adj: oom_score_adj(written, pointer)?,
            terminal: written.terminal.then(|| Terminal {
                size: size(written),
            }),
            scheduling: Scheduling::compile(written, pointer)?,
            labels: Labels::compile(written, pointer)?,
        })
    }
}

impl Process {
    /// Lets another program run this one: its words and variables come to those of this.
    pub(crate) fn run_by(&mut self, init: &InitProgram) {
        let own = match init.program {
            InitRuns::Program => self.args.strings(),
            InitRuns::Nothing => {
                self.program.candidates.clear();
                &[]
            }
        };
        self.args = CStrings::new(init.args.iter().chain(own).cloned().collect());
        self.env.add(init.env.iter().cloned());
    }
}

fn size(written: &spec::Process) -> Option<Size> {
    written.console_size.map(|size| Size {
        rows: size.height,
        columns: size.width,
    })
}

fn oom_score_adj(written: &spec::Process, pointer: &str) -> Result<Option<i32>> {
    match written.oom_score_adj {
        Some(score) if !(-1000..=1000).contains(&score) => Err(Error::invalid_spec(
            &format!("{pointer}/oomScoreAdj"),
            &format!("{score} is not from -1000 to 1000"),
        )),
        score => Ok(score),
    }
}

fn c_strings(written: Option<&[String]>, pointer: &str) -> Result<Vec<CString>> {
    let string = |(index, text): (usize, &String)| c_string(text, &format!("{pointer}/{index}"));
    written
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(string)
        .collect()
}

/// The last `PATH` of an environment.
fn search_path(env: &[String]) -> &str {
    env.iter()
        .rev()
        .find_map(|pair| pair.strip_prefix("PATH="))
        .unwrap_or_default()
}

impl Program {
    /// Names with a slash are paths; others are looked for in the directories of `path`, of which only absolute ones
    /// count, for what is found must not depend on the working directory.
    fn find(name: &str, path: &str, pointer: &str) -> Result<Self> {
        let pointer = format!("{pointer}/args/0");
        let candidates = if name.contains('/') {
            vec![c_string(name, &pointer)?]
        } else {
            let absolute = path.split(':').filter(|dir| dir.starts_with('/'));
            absolute
                .map(|dir| c_string(&format!("{dir}/{name}"), &pointer))
                .collect::<Result<_>>()?
        };
        Ok(Self {
            name: name.to_owned(),
            candidates,
        })
    }
}

impl Environment {
    /// Of variables given twice the last counts, at its place; an empty `HOME` is as good as none.
    fn compile(written: &[String], pointer: &str) -> Result<Self> {
        let mut seen = HashSet::new();
        let mut strings = Vec::with_capacity(written.len() + 1);
        for (index, pair) in written.iter().enumerate().rev() {
            let pointer = format!("{pointer}/{index}");
            let name = match pair.split_once('=') {
                Some((name, _)) if !name.is_empty() => name,
                Some(_) => {
                    return Err(Error::invalid_spec(
                        &pointer,
                        "environment variable name is empty",
                    ));
                }
                None => {
                    return Err(Error::invalid_spec(
                        &pointer,
                        &format!("invalid environment variable {pair:?}: missing '='"),
                    ));
                }
            };
            if pair != "HOME=" && seen.insert(name) {
                strings.push(c_string(pair, &pointer)?);
            }
        }
        strings.reverse();
        let home = (!seen.contains("HOME")).then(|| {
            strings.push(c"HOME=/".to_owned());
            strings.len() - 1
        });
        Ok(Self {
            strings: CStrings::new(strings),
            home,
        })
    }

    /// Sets those that are not set.
    pub(crate) fn add_missing(&mut self, pairs: Vec<CString>) {
        let known: HashSet<_> = self
            .strings
            .strings()
            .iter()
            .map(|pair| name_of(pair))
            .collect();
        let missing = pairs
            .into_iter()
            .filter(|pair| !known.contains(&name_of(pair)));
        let missing: Vec<_> = missing.collect();
        self.add(missing);
    }

    /// Sets variables of the runtime's own, such as `LISTEN_FDS`.
    pub(crate) fn add(&mut self, pairs: impl IntoIterator<Item = CString>) {
        let mut pairs = pairs.into_iter().peekable();
        if pairs.peek().is_none() {
            return;
        }
        let mut strings = self.strings.strings().to_vec();
        for pair in pairs {
            match strings
                .iter_mut()
                .find(|known| name_of(known) == name_of(&pair))
            {
                Some(known) => *known = pair,
                None => strings.push(pair),
            }
        }
        self.strings = CStrings::new(strings);
    }
}

/// The name of a variable.
fn name_of(pair: &CStr) -> Option<&[u8]> {
    pair.to_bytes().split(|&byte| byte == b'=').next()
}

/// Resource limits by name, see getrlimit(2).
const RLIMITS: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::RLIMIT_AS),
    ("RLIMIT_CORE", Resource::RLIMIT_CORE),
    ("RLIMIT_CPU", Resource::RLIMIT_CPU),
    ("RLIMIT_DATA", Resource::RLIMIT_DATA),
    ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", Resource::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", Resource::RLIMIT_NICE),
    ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
    ("RLIMIT_RSS", Resource::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", Resource::RLIMIT_STACK),
];

fn rlimits(written: &[spec::Rlimit], pointer: &str) -> Result<Vec<Rlimit>> {
    let mut limits: Vec<Rlimit> = Vec::new();
    for (index, limit) in written.iter().enumerate() {
        let pointer = format!("{pointer}/rlimits/{index}");
        let known = RLIMITS.iter().find(|(name, _)| *name == limit.kind);
        let Some((name, resource)) = known else {
            return Err(Error::invalid_spec(
                &format!("{pointer}/type"),
                &format!("unknown limit {:?}", limit.kind),
            ));
        };
        if limits.iter().any(|known| known.name == *name) {
            return Err(Error::invalid_spec(
                &format!("{pointer}/type"),
                &format!("{name} is there twice"),
            ));
        }
        if limit.soft > limit.hard {
            let text = format!("{} is more than the hard limit {}", limit.soft, limit.hard);
            return Err(Error::invalid_spec(&format!("{pointer}/soft"), &text));
        }
        limits.push(Rlimit {
            resource: *resource,
            name,
            soft: limit.soft,
            hard: limit.hard,
        });
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[&str]) -> Result<Environment> {
        let pairs: Vec<String> = pairs.iter().map(|&pair| pair.to_owned()).collect();
        Environment::compile(&pairs, "/process/env")
    }

    #[test]
    fn environment() {
        let cases: [(&[&str], &[&str], Option<usize>); 4] = [
            (&["A=1", "HOME=/h", "A=2"], &["HOME=/h", "A=2"], None),
            (&["HOME=", "B=x=y"], &["B=x=y", "HOME=/"], Some(1)),
            (&[], &["HOME=/"], Some(0)),
            (
                &["A=1\n2", "HOME=/x", "HOME="],
                &["A=1\n2", "HOME=/x"],
                None,
            ),
        ];
        for (written, expected, home) in cases {
            let env = env(written).unwrap();
            let strings: Vec<_> = env
                .strings
                .strings()
                .iter()
                .map(|s| s.to_str().unwrap())
                .collect();
            assert_eq!(
                (strings.as_slice(), env.home),
                (expected, home),
                "{written:?}"
            );
        }
        for (written, pointer) in [
            (["A=1", "B"], "/process/env/1"),
            (["=x", "B=1"], "/process/env/0"),
            (["A=\0", "B=1"], "/process/env/0"),
        ] {
            assert_eq!(
                env(&written).unwrap_err().pointer(),
                Some(pointer),
                "{written:?}"
            );
        }
    }

    #[test]
    fn variables_of_the_runtime_take_the_place_of_others() {
        let mut env = env(&["A=1", "B=2"]).unwrap();
        env.add([c"B=3".to_owned(), c"C=4".to_owned()]);
        let strings = [c"A=1", c"B=3", c"HOME=/", c"C=4"].map(ToOwned::to_owned);
        assert_eq!((env.strings.strings(), env.home), (&strings[..], Some(2)));
    }

    #[test]
    fn programs() {
        let cases: [(&str, &str, &[&str]); 4] = [
            ("/bin/sh", "/usr/bin", &["/bin/sh"]),
            ("./x", "/usr/bin", &["./x"]),
            ("sh", "/usr/bin:/bin::.:rel", &["/usr/bin/sh", "/bin/sh"]),
            ("sh", "", &[]),
        ];
        for (name, path, expected) in cases {
            let program = Program::find(name, path, "/process").unwrap();
            let found: Vec<_> = program
                .candidates
                .iter()
                .map(|path| path.to_str().unwrap())
                .collect();
            assert_eq!(found, expected, "{name} in {path:?}");
        }
    }
}
