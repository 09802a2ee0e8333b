//! The command line as callers of runc know it: flags, help, usage errors, exit codes, logs, and the formats of
//! spec, features and version.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::{
    Bundle, Container, Finished, Invocation, Kind, Need, default_spec, differs_on_runc,
    rootless_spec, runtime, suite,
};
use serde_json::{Value, json};

const COMMANDS: [&str; 13] = [
    "create", "delete", "exec", "features", "kill", "list", "pause", "ps", "resume", "run", "spec",
    "start", "state",
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

/// What callers search for; a runtime may say before it what it was about.
const WORDS: &str = "container does not exist";

fn errors_in_text_on_standard_error() {
    let run = empty().verb("state");
    let text = run.message();
    assert_eq!((run.code(), run.stdout()), (1, String::new()));
    assert!(
        text.starts_with("time=\"20") && text.contains(" level=error msg=\""),
        "{text}"
    );
    assert!(text.ends_with(&format!("{WORDS}\"\n")), "{text}");
    assert_eq!(text.lines().count(), 1);
}

fn logged(format: &[&str], verb: &[&str]) -> (String, Finished) {
    let container = empty();
    let file = container.file("log");
    fs::write(&file, "").unwrap();
    let run = container
        .runtime()
        .arg("--log")
        .arg(&file)
        .args(format)
        .args(verb)
        .arg(&container.id)
        .finish();
    (fs::read_to_string(&file).unwrap(), run)
}

fn errors_in_json_in_a_file() {
    let (text, run) = logged(&["--log-format", "json"], &["state"]);
    let entry: Value = serde_json::from_str(text.trim_end()).unwrap();
    let words = entry["msg"].as_str().unwrap();
    assert_eq!(entry["level"], "error");
    assert!(words.ends_with(WORDS), "{words}");
    assert!(entry["time"].as_str().unwrap().starts_with("20"));
    assert!(
        text.starts_with("{\"level\":\"error\",\"msg\":") && text.ends_with("}\n"),
        "{text}"
    );
    assert_eq!(
        run.stderr(),
        format!("{words}\n"),
        "the bare words on standard error"
    );
}

/// Who reads the log for the reason of a failure finds that one too.
fn errors_in_the_command_line_in_a_file() {
    let format = ["--log-format", "json"];
    for (verb, message) in [
        (
            &["state", "--nosuch"][..],
            "flag provided but not defined: -nosuch",
        ),
        (&["state", "a"], "requires exactly 1 argument(s)"),
        (&["nosuch"], "No help topic for 'nosuch'"),
    ] {
        let (text, run) = logged(&format, verb);
        let entry: Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(entry["level"], "error");
        assert!(entry["msg"].as_str().unwrap().contains(message), "{text}");
        assert!(run.stderr().contains(message), "{run}");
    }
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

fn errors_in_text_in_a_file() {
    let (text, run) = logged(&[], &["state"]);
    assert!(
        text.starts_with("time=\"20") && text.contains(" level=error msg=\""),
        "{text}"
    );
    assert!(text.trim_end().ends_with(&format!("{WORDS}\"")), "{text}");
    assert!(
        run.stderr().ends_with(&format!("{WORDS}\n")) && !run.stderr().contains("level="),
        "{run}"
    );
}

fn the_log_is_appended_to() {
    let container = empty();
    let file = container.file("log");
    fs::write(&file, "{\"level\":\"info\",\"msg\":\"earlier\"}\n").unwrap();
    for _ in 0..2 {
        let call = container.runtime().arg("--log").arg(&file).args([
            "--log-format",
            "json",
            "state",
            &container.id,
        ]);
        assert_eq!(call.finish().code(), 1);
    }
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[0].contains("earlier") && lines[1].contains(WORDS) && lines[2].contains(WORDS),
        "{text}"
    );
}

/// containerd shows the last entry of level "error", and gives up on a line that is no JSON.
fn causes_are_told_to_programs() {
    let of = |bundle: Bundle, command: &str, arguments: &[&str]| -> Value {
        let container = bundle.container();
        let file = container.file("log.json");
        let mut call = container.runtime().arg("--log").arg(&file);
        call = call.args(["--log-format", "json", command]).args(arguments);
        if command == "create" {
            call = call.arg("--bundle").arg(container.bundle.path());
        }
        let _refused = call.arg(&container.id).finish();
        let text = std::fs::read_to_string(file).unwrap();
        serde_json::from_str(text.trim_end()).unwrap()
    };
    for (bundle, command, arguments, expected) in [
        (
            Bundle::new(),
            "start",
            &[][..],
            json!(["not_found", null, null]),
        ),
        (
            Bundle::new(),
            "kill",
            &["--nope"],
            json!(["usage", null, null]),
        ),
        (
            Bundle::new().set("/process/cwd", "x"),
            "create",
            &[],
            json!(["invalid_spec", null, "/process/cwd"]),
        ),
        (
            Bundle::new().args(&["/nope"]),
            "create",
            &[],
            json!(["executable", "ENOENT", null]),
        ),
    ] {
        let entry = of(bundle, command, arguments);
        let found = json!([entry["code"], entry["errno"], entry["pointer"]]);
        assert_eq!(found, expected, "{entry}");
    }
}

fn every_line_of_a_failed_run_is_json() {
    let container = Bundle::new().args(&["/no/such/program"]).container();
    let file = container.file("log.json");
    for debug in [&[][..], &["--debug"]] {
        let call = container
            .runtime()
            .args(debug)
            .arg("--log")
            .arg(&file)
            .args(["--log-format", "json", "run", "--bundle"]);
        assert_eq!(
            call.arg(container.bundle.path())
                .arg(&container.id)
                .finish()
                .code(),
            1
        );
        let text = fs::read_to_string(&file).unwrap();
        let entries: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let last = entries
            .iter()
            .rfind(|entry| entry["level"] == "error")
            .unwrap();
        let words = last["msg"].as_str().unwrap().to_lowercase();
        assert!(words.contains("no such file or directory"), "{last}");
    }
}

fn a_log_that_cannot_be_opened() {
    let run = empty()
        .runtime()
        .args(["--log", "/no/such/directory/log", "list"])
        .finish();
    run.fails(1, "no such file or directory");
}

fn words_of_a_failed_start() {
    let container = Bundle::new().args(&["/no/such/program"]).container();
    let words = "run failed: unable to start container process: ";
    container.run().fails(1, words);
    let running = Bundle::new().probe(&["pause"]).container();
    running.run_detached().ok();
    let exec = running
        .command("exec")
        .args([&running.id, "/no/such/program"])
        .finish();
    exec.fails(255, "exec failed: unable to start container process: ");
}

fn without_extras(mut spec: Value) -> Value {
    for key in [
        "/ociVersion",
        "/process/args",
        "/process/terminal",
        // runc 1.2 left them out.
        "/process/capabilities/ambient",
        "/hostname",
    ] {
        if let Some(value) = spec.pointer_mut(key) {
            value.take();
        }
    }
    spec
}

/// Everything in `least` is in `whole`; lists may be longer.
fn contains(whole: &Value, least: &Value, at: &str) {
    match (whole, least) {
        (Value::Object(whole), Value::Object(least)) => {
            for (key, value) in least {
                contains(
                    whole.get(key).unwrap_or(&Value::Null),
                    value,
                    &format!("{at}/{key}"),
                );
            }
        }
        (Value::Array(whole), Value::Array(least)) => {
            for value in least {
                assert!(whole.contains(value), "{at}: no {value} in {whole:?}");
            }
        }
        _ => assert_eq!(whole, least, "{at}"),
    }
}

fn spec_writes_the_default_configuration() {
    let container = empty();
    let directory = container.file("fresh");
    fs::create_dir(&directory).unwrap();
    Invocation::new(&runtime().program)
        .arg("spec")
        .directory(&directory)
        .finish()
        .ok();
    let text = fs::read_to_string(directory.join("config.json")).unwrap();
    let spec: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&spec["process"]["terminal"], &spec["process"]["args"]),
        (&json!(true), &json!(["sh"]))
    );
    assert!(text.contains("\n\t\"process\": {"), "indented by tabs");
    contains(&without_extras(spec), &without_extras(default_spec()), "");
    let again = Invocation::new(&runtime().program)
        .arg("spec")
        .directory(&directory)
        .finish();
    again.fails(1, "File config.json exists. Remove it first");
}

