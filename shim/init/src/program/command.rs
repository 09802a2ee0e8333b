//! The command line and the variables: pure functions from words to options.

use super::personality::Personality;
use super::signals;

/// A list of words: the arguments or the environment.
pub trait Words<'a> {
    /// The word at `index`, empty beyond the end.
    fn word(&self, index: usize) -> &'a [u8];
    /// How many there are.
    fn count(&self) -> usize;
}

/// Whom a signal goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The child.
    Child,
    /// The child's process group.
    Group,
}

/// How the child is set apart from us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isolation {
    /// In a process group of its own.
    Group,
    /// In a session of its own.
    Session,
    /// Not at all (dumb-init -c).
    None,
}

/// The resolved command line.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whose command line it was.
    pub personality: Personality,
    /// Orphans are to become our children although we are not PID 1.
    pub subreaper: bool,
    /// The signal to get when our parent ends, 0 for none.
    pub parent_death: i32,
    /// 0: only what is fatal, 1: warnings, 2: information, 3: debug, 4: trace.
    pub verbosity: i32,
    /// Every reaped orphan is reported.
    pub warn_on_reap: bool,
    /// Whom signals go to.
    pub target: Target,
    /// How the child is set apart.
    pub isolation: Isolation,
    /// Exit codes that become 0, bit `n % 64` of word `n / 64`.
    pub expected: [u64; 4],
    /// What a received signal is forwarded as, by its number; 0 drops it.
    pub rewrite: [u8; 32],
    /// An orderly stop of everybody, and after how many milliseconds it ends with KILL.
    pub stop_tree_ms: Option<u64>,
    /// How long a stop signal is held back before it is forwarded.
    pub drain_ms: u64,
    /// Run no program: hold the namespaces and reap.
    pub pause: bool,
    /// Where the program's words begin; `None` exactly if `pause`.
    pub program: Option<usize>,
}

/// Default of `--stop-tree` without a value, which is what docker and kubelet users know of `stop`.
const STOP_TREE_MS: u64 = 10_000;

/// What the words ask for.
#[derive(Debug)]
pub enum Command {
    /// Supervise, or pause.
    Run(Options),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
    /// Print the licence.
    License,
}

/// Why the words are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal<'a> {
    /// No such option.
    Unknown(&'a [u8]),
    /// The option wants a value.
    ValueMissing(&'a [u8]),
    /// The option does not take this value.
    BadValue(&'a [u8], &'a [u8]),
    /// There is no program to run.
    NoProgram,
}

impl Options {
    const fn new(personality: Personality) -> Self {
        let dumb = matches!(personality, Personality::DumbInit);
        let mut rewrite = [0; 32];
        let mut number = 1;
        while number < 32 {
            rewrite[number as usize] = number;
            number += 1;
        }
        Self {
            personality,
            subreaper: matches!(personality, Personality::Catatonit),
            parent_death: 0,
            verbosity: 1,
            warn_on_reap: false,
            target: if dumb { Target::Group } else { Target::Child },
            isolation: if dumb {
                Isolation::Session
            } else {
                Isolation::Group
            },
            expected: [0; 4],
            rewrite,
            stop_tree_ms: None,
            drain_ms: 0,
            pause: matches!(personality, Personality::Pause),
            program: None,
        }
    }

    /// Whether this exit code counts as success.
    pub fn expects(&self, code: u8) -> bool {
        self.expected
            .get(usize::from(code / 64))
            .is_some_and(|word| word >> (code % 64) & 1 == 1)
    }

    /// Whether somebody wants to hear of every reaped process, so that the kernel may not reap for us.
    pub const fn reports_reaping(&self) -> bool {
        self.warn_on_reap || self.verbosity >= 2
    }

    /// One child, no session: dumb-init's -c and DUMB_INIT_SETSID=0.
    const fn single_child(&mut self) {
        self.target = Target::Child;
        self.isolation = Isolation::None;
    }

    fn expect(&mut self, value: &[u8]) -> bool {
        let Some(code) = number(value).and_then(|n| u8::try_from(n).ok()) else {
            return false;
        };
        if let Some(word) = self.expected.get_mut(usize::from(code / 64)) {
            *word |= 1 << (code % 64);
        }
        true
    }

    fn rewrite(&mut self, value: &[u8]) -> bool {
        let mut parts = value.splitn(2, |byte| *byte == b':');
        let from = parts
            .next()
            .and_then(number)
            .filter(|n| (1..=31).contains(n));
        let to = parts.next().and_then(number).filter(|n| *n <= 31);
        let (Some(from), Some(to)) = (from, to) else {
            return false;
        };
        let place = usize::try_from(from)
            .ok()
            .and_then(|from| self.rewrite.get_mut(from));
        if let (Some(place), Ok(to)) = (place, u8::try_from(to)) {
            *place = to;
        }
        true
    }

    fn parent_death(&mut self, value: &[u8]) -> bool {
        self.parent_death = signals::by_name(value).unwrap_or(0);
        self.parent_death != 0
    }

    fn stop_tree(&mut self, value: &[u8]) -> bool {
        self.stop_tree_ms = milliseconds(value);
        self.stop_tree_ms.is_some()
    }

    fn drain(&mut self, value: &[u8]) -> bool {
        self.drain_ms = milliseconds(value).unwrap_or(0);
        milliseconds(value).is_some()
    }
}

/// A decimal number of at most six digits and nothing else.
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 6 {
        return None;
    }
    text.iter().try_fold(0, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + u32::from(byte - b'0'))
    })
}

