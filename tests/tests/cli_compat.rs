//! The command line as callers of runc know it: flags, help, usage errors and exit codes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::{Bundle, Container, Finished, Invocation, Kind, Need, runtime, suite};

const COMMANDS: [&str; 17] = [
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "features",
    "kill",
    "list",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "update",
];

fn call(args: &[&str]) -> Finished {
    Invocation::new(&runtime().program).args(args).finish()
}

fn empty() -> Container {
    Bundle::new().probe(&["print", "x"]).container()
}

fn own_name() -> &'static str {
    if runtime().kind == Kind::Ocirun {
        "ocirun"
    } else {
        "runc"
    }
}

fn version_lines() {
    for flag in ["--version", "-v", "-version"] {
        let text = call(&[flag]).ok().stdout();
        let lines: Vec<&str> = text.lines().collect();
        let version = lines[0]
            .strip_prefix(&format!("{} version ", own_name()))
            .unwrap();
        assert!(
            version.starts_with(|letter: char| letter.is_ascii_digit()),
            "{version}"
        );
        assert_eq!(version.split('.').count(), 3, "{version}");
        assert!(lines[1].starts_with("commit: "), "{text}");
        let spec = lines[2].strip_prefix("spec: ").unwrap();
        assert_eq!(spec.split('.').count(), 3, "{spec}");
    }
}

/// What go-runc and with it containerd, podman and others parse.
fn called_as_runc_it_says_runc() {
    let version = Invocation::new(&runtime().program)
        .called("runc")
        .arg("--version")
        .finish()
        .ok();
    assert!(version.stdout().starts_with("runc version "), "{version}");
}

fn help_names_every_command() {
    for arguments in [&["--help"][..], &["-h"], &["help"], &["h"], &["-help"], &[]] {
        let help = call(arguments).ok().stdout();
        for command in COMMANDS {
            let listed = help
                .lines()
                .any(|line| line.split_whitespace().next() == Some(command));
            assert!(listed, "{command} in {arguments:?}: {help}");
        }
        for heading in ["NAME:", "USAGE:", "COMMANDS:", "GLOBAL OPTIONS:"] {
            assert!(help.contains(heading), "{heading}: {help}");
        }
    }
}

fn help_of_every_command() {
    for command in COMMANDS {
        for arguments in [
            [command, "--help"],
            [command, "-h"],
            [command, "-help"],
            ["help", command],
        ] {
            let help = call(&arguments).ok().stdout();
            assert!(
                help.starts_with(&format!("NAME:\n   {} {command} - ", own_name())),
                "{arguments:?}: {help}"
            );
            assert!(help.contains("USAGE:"), "{help}");
        }
    }
}

fn help_shows_the_flags() {
    let flags = [
        (
            "create",
            &[
                "--bundle",
                "-b",
                "--console-socket",
                "--pid-file",
                "--no-pivot",
                "--no-new-keyring",
                "--preserve-fds",
            ][..],
        ),
        (
            "run",
            &[
                "--bundle",
                "--detach",
                "-d",
                "--no-subreaper",
                "--pid-file",
                "--preserve-fds",
            ],
        ),
        (
            "exec",
            &[
                "--process",
                "-p",
                "--tty",
                "-t",
                "--user",
                "-u",
                "--env",
                "-e",
                "--cwd",
                "--cap",
                "-c",
                "--apparmor",
                "--process-label",
                "--no-new-privs",
                "--detach",
                "-d",
                "--pid-file",
                "--preserve-fds",
                "--additional-gids",
                "-g",
                "--cgroup",
                "--ignore-paused",
                "--console-socket",
            ],
        ),
        ("delete", &["--force", "-f"]),
        ("list", &["--format", "-f", "--quiet", "-q"]),
        ("ps", &["--format", "-f"]),
        ("spec", &["--bundle", "-b", "--rootless"]),
    ];
    for (command, expected) in flags {
        let help = call(&[command, "--help"]).ok().stdout();
        for flag in expected {
            let found = help.split([' ', ',', '\n']).any(|word| word == *flag);
            assert!(found, "{command} {flag}: {help}");
        }
    }
}

fn unknown_commands() {
    let run = call(&["nosuch"]);
    run.fails(3, "No help topic for 'nosuch'");
    call(&["help", "nosuch"]).fails(3, "No help topic for 'nosuch'");
}

fn unknown_flags() {
    let run = call(&["--nosuch"]).fails(1, "flag provided but not defined: -nosuch");
    assert!(run.stdout().starts_with("Incorrect Usage."), "{run}");
    for command in [
        "create", "run", "state", "kill", "delete", "list", "exec", "start", "ps",
    ] {
        let run =
            call(&[command, "--nosuch", "x"]).fails(1, "flag provided but not defined: -nosuch");
        assert!(run.stdout().starts_with("Incorrect Usage"), "{run}");
        assert!(run.stdout().contains("USAGE:"), "{run}");
    }
}