fn spec_for_an_ordinary_user() {
    let container = empty();
    let directory = container.file("fresh");
    fs::create_dir(&directory).unwrap();
    let call = Invocation::new(&runtime().program)
        .args(["spec", "--rootless", "--bundle"])
        .arg(&directory);
    call.finish().ok();
    let text = fs::read_to_string(directory.join("config.json")).unwrap();
    let ids = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    let expected = without_extras(rootless_spec(ids.0, ids.1));
    contains(
        &without_extras(serde_json::from_str(&text).unwrap()),
        &expected,
        "",
    );
}

fn spec_runs_as_written() {
    let mut container = empty();
    fs::remove_file(container.file("config.json")).unwrap();
    Invocation::new(&runtime().program)
        .arg("spec")
        .directory(container.bundle.path())
        .finish()
        .ok();
    let text = fs::read_to_string(container.file("config.json")).unwrap();
    container.bundle.spec = serde_json::from_str(&text).unwrap();
    container.bundle.spec["process"]["terminal"] = json!(false);
    container.bundle.spec["process"]["args"] = json!(["probe", "print", "x"]);
    container.bundle.write();
    assert_eq!(container.run().ok().value(), "x");
}

fn spec_in_a_directory_that_is_none() {
    call(&["spec", "--bundle", "/no/such/directory"]).fails(1, "no such file or directory");
}

