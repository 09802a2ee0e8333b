//! libseccomp, which profiles are written and tested with, as the peer. Not needed to build or to test otherwise:
//!
//! ```sh
//! cc -o peer runtime-core/tests/libseccomp-peer.c -lseccomp
//! LIBSECCOMP_PEER=$PWD/peer cargo test -p runtime-core --release -- --ignored agrees_with_libseccomp
//! ```
//!
//! `LIBSECCOMP_PROFILES` names a directory with `linux.seccomp` objects to be compared too, `LIBSECCOMP_COUNT` is how many
//! random profiles of each kind there are, `LIBSECCOMP_EXPLAIN` shows where libseccomp is by itself.
//!
//! Each verdict is also found by reading the rules one by one ([`candidates`]). Ours is always one of those, and the only
//! one where the rules that match agree. That of libseccomp 2.5.4 is not always: its programs now and then compare a
//! word without loading it, where its own listing of the same filter (`seccomp_export_pfc`) is right.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, fs};

use super::super::architecture::{Abi, Call, X32_SYSCALL_BIT, name_at, served};
use super::super::reader::{candidates, hidden};
use super::super::table::COUNT;
use super::super::{compile_for, interpreter, verdict};
use crate::kernel::process::Instruction;
use crate::spec::seccomp::{Action, Architecture, Argument, Operator, Rule, Seccomp};

const NATIVES: [Architecture; 5] = [
    Architecture::X86_64,
    Architecture::Aarch64,
    Architecture::RiscV64,
    Architecture::Ppc64Le,
    Architecture::S390X,
];
const ENOSYS: u32 = 0x5_0026;
/// Names of which libseccomp 2.5 has no number, or a wrong one, on some architecture.
const ODD: [&str; 3] = [
    "map_shadow_stack",
    "sync_file_range2",
    "sys_debug_setcontext",
];

struct Peer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    known: Vec<(String, bool)>,
}