/// Seconds, with up to three decimal places.
fn milliseconds(text: &[u8]) -> Option<u64> {
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = u64::from(parts.next().and_then(number)?) * 1000;
    let Some(places) = parts.next() else {
        return Some(whole);
    };
    let scale = match places.len() {
        1 => 100,
        2 => 10,
        3 => 1,
        _ => return None,
    };
    Some(whole + u64::from(number(places)?) * scale)
}

/// A short option or the long one that means the same, and what to do about it.
enum Step {
    Done,
    Stop(Command),
    WantsValue(fn(&mut Options, &[u8]) -> bool),
    Unknown,
}

fn short(options: &mut Options, letter: u8) -> Step {
    use Personality::{Catatonit, DumbInit, Own, Pause, Tini};
    match (options.personality, letter) {
        (Own | Tini | DumbInit | Catatonit, b'h') => return Step::Stop(Command::Help),
        (Own | Tini, b'l') | (Catatonit, b'L') => return Step::Stop(Command::License),
        (DumbInit | Catatonit, b'V') | (Pause, b'v') => return Step::Stop(Command::Version),
        (Own | Tini, b's') => options.subreaper = true,
        (Own | Tini, b'v') => options.verbosity += 1,
        (Own | Tini, b'w') => options.warn_on_reap = true,
        (Own | Tini | Catatonit, b'g') => options.target = Target::Group,
        (Own | Tini, b'p') => return Step::WantsValue(Options::parent_death),
        (Own | Tini, b'e') => return Step::WantsValue(Options::expect),
        (Catatonit, b'P') => options.pause = true,
        (DumbInit, b'c') => options.single_child(),
        (DumbInit, b'v') => options.verbosity = 3,
        (DumbInit, b'r') => return Step::WantsValue(Options::rewrite),
        _ => return Step::Unknown,
    }
    Step::Done
}

fn long(options: &mut Options, name: &[u8]) -> Step {
    match (options.personality, name) {
        (_, b"stop-tree") => options.stop_tree_ms = Some(STOP_TREE_MS),
        (_, b"stop-tree=") => return Step::WantsValue(Options::stop_tree),
        (_, b"drain" | b"drain=") => return Step::WantsValue(Options::drain),
        (_, b"rewrite" | b"rewrite=") => return Step::WantsValue(Options::rewrite),
        (Personality::Own, b"pause") => options.pause = true,
        (Personality::Own | Personality::DumbInit, b"help") => return Step::Stop(Command::Help),
        (Personality::DumbInit, b"single-child") => options.single_child(),
        (Personality::DumbInit, b"verbose") => options.verbosity = 3,
        (Personality::DumbInit | Personality::Catatonit, b"version") => {
            return Step::Stop(Command::Version);
        }
        _ => return Step::Unknown,
    }
    Step::Done
}

/// Reads the arguments. Like getopt with a leading `+`: the first word that is no option begins the program, `--` too.
pub fn parse<'a>(words: &impl Words<'a>) -> Result<Command, Refusal<'a>> {
    let mut options = Options::new(Personality::of(words.word(0)));
    // tini knows --version only as the sole argument; so a program of that name can be run after `--`.
    if words.count() == 2 && words.word(1) == b"--version" {
        return Ok(Command::Version);
    }
    options.pause |= options.personality == Personality::Own && words.count() <= 1;
    let mut at = 1;
    while at < words.count() {
        let word = words.word(at);
        at += 1;
        if word == b"--" {
            break;
        }
        if let Some(name) = word.strip_prefix(b"--") {
            let cut = name
                .iter()
                .position(|byte| *byte == b'=')
                .map_or(name.len(), |place| place + 1);
            let step = long(&mut options, name.get(..cut).unwrap_or(name));
            let value =
                (cut < name.len() || word.ends_with(b"=")).then(|| name.get(cut..).unwrap_or(b""));
            if let Some(command) = take(&mut options, step, word, value, words, &mut at)? {
                return Ok(command);
            }
        } else if word.len() > 1 && word.starts_with(b"-") {
            if let Some(command) = cluster(&mut options, word, words, &mut at)? {
                return Ok(command);
            }
        } else {
            at -= 1;
            break;
        }
    }
    if !options.pause {
        options.program = (at < words.count()).then_some(at);
        options.program.ok_or(Refusal::NoProgram)?;
    }
    Ok(Command::Run(options))
}