fn a_flag_without_its_value() {
    call(&["--root"]).fails(1, "flag needs an argument: -root");
    call(&["run", "--bundle"]).fails(1, "flag needs an argument: -bundle");
    call(&["list", "--format"]).fails(1, "flag needs an argument: -format");
}

fn a_number_that_is_none() {
    call(&["run", "--preserve-fds=many", "x"])
        .fails(1, "invalid value \"many\" for flag -preserve-fds");
}

fn a_boolean_that_is_none() {
    call(&["--debug=maybe", "list"]).fails(1, "invalid boolean value \"maybe\" for -debug");
}

fn the_number_of_arguments() {
    for command in [
        "create", "run", "start", "state", "delete", "pause", "resume",
    ] {
        for arguments in [&[command][..], &[command, "a", "b"]] {
            let run =
                call(arguments).fails(1, &format!("\"{command}\" requires exactly 1 argument(s)"));
            assert!(run.stdout().starts_with("Incorrect Usage."), "{run}");
        }
    }
    for command in ["kill", "exec", "ps"] {
        call(&[command]).fails(
            1,
            &format!("\"{command}\" requires a minimum of 1 argument(s)"),
        );
    }
}

fn long_flags_with_one_dash() {
    let container = empty();
    let call = Invocation::new(&runtime().program)
        .arg("-root")
        .arg(container.state_root());
    let run = call
        .args(["-log-format=json", "run", "-no-subreaper", "-bundle"])
        .arg(container.bundle.path());
    assert_eq!(run.arg(&container.id).finish().ok().value(), "x");
    assert_eq!(
        container
            .command("list")
            .args(["-format=json"])
            .finish()
            .ok()
            .stdout()
            .trim_end(),
        "null"
    );
}

fn values_with_and_without_an_equals_sign() {
    let container = empty();
    let list = |args: &[&str]| container.command("list").args(args).finish().ok().stdout();
    for arguments in [
        &["--format", "json"][..],
        &["--format=json"],
        &["-f", "json"],
        &["-f=json"],
        &["-format", "json"],
    ] {
        assert_eq!(list(arguments).trim_end(), "null", "{arguments:?}");
    }
    assert_eq!(list(&["--quiet=true"]), "");
    assert_eq!(list(&["-q=false"]).lines().count(), 1);
}

fn flags_may_follow_the_id() {
    let container = empty();
    container
        .command("create")
        .args([&container.id, "--bundle"])
        .arg(container.bundle.path())
        .finish()
        .ok();
    container
        .command("delete")
        .args([&container.id, "--force"])
        .finish()
        .ok();
    container.verb("state").fails(1, "container does not exist");
}

fn a_double_dash_ends_the_flags() {
    let container = Bundle::new().probe(&["pause"]).container();
    container.run_detached().ok();
    container
        .command("state")
        .args(["--", &container.id])
        .finish()
        .ok();
}

fn flags_of_old_callers_are_taken() {
    let container = empty();
    for flags in [
        &["--criu", "/usr/sbin/criu"][..],
        &["--rootless", "true"],
        &["--rootless=auto"],
        &["--debug"],
    ] {
        container.runtime().args(flags).arg("list").finish().ok();
    }
}

fn an_unknown_format_is_refused() {
    empty()
        .command("list")
        .args(["--format", "xml"])
        .finish()
        .fails(1, "invalid format option");
    let run = empty()
        .runtime()
        .args(["--log-format", "xml", "list"])
        .finish();
    run.fails(1, "invalid log-format: xml");
}

fn standard_output_that_takes_nothing() {
    for arguments in [&["--help"][..], &["--version"], &["list"], &["features"]] {
        let full = fs::File::create("/dev/full").unwrap();
        let status = std::process::Command::new(&runtime().program)
            .args(arguments)
            .stdout(full)
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.code().is_some(), "{arguments:?}: {status}");
    }
}

suite! {
    &[] => [
        version_lines,
        help_names_every_command,
        help_of_every_command,
        help_shows_the_flags,
        unknown_commands,
        unknown_flags,
        a_flag_without_its_value,
        a_number_that_is_none,
        a_boolean_that_is_none,
        the_number_of_arguments,
        values_with_and_without_an_equals_sign,
        flags_of_old_callers_are_taken,
        an_unknown_format_is_refused,
        standard_output_that_takes_nothing,
    ],
    &[Need::NotRunc("prints the name it was built with")] => [
        called_as_runc_it_says_runc,
    ],
    &[Need::Root] => [
        long_flags_with_one_dash,
        flags_may_follow_the_id,
        a_double_dash_ends_the_flags,
    ],
}
