//! `linux.seccomp` as written.

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, de};

/// A system call filter.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// For system calls that no rule speaks of.
    pub default_action: Action,
    /// Error number of the default action, `EPERM` when absent.
    pub default_errno_ret: Option<u32>,
    /// Those that may make system calls, beside the native one.
    pub architectures: Option<Vec<Architecture>>,
    /// Of seccomp(2). Absent is not the same as empty.
    pub flags: Option<Vec<Flag>>,
    /// Socket of the agent that gets the descriptor of [`Action::Notify`].
    pub listener_path: Option<String>,
    /// What the agent is told beside the descriptor.
    pub listener_metadata: Option<String>,
    /// The rules.
    pub syscalls: Option<Vec<Rule>>,
}

/// An element of `linux.seccomp.syscalls`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// System calls. Names that are not known are passed over.
    pub names: Vec<String>,
    /// What happens to them.
    pub action: Action,
    /// Error number of [`Action::Errno`], message of [`Action::Trace`]; `EPERM` when absent.
    pub errno_ret: Option<u32>,
    /// Conditions; the rule holds always when there are none.
    pub args: Option<Vec<Argument>>,
}

/// A condition on one argument of a system call.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Argument {
    /// Which, from 0 to 5.
    pub index: u32,
    /// What it is compared with; for [`Operator::MaskedEqual`] the mask.
    pub value: u64,
    /// What the masked argument is compared with.
    pub value_two: Option<u64>,
    /// How.
    pub op: Operator,
}

/// An enumeration whose values are names of the specification.
macro_rules! names {
    ($(#[$doc:meta])* $type:ident: $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $type {
            /// All names, in the order of the values.
            pub const NAMES: &[&str] = &[$($name),*];
            const VALUES: &[Self] = &[$(Self::$variant),*];
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = Name { what: $what, names: Self::NAMES };
                deserializer.deserialize_str(name).map(|index| Self::VALUES[index])
            }
        }
    };
}

/// Reads one of `names` as its index.
struct Name {
    what: &'static str,
    names: &'static [&'static str],
}

impl Visitor<'_> for Name {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name of {}", self.what)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<usize, E> {
        self.names
            .iter()
            .position(|name| *name == text)
            .ok_or_else(|| Error::unknown_variant(text, self.names))
    }
}

names! {
    /// What happens to a system call, see seccomp(2).
    Action: "a seccomp action" {
        /// It runs.
        Allow = "SCMP_ACT_ALLOW",
        /// It fails.
        Errno = "SCMP_ACT_ERRNO",
        /// The thread ends. The same as [`Self::KillThread`].
        Kill = "SCMP_ACT_KILL",
        /// The process ends.
        KillProcess = "SCMP_ACT_KILL_PROCESS",
        /// The thread ends.
        KillThread = "SCMP_ACT_KILL_THREAD",
        /// It runs and is logged.
        Log = "SCMP_ACT_LOG",
        /// An agent in another process answers.
        Notify = "SCMP_ACT_NOTIFY",
        /// The process's tracer is told.
        Trace = "SCMP_ACT_TRACE",
        /// The thread gets SIGSYS.
        Trap = "SCMP_ACT_TRAP",
    }
}

names! {
    /// How an argument is compared, unsigned.
    Operator: "a seccomp operator" {
        /// `argument == value`
        Equal = "SCMP_CMP_EQ",
        /// `argument >= value`
        GreaterOrEqual = "SCMP_CMP_GE",
        /// `argument > value`
        Greater = "SCMP_CMP_GT",
        /// `argument <= value`
        LessOrEqual = "SCMP_CMP_LE",
        /// `argument < value`
        Less = "SCMP_CMP_LT",
        /// `argument & value == valueTwo & value`
        MaskedEqual = "SCMP_CMP_MASKED_EQ",
        /// `argument != value`
        NotEqual = "SCMP_CMP_NE",
    }
}

names! {
    /// A calling convention for system calls.
    Architecture: "a seccomp architecture" {
        /// ARM with 64 bits.
        Aarch64 = "SCMP_ARCH_AARCH64",
        /// ARM with 32 bits.
        Arm = "SCMP_ARCH_ARM",
        /// LoongArch with 64 bits.
        LoongArch64 = "SCMP_ARCH_LOONGARCH64",
        /// MIPS o32, big endian.
        Mips = "SCMP_ARCH_MIPS",
        /// MIPS n64, big endian.
        Mips64 = "SCMP_ARCH_MIPS64",
        /// MIPS n32, big endian.
        Mips64N32 = "SCMP_ARCH_MIPS64N32",
        /// MIPS o32, little endian.
        Mipsel = "SCMP_ARCH_MIPSEL",
        /// MIPS n64, little endian.
        Mipsel64 = "SCMP_ARCH_MIPSEL64",
        /// MIPS n32, little endian.
        Mipsel64N32 = "SCMP_ARCH_MIPSEL64N32",
        /// PowerPC with 32 bits.
        Ppc = "SCMP_ARCH_PPC",
        /// PowerPC with 64 bits, big endian.
        Ppc64 = "SCMP_ARCH_PPC64",
        /// PowerPC with 64 bits, little endian.
        Ppc64Le = "SCMP_ARCH_PPC64LE",
        /// RISC-V with 64 bits.
        RiscV64 = "SCMP_ARCH_RISCV64",
        /// S/390 with 31 bits.
        S390 = "SCMP_ARCH_S390",
        /// S/390 with 64 bits.
        S390X = "SCMP_ARCH_S390X",
        /// 64-bit registers and 32-bit pointers on x86-64.
        X32 = "SCMP_ARCH_X32",
        /// 32-bit x86.
        X86 = "SCMP_ARCH_X86",
        /// x86-64.
        X86_64 = "SCMP_ARCH_X86_64",
    }
}

names! {
    /// A flag of `SECCOMP_SET_MODE_FILTER`.
    Flag: "a seccomp flag" {
        /// All threads. There is only one when the filter is loaded.
        Tsync = "SECCOMP_FILTER_FLAG_TSYNC",
        /// No mitigation of speculative store bypass.
        SpecAllow = "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        /// All actions but allow are logged.
        Log = "SECCOMP_FILTER_FLAG_LOG",
        /// A call that its agent has seen is only interrupted by fatal signals.
        WaitKillableRecv = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    }
}
