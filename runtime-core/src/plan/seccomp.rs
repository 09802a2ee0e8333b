//! System call filters: from `linux.seccomp` to a program of classic BPF, see seccomp(2).
//!
//! A program finds the architecture, then the number of the system call in a balanced tree of ranges, and looks at
//! arguments last and only where a rule has conditions. What depends on the number alone is thus seen by the kernel
//! when it loads the filter: calls that are always allowed never run it (Linux 5.11).
//!
//! `rules` says what the verdicts are, `filter` turns them into a tree, `program` writes the instructions.

use std::path::PathBuf;

mod architecture;
mod filter;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(any(test, fuzzing))]
mod interpreter;
mod program;
#[cfg(any(test, fuzzing))]
mod reader;
mod rules;
mod table;
#[cfg(test)]
mod tests;

use self::architecture::{Abi, Call, NATIVE, served};
use self::filter::Filter;
use self::rules::{Alternative, Condition, Mention, Verdict};
use crate::error::{Error, Result};
use crate::kernel::process::Instruction;
use crate::spec::seccomp::{Action, Architecture, Flag, Operator, Rule, Seccomp};

/// `BPF_MAXINSNS`: what the kernel takes.
const LONGEST: usize = 4096;
/// Largest data of a verdict, `SECCOMP_RET_DATA`.
const LARGEST_DATA: u32 = 0xffff;
/// Arguments of a system call.
const ARGUMENT_COUNT: u32 = 6;

/// Names of [`Action`], for `features`.
pub const ACTIONS: &[&str] = Action::NAMES;
/// Names of [`Operator`], for `features`.
pub const OPERATORS: &[&str] = Operator::NAMES;
/// Names of [`Architecture`], for `features`.
pub const ARCHITECTURES: &[&str] = Architecture::NAMES;
/// Names of [`Flag`], for `features`.
pub const FLAGS: &[&str] = Flag::NAMES;

/// A filter for the kernel.
#[derive(Debug)]
pub struct Program {
    instructions: Vec<Instruction>,
    flags: u64,
    agent: Option<Agent>,
}

/// Who answers for the calls of `SCMP_ACT_NOTIFY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agent {
    /// A unix socket.
    pub(crate) path: PathBuf,
    /// What it is told beside the descriptor.
    pub(crate) metadata: Option<String>,
}

impl Program {
    /// The instructions, in the kernel's form.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// `SECCOMP_FILTER_FLAG_*`.
    #[must_use]
    pub fn flags(&self) -> u64 {
        self.flags
    }

    /// Who gets the descriptor that loading it gives, if it gives one.
    pub(crate) fn agent(&self) -> Option<&Agent> {
        self.agent.as_ref()
    }
}

/// Compiles a profile for the architecture that this is built for.
///
/// # Errors
/// `InvalidSpec` for what no kernel takes, `Unsupported` where there is no table of system calls.
pub fn compile(profile: &Seccomp) -> Result<Program> {
    let native = NATIVE.ok_or_else(|| {
        Error::unsupported(format!(
            "/linux/seccomp: is not supported on {}",
            std::env::consts::ARCH
        ))
    })?;
    compile_for(profile, native)
}

fn compile_for(profile: &Seccomp, native: Architecture) -> Result<Program> {
    let default = default_verdict(profile)?;
    let rules = profile.syscalls.as_deref().unwrap_or_default();
    let alternatives: Vec<Vec<Alternative>> = rules
        .iter()
        .enumerate()
        .map(|(index, rule)| alternatives(index, rule))
        .collect::<Result<_>>()?;
    let known = known(rules)?;
    let mentions: Vec<Mention<'_>> = known
        .iter()
        .map(|(rule, call)| Mention {
            call: *call,
            alternatives: &alternatives[*rule],
        })
        // What is done by default anyway is not a rule.
        .filter(|mention| {
            mention
                .alternatives
                .iter()
                .any(|one| one.verdict != default)
        })
        .collect();
    let listed = profile.architectures.as_deref().unwrap_or_default();
    let mut filters = Vec::new();
    for architecture in served(native) {
        let is_listed = listed.contains(architecture);
        let Some(abi) = Abi::of(*architecture).filter(|_| is_listed || *architecture == native)
        else {
            continue;
        };
        let newest = newest(&known, &abi).filter(|_| is_listed && hides_newer(profile));
        let mut verdicts = rules::verdicts(&mentions, &abi)?;
        if *architecture == Architecture::S390X && newest.is_some() {
            // setup(2), which the kernel makes of numbers that it does not know.
            verdicts.retain(|(number, _)| *number != 0);
            verdicts.insert(0, (0, Verdict::Always(filter::NO_SUCH_CALL)));
        }
        filters.push(Filter {
            abi,
            verdicts,
            newest,
        });
    }
    let instructions = filter::write(&filters, default);
    if instructions.len() > LONGEST {
        return Err(Error::invalid_spec(
            "/linux/seccomp/syscalls",
            &format!(
                "compiles to {} instructions, the kernel takes {LONGEST}",
                instructions.len()
            ),
        ));
    }
    Ok(Program {
        instructions,
        flags: flags(profile)?,
        agent: agent(profile)?,
    })
}

/// The system calls that the profile names, whether or not their rules change anything, each with the index of its rule.
fn known(rules: &[Rule]) -> Result<Vec<(usize, Call)>> {
    let mut known: Vec<(usize, Call)> = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        for (position, name) in rule.names.iter().enumerate() {
            if name.is_empty() {
                return Err(Error::invalid_spec(
                    &format!("/linux/seccomp/syscalls/{index}/names/{position}"),
                    "empty string is not a valid syscall",
                ));
            }
            let last = known.last().map(|(_, call)| *call);
            known.extend(Call::of(name, last).map(|call| (index, call)));
        }
    }
    Ok(known)
}

