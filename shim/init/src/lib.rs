//! ocirun-init, PID 1 for containers, as bytes that other crates embed.
//!
//! The program is freestanding (no standard library, no libc, no heap). Cargo cannot build such a binary under
//! `cargo test`, which forces unwinding, so the build script compiles `src/program/start.rs` by itself. The result is
//! [`PROGRAM`], and a copy named `ocirun-init` in cargo's output directory, beside the other programs
//! (`target/<triple>/release/ocirun-init`).
//!
//! # Contract with whoever starts it
//! - `argv[0]` decides whose command line it speaks: `tini`, `docker-init`, `dumb-init`, `catatonit`, `podman-init`,
//!   `pause`; any other name is its own, which is tini's with more. `argv = [name, flags…, "--", program, args…]`.
//!   `argv = [name]` or `[name, "--pause", …]` runs no program.
//! - **All signals are blocked before the exec**, and the init is told nothing of the mask that was: it gives its child
//!   the mask that it was started with. A launcher that wants an empty mask in the child says so by
//!   [`LAUNCHER_MASK_VARIABLE`]: its value is the child's mask, 16 hexadecimal digits, and it is not passed on.
//!   Signals that arrive before the init's first instruction then stay pending, and none is lost.
//! - Dispositions, umask, working directory, limits and descriptors reach the child as they are. The init itself
//!   closes all descriptors from 3 on and goes to `/`.
//! - Executed from a sealed memfd by execveat(2) with `AT_EMPTY_PATH`, or from a file: it reads nothing else.
#![cfg_attr(not(test), forbid(unsafe_code))]

/// The static ELF program for the target that this crate is built for.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ocirun-init"));

/// The variable by which a launcher that blocks signals says which mask the child is to have.
pub const LAUNCHER_MASK_VARIABLE: &str = "OCIRUN_INIT_MASK";

/// [`LAUNCHER_MASK_VARIABLE`] with the mask in which nothing is blocked.
pub const EMPTY_MASK: &str = "OCIRUN_INIT_MASK=0000000000000000";

/// The annotation by which a configuration asks for the program: `true`, `false`, or flags with spaces between them.
pub const ANNOTATION: &str = "org.ocirun.init";

#[expect(
    dead_code,
    reason = "the library needs the command line, tests the pure parts; the program in start.rs uses all of it"
)]
mod program {
    pub mod command;
    #[cfg(test)]
    pub mod lockdown;
    pub mod personality;
    #[cfg(test)]
    pub mod print;
    #[cfg(test)]
    pub mod reap;
    pub mod signals;
    #[cfg(test)]
    #[expect(unsafe_code, reason = "the one file with system calls")]
    pub mod sys;
}

use program::command::{self, Command, Refusal, Words};

/// What is wrong with `flags` that are to stand between the name and `--`; nothing if the program takes them.
///
/// # Errors
/// The words to show: an unknown flag, a wrong value, or a flag that has no program run (`-h`, `--pause`).
pub fn check_flags(flags: &[&str]) -> Result<(), String> {
    struct Line<'a>(Vec<&'a [u8]>);
    impl<'a> Words<'a> for Line<'a> {
        fn word(&self, index: usize) -> &'a [u8] {
            self.0.get(index).copied().unwrap_or_default()
        }
        fn count(&self) -> usize {
            self.0.len()
        }
    }
    let flags = flags.iter().map(|flag| flag.as_bytes());
    let line = Line(
        [&b"ocirun-init"[..]]
            .into_iter()
            .chain(flags)
            .chain([&b"--"[..], b"program"])
            .collect(),
    );
    let shown = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    match command::parse(&line) {
        Ok(Command::Run(options)) if options.program == Some(line.count() - 1) => Ok(()),
        Ok(_) => Err("with these flags it would not run the program".to_owned()),
        Err(Refusal::Unknown(word)) => Err(format!("unknown flag {:?}", shown(word))),
        Err(Refusal::ValueMissing(word)) => Err(format!("{} wants a value", shown(word))),
        Err(Refusal::BadValue(word, value)) => {
            Err(format!("{} does not take {:?}", shown(word), shown(value)))
        }
        Err(Refusal::NoProgram) => Err("no program".to_owned()),
    }
}

