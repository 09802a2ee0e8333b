//! A launcher whose program gets an errno from one system call: older kernels and full machines, made to order.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// What is refused.
#[derive(Clone, Copy, Debug)]
pub enum Refused {
    /// ioctl(PIDFD_GET_INFO), with ENOTTY as kernels below 6.13 do; below 6.15 it tells no exit status.
    PidfdInfo,
    /// clone(2), with EAGAIN as where no more processes may be.
    Clone,
}

impl Refused {
    /// Its word on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::PidfdInfo => "--refuse-pidfd-info",
            Self::Clone => "--refuse-clone",
        }
    }

    /// The one of this word.
    pub fn of(word: &str) -> Option<Self> {
        [Self::PidfdInfo, Self::Clone]
            .into_iter()
            .find(|refused| refused.word() == word)
    }

    fn filter(self) -> Result<BpfProgram, Box<dyn std::error::Error>> {
        const PIDFD_GET_INFO: u64 = 0xC040_FF0B;
        let (call, rules, errno) = match self {
            Self::PidfdInfo => {
                let second = SeccompCondition::new(
                    1,
                    SeccompCmpArgLen::Dword,
                    SeccompCmpOp::Eq,
                    PIDFD_GET_INFO,
                )?;
                let errno = nix::errno::Errno::ENOTTY;
                (
                    nix::libc::SYS_ioctl,
                    vec![SeccompRule::new(vec![second])?],
                    errno,
                )
            }
            Self::Clone => (nix::libc::SYS_clone, Vec::new(), nix::errno::Errno::EAGAIN),
        };
        let filter = SeccompFilter::new(
            BTreeMap::from([(call, rules)]),
            SeccompAction::Allow,
            SeccompAction::Errno((errno as i32).unsigned_abs()),
            TargetArch::try_from(std::env::consts::ARCH)?,
        )?;
        Ok(filter.try_into()?)
    }

    /// Becomes `line`, which meets the refusal; returns only an error.
    pub fn launch(self, line: &[String]) -> Result<(), Box<dyn std::error::Error>> {
        let program = self.filter()?;
        seccompiler::apply_filter(&program)?;
        let (name, arguments) = line.split_first().ok_or("a program")?;
        Err(Command::new(name).args(arguments).exec().into())
    }
}