/// Whether system calls newer than those the profile names are to look as if the kernel did not have them, so that
/// programs fall back to older ones.
fn hides_newer(profile: &Seccomp) -> bool {
    !matches!(
        profile.default_action,
        Action::Allow | Action::Log | Action::Trace
    )
}

/// The largest number of `abi` that the profile names. That of read(2) alone hides nothing, as in runc.
fn newest(known: &[(usize, Call)], abi: &Abi) -> Option<u32> {
    let of = |(_, call): &(usize, Call)| {
        let multiplexed = abi.multiplexed(*call).map(|(number, _)| number);
        abi.number(*call).max(multiplexed)
    };
    known
        .iter()
        .filter_map(of)
        .max()
        .filter(|number| *number != 0)
}

fn default_verdict(profile: &Seccomp) -> Result<u32> {
    if profile.default_action == Action::Notify {
        // The filter is loaded by a process that must still write.
        return Err(Error::invalid_spec(
            "/linux/seccomp/defaultAction",
            "SCMP_ACT_NOTIFY cannot be used as default action",
        ));
    }
    verdict(profile.default_action, profile.default_errno_ret)
        .map_err(|text| Error::invalid_spec("/linux/seccomp/defaultErrnoRet", &text))
}

/// What the program returns for `action`, `SECCOMP_RET_*` with its data.
fn verdict(action: Action, data: Option<u32>) -> std::result::Result<u32, String> {
    let takes_data = matches!(action, Action::Errno | Action::Trace);
    if let Some(data) = data {
        if !takes_data {
            return Err("only SCMP_ACT_ERRNO and SCMP_ACT_TRACE take one".to_owned());
        }
        if data > LARGEST_DATA {
            return Err(format!("{data} is above {LARGEST_DATA}"));
        }
    }
    let data = data.unwrap_or(libc::EPERM.unsigned_abs());
    Ok(match action {
        Action::Allow => libc::SECCOMP_RET_ALLOW,
        Action::Errno => libc::SECCOMP_RET_ERRNO | data,
        Action::Kill | Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::Log => libc::SECCOMP_RET_LOG,
        Action::Notify => libc::SECCOMP_RET_USER_NOTIF,
        Action::Trace => libc::SECCOMP_RET_TRACE | data,
        Action::Trap => libc::SECCOMP_RET_TRAP,
    })
}

fn flags(profile: &Seccomp) -> Result<u64> {
    let rules = profile.syscalls.as_deref().unwrap_or_default();
    let mut flags = 0;
    if rules.iter().any(|rule| rule.action == Action::Notify) {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    }
    let written = profile.flags.as_deref().unwrap_or(&[Flag::SpecAllow]);
    for flag in written {
        flags |= match flag {
            // The process that loads the filter has one thread.
            Flag::Tsync => 0,
            Flag::SpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            Flag::Log => libc::SECCOMP_FILTER_FLAG_LOG,
            // The kernel refuses it where nobody listens, and there it would mean nothing.
            Flag::WaitKillableRecv if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 => 0,
            Flag::WaitKillableRecv => libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
        };
    }
    Ok(flags)
}

/// The agent, where a rule needs one.
fn agent(profile: &Seccomp) -> Result<Option<Agent>> {
    let rules = profile.syscalls.as_deref().unwrap_or_default();
    let Some(index) = rules.iter().position(|rule| rule.action == Action::Notify) else {
        return Ok(None);
    };
    match profile.listener_path.as_deref() {
        None | Some("") => Err(Error::invalid_spec(
            "/linux/seccomp/listenerPath",
            &format!("missing: /linux/seccomp/syscalls/{index} has SCMP_ACT_NOTIFY"),
        )),
        Some(path) => Ok(Some(Agent {
            path: path.into(),
            metadata: profile.listener_metadata.clone(),
        })),
    }
}

/// A rule's conditions: all together, or, where two are of one argument, each by itself.
fn alternatives(index: usize, rule: &Rule) -> Result<Vec<Alternative>> {
    let pointer = |rest: &str| format!("/linux/seccomp/syscalls/{index}/{rest}");
    let verdict = verdict(rule.action, rule.errno_ret)
        .map_err(|text| Error::invalid_spec(&pointer("errnoRet"), &text))?;
    if rule.action == Action::Notify
        && let Some(position) = rule.names.iter().position(|name| name == "write")
    {
        // The process that loads the filter writes the listener's number to its parent.
        return Err(Error::invalid_spec(
            &pointer(&format!("names/{position}")),
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ));
    }
    let mut conditions = Vec::new();
    let mut seen = 0_u8;
    let mut is_repeated = false;
    for (position, argument) in rule.args.iter().flatten().enumerate() {
        if argument.index >= ARGUMENT_COUNT {
            return Err(Error::invalid_spec(
                &pointer(&format!("args/{position}/index")),
                &format!("{} is not below {ARGUMENT_COUNT}", argument.index),
            ));
        }
        is_repeated |= seen & 1 << argument.index != 0;
        seen |= 1 << argument.index;
        conditions.push(Condition::new(
            argument.index,
            argument.op,
            argument.value,
            argument.value_two.unwrap_or(0),
        ));
    }
    conditions.sort_by_key(|condition| condition.index);
    let together = |conditions| Alternative {
        conditions,
        verdict,
        rule: index,
    };
    Ok(if is_repeated {
        conditions
            .into_iter()
            .map(|condition| together(vec![condition]))
            .collect()
    } else {
        vec![together(conditions)]
    })
}