/// The flags that a value of [`ANNOTATION`] gives; nothing where it asks for no init.
///
/// # Errors
/// One line that begins with the annotation's JSON pointer.
pub fn annotated(value: &str) -> Result<Option<Vec<&str>>, String> {
    let flags: Vec<&str> = match value.trim() {
        "" | "false" => return Ok(None),
        "true" => Vec::new(),
        flags => flags.split_ascii_whitespace().collect(),
    };
    match check_flags(&flags) {
        Ok(()) => Ok(Some(flags)),
        Err(wrong) => Err(format!(
            "/annotations/{ANNOTATION}: neither true, false nor flags of ocirun-init: {wrong}"
        )),
    }
}

/// The words in front of a container's program. Orphans come to it in any case: where it is not PID 1, it asks for them.
pub fn words(flags: Vec<&str>, is_pid_1: bool) -> Vec<&str> {
    let subreaper = (!is_pid_1).then_some("-s");
    let before = ["ocirun-init"].into_iter().chain(subreaper);
    before.chain(flags).chain(["--"]).collect()
}

#[cfg(test)]
mod tests {
    use super::{EMPTY_MASK, LAUNCHER_MASK_VARIABLE, PROGRAM, annotated, check_flags, words};

    #[test]
    fn annotations() {
        for (value, expected) in [
            ("true", Some(vec![])),
            ("false", None),
            ("", None),
            (" -g  --stop-tree=5 ", Some(vec!["-g", "--stop-tree=5"])),
        ] {
            assert_eq!(annotated(value), Ok(expected), "{value:?}");
        }
        for (value, expected) in [
            ("yes", "would not run"),
            ("--nope", "unknown flag \"--nope\""),
            ("-h", "would not run"),
        ] {
            let wrong = annotated(value).unwrap_err();
            let starts = wrong.starts_with("/annotations/org.ocirun.init: ");
            assert!(starts && wrong.contains(expected), "{wrong}");
        }
    }

    #[test]
    fn words_before_the_program() {
        assert_eq!(words(vec!["-g"], true), ["ocirun-init", "-g", "--"]);
        assert_eq!(words(vec![], false), ["ocirun-init", "-s", "--"]);
        assert_eq!(EMPTY_MASK, format!("{LAUNCHER_MASK_VARIABLE}={:016x}", 0));
    }

    #[test]
    fn flags_for_a_program_are_told_from_others() {
        let cases: [(&[&str], Option<&str>); 9] = [
            (&[], None),
            (&["-g", "--stop-tree=5", "-e", "143"], None),
            (&["-vv", "--drain=0.5"], None),
            (&["-x"], Some("unknown flag \"-x\"")),
            (&["-e", "999"], Some("-e does not take \"999\"")),
            (&["-p"], Some("-p does not take \"--\"")),
            (
                &["-h"],
                Some("with these flags it would not run the program"),
            ),
            (
                &["--pause"],
                Some("with these flags it would not run the program"),
            ),
            (
                &["sh"],
                Some("with these flags it would not run the program"),
            ),
        ];
        for (flags, wrong) in cases {
            assert_eq!(check_flags(flags).err().as_deref(), wrong, "{flags:?}");
        }
    }

    #[test]
    fn the_program_is_small_and_needs_no_loader() {
        assert_eq!(&PROGRAM[..4], b"\x7fELF");
        assert!(PROGRAM.len() <= 24 * 1024, "{} bytes", PROGRAM.len());
        assert!(!PROGRAM.windows(8).any(|window| window == b"ld-linux"));
    }
}