/// Carries out the short options of one word, of which the last may have its value in the same word.
fn cluster<'a>(
    options: &mut Options,
    word: &'a [u8],
    words: &impl Words<'a>,
    at: &mut usize,
) -> Result<Option<Command>, Refusal<'a>> {
    let mut rest = word.get(1..).unwrap_or(b"");
    while let [letter, tail @ ..] = rest {
        let step = short(options, *letter);
        let wants = matches!(step, Step::WantsValue(_));
        let value = (wants && !tail.is_empty()).then_some(tail);
        // The message names the option, not the cluster.
        let name = if wants { option_name(*letter) } else { word };
        if let Some(command) = take(options, step, name, value, words, at)? {
            return Ok(Some(command));
        }
        rest = if wants { b"" } else { tail };
    }
    Ok(None)
}

/// The short options with a value, as messages name them.
const fn option_name(letter: u8) -> &'static [u8] {
    match letter {
        b'p' => b"-p",
        b'e' => b"-e",
        _ => b"-r",
    }
}

/// Carries one option out; `at` moves on if its value is the next word.
fn take<'a>(
    options: &mut Options,
    step: Step,
    word: &'a [u8],
    value: Option<&'a [u8]>,
    words: &impl Words<'a>,
    at: &mut usize,
) -> Result<Option<Command>, Refusal<'a>> {
    match step {
        Step::Done => Ok(None),
        Step::Stop(command) => Ok(Some(command)),
        Step::Unknown => Err(Refusal::Unknown(word)),
        Step::WantsValue(set) => {
            if value.is_none() && *at >= words.count() {
                return Err(Refusal::ValueMissing(word));
            }
            let value = value.unwrap_or_else(|| {
                *at += 1;
                words.word(*at - 1)
            });
            if set(options, value) {
                Ok(None)
            } else {
                Err(Refusal::BadValue(word, value))
            }
        }
    }
}

/// The variables of the programs whose place we take: read here, and not handed on to the child.
const VARIABLES: [&[u8]; 6] = [
    b"TINI_SUBREAPER=",
    b"TINI_KILL_PROCESS_GROUP=",
    b"TINI_VERBOSITY=",
    b"DUMB_INIT_DEBUG=",
    b"DUMB_INIT_SETSID=",
    b"CATATONIT_DEBUG=",
];

/// Applies `NAME=value` if it is one of ours, and says whether it was.
pub fn apply_variable(options: &mut Options, variable: &[u8]) -> bool {
    use Personality::{Catatonit, DumbInit, Own, Tini};
    let Some(name) = VARIABLES.iter().find(|name| variable.starts_with(name)) else {
        return false;
    };
    let value = variable.get(name.len()..).unwrap_or(b"");
    match (options.personality, *name) {
        (Own | Tini, b"TINI_SUBREAPER=") => options.subreaper = true,
        (Own | Tini, b"TINI_KILL_PROCESS_GROUP=") => options.target = Target::Group,
        (Own | Tini, b"TINI_VERBOSITY=") => {
            options.verbosity = number(value)
                .and_then(|n| i32::try_from(n).ok())
                .unwrap_or(0);
        }
        (DumbInit, b"DUMB_INIT_DEBUG=") if value == b"1" => options.verbosity = 3,
        (DumbInit, b"DUMB_INIT_SETSID=") if value == b"0" => options.single_child(),
        (Catatonit, b"CATATONIT_DEBUG=") => options.verbosity = 3,
        _ => {}
    }
    true
}

/// The mask that a launcher wants the child to have, from `OCIRUN_INIT_MASK=` and sixteen hexadecimal digits.
pub fn launcher_mask(variable: &[u8]) -> Option<u64> {
    let digits = variable
        .strip_prefix(b"OCIRUN_INIT_MASK=")
        .filter(|digits| digits.len() == 16)?;
    digits.iter().try_fold(0u64, |sum, byte| {
        Some(sum << 4 | u64::from(char::from(*byte).to_digit(16)?))
    })
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