impl Peer {
    fn start() -> Self {
        let program = env::var("LIBSECCOMP_PEER").expect("LIBSECCOMP_PEER");
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
            known: Vec::new(),
        }
    }

    /// Takes out of a profile what is newer than this libseccomp.
    fn date(&mut self, profile: &mut Seccomp) {
        for rule in profile.syscalls.iter_mut().flatten() {
            rule.names
                .retain(|name| !ODD.contains(&name.as_str()) && self.knows(name));
        }
    }

    fn knows(&mut self, name: &str) -> bool {
        if let Some((_, known)) = self.known.iter().find(|(of, _)| of == name) {
            return *known;
        }
        writeln!(self.stdin, "knows {name}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let known = line == "yes\n";
        self.known.push((name.to_owned(), known));
        known
    }

    /// What libseccomp makes of a profile, driven as runc drives it; none if it refuses.
    fn compile(&mut self, profile: &Seccomp, native: Architecture) -> Option<Vec<Instruction>> {
        let default = verdict(profile.default_action, profile.default_errno_ret).unwrap();
        let mut text = format!("new {default}\nonly {}\n", token(native));
        for architecture in profile.architectures.iter().flatten() {
            if served(native).contains(architecture) {
                writeln!(text, "arch {}", token(*architecture)).unwrap();
            }
        }
        for rule in profile.syscalls.iter().flatten() {
            let action = verdict(rule.action, rule.errno_ret).unwrap();
            let arguments: Vec<String> = rule.args.iter().flatten().map(argument).collect();
            let mut indices: Vec<u32> = rule.args.iter().flatten().map(|arg| arg.index).collect();
            indices.sort_unstable();
            let is_repeated = indices.windows(2).any(|pair| pair[0] == pair[1]);
            for name in rule.names.iter().filter(|_| action != default) {
                if is_repeated {
                    for argument in &arguments {
                        writeln!(text, "rule {action} {name} 1 {argument}").unwrap();
                    }
                } else {
                    let count = arguments.len();
                    writeln!(text, "rule {action} {name} {count} {}", arguments.join(" ")).unwrap();
                }
            }
        }
        text += "export\n";
        self.stdin.write_all(text.as_bytes()).unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let count = line.trim().parse::<usize>().ok()?;
        let mut bytes = vec![0; count * 8];
        self.stdout.read_exact(&mut bytes).unwrap();
        let is_big_endian = Abi::of(native).unwrap().is_big_endian;
        Some(
            bytes
                .chunks(8)
                .map(|one| instruction(one, is_big_endian))
                .collect(),
        )
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `SCMP_ARCH_*`, which is the audit number but for x32.
fn token(architecture: Architecture) -> u32 {
    match architecture {
        Architecture::X32 => 0x4000_003e,
        other => Abi::of(other).unwrap().audit,
    }
}

/// `enum scmp_compare`.
fn argument(argument: &Argument) -> String {
    let op = match argument.op {
        Operator::NotEqual => 1,
        Operator::Less => 2,
        Operator::LessOrEqual => 3,
        Operator::Equal => 4,
        Operator::GreaterOrEqual => 5,
        Operator::Greater => 6,
        Operator::MaskedEqual => 7,
    };
    let second = argument.value_two.unwrap_or(0);
    format!("{} {op} {} {second}", argument.index, argument.value)
}

fn instruction(bytes: &[u8], is_big_endian: bool) -> Instruction {
    let code = [bytes[0], bytes[1]];
    let k = [bytes[4], bytes[5], bytes[6], bytes[7]];
    let (code, k) = if is_big_endian {
        let code = u16::from_be_bytes(code);
        // libseccomp leaves some verdicts in the order of the machine it runs on.
        let known = [0x3, 0x5, 0x7fc0, 0x7ff0, 0x7ffc, 0x7fff, 0x8000];
        let is_foreign = code == 0x06 && !known.contains(&(u32::from_be_bytes(k) >> 16));
        (
            code,
            if is_foreign {
                u32::from_le_bytes(k)
            } else {
                u32::from_be_bytes(k)
            },
        )
    } else {
        (u16::from_le_bytes(code), u32::from_le_bytes(k))
    };
    Instruction {
        code,
        jt: bytes[2],
        jf: bytes[3],
        k,
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap() % end
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn value(&mut self) -> u64 {
        match self.below(6) {
            0 => self.next() % 4,
            1 => self.next() % 64,
            2 => ((self.next() % 3) << 32) | (self.next() % 3),
            3 => u64::MAX - self.next() % 3,
            4 => 1 << self.below(64),
            _ => (self.next() << 11) ^ self.next(),
        }
    }

    fn action(&mut self) -> (Action, Option<u32>) {
        let action = self.one(&[
            Action::Allow,
            Action::Allow,
            Action::Errno,
            Action::Errno,
            Action::Kill,
            Action::KillThread,
            Action::KillProcess,
            Action::Trap,
            Action::Trace,
            Action::Log,
        ]);
        let takes_data = matches!(action, Action::Errno | Action::Trace) && self.below(2) == 0;
        (
            action,
            takes_data.then(|| u32::try_from(self.next() % 40).unwrap()),
        )
    }

    fn arguments(&mut self) -> Vec<Argument> {
        let count = self.one(&[0, 0, 1, 1, 1, 2, 2, 3]);
        let argument = |random: &mut Self| Argument {
            index: random.one(&[0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5]),
            value: random.value(),
            value_two: (random.below(2) == 0).then(|| random.value()),
            op: random.one(&[
                Operator::Equal,
                Operator::Equal,
                Operator::NotEqual,
                Operator::Less,
                Operator::LessOrEqual,
                Operator::Greater,
                Operator::GreaterOrEqual,
                Operator::MaskedEqual,
            ]),
        };
        (0..count).map(|_| argument(self)).collect()
    }

    /// A profile in which all rules of a system call have one action, unless they `differ`.
    fn profile(&mut self, native: Architecture, differ: bool) -> Seccomp {
        let (default_action, default_errno_ret) = self.action();
        let pool: Vec<&str> = (0..1 + self.below(40)).map(|_| self.name()).collect();
        let actions: Vec<(Action, Option<u32>)> = pool.iter().map(|_| self.action()).collect();
        let rules = (0..self.below(30)).map(|_| {
            let at = self.below(pool.len());
            let mut names = vec![pool[at].to_owned()];
            let mut action = actions[pool.iter().position(|name| *name == pool[at]).unwrap()];
            if differ {
                action = self.action();
                names.extend((0..self.below(4)).map(|_| self.one(&pool).to_owned()));
            }
            Rule {
                names,
                action: action.0,
                errno_ret: action.1,
                args: Some(self.arguments()),
            }
        });
        let syscalls = Some(rules.collect());
        let mut architectures = served(native).to_vec();
        architectures.retain(|_| self.below(4) != 0);
        Seccomp {
            default_action,
            default_errno_ret,
            architectures: Some(architectures),
            flags: None,
            listener_path: None,
            listener_metadata: None,
            syscalls,
        }
    }

    fn name(&mut self) -> &'static str {
        match self.below(10) {
            0 => self.one(&[
                "socket",
                "bind",
                "accept",
                "send",
                "socketcall",
                "ipc",
                "shmget",
            ]),
            1 => "no_such_call",
            _ => name_at(self.below(COUNT)),
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    profiles: usize,
    refused: usize,
    verdicts: usize,
    /// Rules that match a call say different things, and libseccomp follows another.
    other_choices: usize,
    /// libseccomp does what no rule that matches says: its own mistakes.
    mistakes: usize,
    profiles_with_mistakes: usize,
    choices: usize,
}

/// Compares all numbers, with arguments about the values that the profile has.
fn compare(
    peer: &mut Peer,
    random: &mut Random,
    profile: &mut Seccomp,
    native: Architecture,
    tally: &mut Tally,
) {
    tally.profiles += 1;
    peer.date(profile);
    let Some(theirs) = peer.compile(profile, native) else {
        tally.refused += 1;
        return;
    };
    let ours = compile_for(profile, native).unwrap_or_else(|error| panic!("{error}: {profile:?}"));
    let mut values: Vec<u64> = vec![0, 1, 5, u64::MAX];
    for argument in profile
        .syscalls
        .iter()
        .flatten()
        .flat_map(|rule| rule.args.iter().flatten())
    {
        let second = argument.value_two.unwrap_or(0);
        for value in [argument.value, second, argument.value & second] {
            values.extend([
                value,
                value.wrapping_sub(1),
                value.wrapping_add(1),
                value ^ 1 << 32,
            ]);
        }
    }
    let mut has_mistake = false;
    for architecture in served(native) {
        let abi = Abi::of(*architecture).unwrap();
        let listed = profile.architectures.as_deref().unwrap_or_default();
        let is_served = *architecture == native || listed.contains(architecture);
        let private = (0xf_0000..0xf_0008).chain([X32_SYSCALL_BIT - 1, u32::MAX - 1, u32::MAX]);
        for number in (0..600).chain(private) {
            let number = if number < 600 {
                number | abi.number_bits
            } else {
                number
            };
            for round in 0..8 {
                let arguments = [(); 6].map(|()| if round == 0 { 0 } else { random.one(&values) });
                let mut call = interpreter::Call::new(abi.audit, number, arguments);
                call.is_big_endian = Abi::of(native).unwrap().is_big_endian;
                let found = interpreter::run(ours.instructions(), &call);
                tally.verdicts += 1;
                if hidden(profile, native, &call) {
                    assert_eq!(found, ENOSYS, "{call:x?}");
                    continue;
                }
                let expected = interpreter::run(&theirs, &call);
                if number >= 600 | abi.number_bits || !is_served {
                    assert_eq!(found, expected, "{call:x?}");
                    continue;
                }
                let candidates = candidates(profile, *architecture, &call);
                tally.choices += usize::from(candidates.len() > 1);
                if found != expected && candidates.len() > 1 && candidates.contains(&expected) {
                    tally.other_choices += 1;
                } else if found != expected && !candidates.contains(&expected) {
                    tally.mistakes += 1;
                    if !has_mistake && env::var_os("LIBSECCOMP_EXPLAIN").is_some() {
                        explain(profile, &abi, &call, (found, expected));
                    }
                    has_mistake = true;
                }
                if !candidates.contains(&found) {
                    explain(profile, &abi, &call, (found, expected));
                    panic!("not among {candidates:x?}");
                }
            }
        }
    }
    tally.profiles_with_mistakes += usize::from(has_mistake);
}

fn explain(profile: &Seccomp, abi: &Abi, call: &interpreter::Call, verdicts: (u32, u32)) {
    eprintln!("{call:x?}: {:#x}, not {:#x}", verdicts.0, verdicts.1);
    for rule in profile.syscalls.iter().flatten() {
        let is_of_call = |name: &String| {
            let named = Call::of(name, None);
            let multiplexed = named.and_then(|call| abi.multiplexed(call));
            named.and_then(|named| abi.number(named)) == Some(call.number)
                || multiplexed.is_some_and(|(number, _)| number == call.number)
        };
        if rule.names.iter().any(is_of_call) {
            let arguments: Vec<String> = rule
                .args
                .iter()
                .flatten()
                .map(|argument| format!("{argument:x?}"))
                .collect();
            eprintln!("  {:?} {:?} {arguments:#?}", rule.action, rule.errno_ret);
        }
    }
}

#[test]
#[ignore = "needs libseccomp: LIBSECCOMP_PEER"]
fn agrees_with_libseccomp() {
    let mut peer = Peer::start();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let count: usize = env::var("LIBSECCOMP_COUNT").map_or(10_000, |count| count.parse().unwrap());
    let mut files = Tally::default();
    for file in env::var("LIBSECCOMP_PROFILES")
        .iter()
        .flat_map(|path| fs::read_dir(path).unwrap())
    {
        let text = fs::read(file.unwrap().path()).unwrap();
        let mut profile: Seccomp = serde_json::from_slice(&text).unwrap();
        for native in NATIVES {
            compare(&mut peer, &mut random, &mut profile, native, &mut files);
        }
    }
    eprintln!("profiles of files: {files:?}");
    let mut alike = Tally::default();
    let mut differing = Tally::default();
    for index in 0..count {
        let native = NATIVES[if index % 2 == 0 {
            0
        } else {
            index / 2 % NATIVES.len()
        }];
        let mut profile = random.profile(native, false);
        compare(&mut peer, &mut random, &mut profile, native, &mut alike);
    }
    eprintln!("one action a call: {alike:?}");
    for _ in 0..count {
        let mut profile = random.profile(Architecture::X86_64, true);
        compare(
            &mut peer,
            &mut random,
            &mut profile,
            Architecture::X86_64,
            &mut differing,
        );
    }
    eprintln!("several actions a call: {differing:?}");
    assert_eq!(
        (files.refused, files.mistakes, files.other_choices),
        (0, 0, 0)
    );
    assert_eq!((alike.refused, alike.other_choices), (0, 0));
}

/// libseccomp's names, by the number that it gives them, against the table.
#[test]
#[ignore = "needs libseccomp: LIBSECCOMP_PEER"]
fn agrees_with_libseccomp_on_numbers() {
    let mut peer = Peer::start();
    let mut unknown = Vec::new();
    let mut differing = Vec::new();
    for native in NATIVES {
        for index in 0..COUNT {
            let name = name_at(index);
            let call = Call::of(name, None).unwrap();
            let profile = Seccomp {
                default_action: Action::Allow,
                default_errno_ret: None,
                architectures: Some(served(native).to_vec()),
                flags: None,
                listener_path: None,
                listener_metadata: None,
                syscalls: Some(vec![Rule {
                    names: vec![name.to_owned()],
                    action: Action::Trap,
                    errno_ret: None,
                    args: None,
                }]),
            };
            let program = peer.compile(&profile, native).unwrap();
            for architecture in served(native) {
                let abi = Abi::of(*architecture).unwrap();
                let trapped: Vec<u32> = (0..1200)
                    .chain(0xf_0000..0xf_0008)
                    .map(|number| number | abi.number_bits)
                    .filter(|number| {
                        let mut asked = interpreter::Call::new(abi.audit, *number, [0; 6]);
                        asked.is_big_endian = abi.is_big_endian;
                        interpreter::run(&program, &asked) == 0x3_0000
                    })
                    .collect();
                let ours: Vec<u32> = abi.number(call).into_iter().collect();
                if trapped.is_empty() && !ours.is_empty() {
                    unknown.push((name, *architecture));
                } else if trapped != ours {
                    differing.push((name, *architecture));
                }
            }
        }
    }
    eprintln!("names that libseccomp does not know: {unknown:?}");
    // libseccomp 2.5 gives it the number of switch_endian.
    assert_eq!(differing, [("sys_debug_setcontext", Architecture::Ppc64Le)]);
}
