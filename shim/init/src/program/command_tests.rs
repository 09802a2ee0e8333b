//! Tables for the command line.
use super::{
    Command, Isolation, Options, Refusal, Target, Words, apply_variable, launcher_mask,
    milliseconds, parse,
};
use crate::program::personality::Personality;

struct List(Vec<&'static str>);

impl Words<'static> for List {
    fn word(&self, index: usize) -> &'static [u8] {
        self.0.get(index).copied().unwrap_or("").as_bytes()
    }
    fn count(&self) -> usize {
        self.0.len()
    }
}

fn words(line: &'static str) -> List {
    List(line.split(' ').collect())
}

fn run(line: &'static str) -> Options {
    match parse(&words(line)) {
        Ok(Command::Run(options)) => options,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_program_begins_after_the_options() {
    for (line, at) in [
        ("tini true", 1),
        ("tini -- true", 2),
        ("tini -- -- true", 2),
        ("tini -sv -g true -x", 3),
        ("tini -vp SIGTERM true", 3),
        ("tini -vpSIGTERM true", 2),
        ("tini -- --version", 2),
        ("dumb-init -r 15:3 -c true", 4),
        ("dumb-init --rewrite=15:3 true", 2),
        ("dumb-init --rewrite 15:3 true", 3),
        ("catatonit -g -- true", 3),
        ("ocirun-init --stop-tree=2.5 --drain=1 true", 3),
        ("ocirun-init - true", 1),
    ] {
        assert_eq!(run(line).program, Some(at), "{line}");
    }
}

#[test]
fn no_program_is_a_pause_only_where_one_is_meant() {
    for line in [
        "ocirun-init",
        "pause",
        "catatonit -P",
        "ocirun-init --pause --stop-tree=3",
    ] {
        assert_eq!(run(line).program, None, "{line}");
    }
    for line in [
        "tini",
        "tini -w",
        "dumb-init",
        "catatonit",
        "ocirun-init -g",
        "ocirun-init --",
        "ocirun-init --stop-tree",
    ] {
        assert_eq!(
            parse(&words(line)).err(),
            Some(Refusal::NoProgram),
            "{line}"
        );
    }
}

#[test]
fn wrong_words_are_refused() {
    let refusals: [(&str, Refusal); 9] = [
        ("tini -z true", Refusal::Unknown(b"-z")),
        ("tini --help", Refusal::Unknown(b"--help")),
        ("tini -p FOO true", Refusal::BadValue(b"-p", b"FOO")),
        ("tini -e 256 true", Refusal::BadValue(b"-e", b"256")),
        ("tini -e -1 true", Refusal::BadValue(b"-e", b"-1")),
        ("tini -e", Refusal::ValueMissing(b"-e")),
        ("dumb-init --yipyip", Refusal::Unknown(b"--yipyip")),
        (
            "ocirun-init --stop-tree=x true",
            Refusal::BadValue(b"--stop-tree=x", b"x"),
        ),
        (
            "ocirun-init --drain= true",
            Refusal::BadValue(b"--drain=", b""),
        ),
    ];
    for (line, refusal) in refusals {
        assert_eq!(parse(&words(line)).err(), Some(refusal), "{line}");
    }
}

#[test]
fn rewrites_are_two_numbers_up_to_31() {
    for bad in [
        "foo", "0:1", "32:1", "1:32", "1:-1", "1", ":1", "1:", "1:2:3", "15:", "a:b", "-1:15",
    ] {
        let list = List(vec!["dumb-init", "-r", bad, "true"]);
        assert_eq!(
            parse(&list).err(),
            Some(Refusal::BadValue(b"-r", bad.as_bytes())),
            "{bad}"
        );
    }
    let options = run("dumb-init -r 15:3 -r 1:0 true");
    assert_eq!(
        (options.rewrite[15], options.rewrite[1], options.rewrite[2]),
        (3, 0, 2)
    );
}

#[test]
fn every_expected_code_is_kept_apart() {
    let options = run("tini -e 0 -e 63 -e 64 -e 255 true");
    for code in 0..=255 {
        assert_eq!(
            options.expects(code),
            [0, 63, 64, 255].contains(&code),
            "{code}"
        );
    }
}

#[test]
fn seconds_have_up_to_three_places() {
    for (text, wanted) in [
        ("0", Some(0)),
        ("10", Some(10_000)),
        ("2.5", Some(2500)),
        ("0.025", Some(25)),
        ("", None),
    ] {
        assert_eq!(milliseconds(text.as_bytes()), wanted, "{text}");
    }
    for bad in ["-1", "1.", ".5", "1.0000", "1e3", "9999999"] {
        assert_eq!(milliseconds(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn variables_belong_to_their_program() {
    let mut options = run("tini true");
    for variable in [
        &b"TINI_SUBREAPER="[..],
        b"TINI_KILL_PROCESS_GROUP=x",
        b"TINI_VERBOSITY=3",
        b"DUMB_INIT_SETSID=0",
    ] {
        assert!(apply_variable(&mut options, variable));
    }
    assert!(options.subreaper && options.reports_reaping());
    assert_eq!(
        (options.target, options.verbosity, options.isolation),
        (Target::Group, 3, Isolation::Group)
    );
    let mut options = run("dumb-init true");
    assert_eq!(
        (options.target, options.isolation),
        (Target::Group, Isolation::Session)
    );
    assert!(apply_variable(&mut options, b"DUMB_INIT_SETSID=0"));
    assert_eq!(
        (options.target, options.isolation),
        (Target::Child, Isolation::None)
    );
    assert!(!apply_variable(&mut options, b"TINI_SUBREAPERS=1"));
    assert!(!apply_variable(&mut options, b"PATH=/bin"));
    assert_eq!(options.personality, Personality::DumbInit);
}

#[test]
fn the_launchers_mask_is_sixteen_digits() {
    for (text, wanted) in [
        ("OCIRUN_INIT_MASK=0000000000000000", Some(0)),
        ("OCIRUN_INIT_MASK=00000000000040Ff", Some(0x40FF)),
        ("OCIRUN_INIT_MASK=0", None),
        ("OCIRUN_INIT_MASK=000000000000000g", None),
        ("OCIRUN_INIT_MASK", None),
    ] {
        assert_eq!(launcher_mask(text.as_bytes()), wanted, "{text}");
    }
}