fn features_for_containerd() {
    let text = call(&["features"]).ok().stdout();
    assert!(
        text.starts_with("{\n    \"ociVersionMin\": \"1.0.0\",\n    \"ociVersionMax\": \""),
        "{text}"
    );
    let found: Value = serde_json::from_str(&text).unwrap();
    let hooks = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    assert_eq!(found["hooks"], json!(hooks));
    for option in [
        "bind", "rbind", "ro", "rro", "rnosuid", "private", "rshared", "relatime", "noexec",
    ] {
        assert!(
            found["mountOptions"]
                .as_array()
                .unwrap()
                .contains(&json!(option)),
            "{option}"
        );
    }
    if !differs_on_runc("1.1.5 does not know the key") {
        let annotations = json!(["org.ocirun.", "org.systemd.property."]);
        assert_eq!(found["potentiallyUnsafeConfigAnnotations"], annotations);
    }
    let linux = &found["linux"];
    for namespace in ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"] {
        assert!(
            linux["namespaces"]
                .as_array()
                .unwrap()
                .contains(&json!(namespace)),
            "{namespace}"
        );
    }
    assert!(
        linux["capabilities"]
            .as_array()
            .unwrap()
            .contains(&json!("CAP_SYS_ADMIN"))
    );
    assert_eq!(
        (&linux["cgroup"]["v1"], &linux["seccomp"]["enabled"]),
        (&json!(true), &json!(true))
    );
    for action in [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_NOTIFY",
    ] {
        assert!(
            linux["seccomp"]["actions"]
                .as_array()
                .unwrap()
                .contains(&json!(action)),
            "{action}"
        );
    }
    assert!(
        linux["seccomp"]["operators"]
            .as_array()
            .unwrap()
            .contains(&json!("SCMP_CMP_MASKED_EQ"))
    );
    assert!(
        linux["seccomp"]["archs"]
            .as_array()
            .unwrap()
            .contains(&json!("SCMP_ARCH_X86_64"))
    );
}

fn the_state_root_is_made_when_needed() {
    let container = empty();
    let root = container.file("deep/er/state");
    let call = Invocation::new(&runtime().program)
        .arg("--root")
        .arg(&root)
        .arg("run")
        .arg("--bundle");
    assert_eq!(
        call.arg(container.bundle.path())
            .arg(&container.id)
            .finish()
            .ok()
            .value(),
        "x"
    );
}

fn a_missing_state_root_named_by_the_caller_is_an_error_of_list() {
    let container = empty();
    let missing = container.file("no/such/state");
    let run = call(&["--root", missing.to_str().unwrap(), "list"]);
    if differs_on_runc("1.1.5 lists nothing") {
        run.ok();
    } else {
        run.fails(1, "no such file or directory");
    }
}

fn the_root_of_the_machine_is_no_state_root() {
    call(&["--root", "/", "list"]).fails(1, "");
}

fn a_pid_file_in_no_directory() {
    let container = Bundle::new().probe(&["pause"]).container();
    let call = container
        .from_bundle("create", &["--pid-file", "/no/such/directory/pid"])
        .finish();
    call.fails(1, "no such file or directory");
    container.verb("state").fails(1, "container does not exist");
}

fn a_bundle_that_is_none() {
    let container = empty();
    let call = container
        .command("create")
        .args(["--bundle", "/no/such/bundle", &container.id])
        .finish();
    call.fails(1, "no such file or directory");
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
        errors_in_text_on_standard_error,
        errors_in_json_in_a_file,
        errors_in_text_in_a_file,
        errors_in_the_command_line_in_a_file,
        standard_output_that_takes_nothing,
        the_log_is_appended_to,
        a_log_that_cannot_be_opened,
        spec_writes_the_default_configuration,
        spec_for_an_ordinary_user,
        spec_in_a_directory_that_is_none,
        features_for_containerd,
        a_missing_state_root_named_by_the_caller_is_an_error_of_list,
        a_bundle_that_is_none,
    ],
    &[Need::Root] => [
        long_flags_with_one_dash,
        flags_may_follow_the_id,
        a_double_dash_ends_the_flags,
        every_line_of_a_failed_run_is_json,
        words_of_a_failed_start,
        spec_runs_as_written,
        the_state_root_is_made_when_needed,
        a_pid_file_in_no_directory,
    ],
    &[Need::NotRunc("prints the name it was built with")] => [called_as_runc_it_says_runc],
    &[Need::NotRunc("1.1.5 takes every directory below as a container")] => [the_root_of_the_machine_is_no_state_root],
    &[Need::Root, Need::Ocirun] => [causes_are_told_to_programs],
}
