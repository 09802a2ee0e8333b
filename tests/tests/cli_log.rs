//! The log as callers of runc know it, and what else it says to programs.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::{Bundle, Container, Finished, Need, suite};
use serde_json::{Value, json};

fn empty() -> Container {
    Bundle::new().probe(&["print", "x"]).container()
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

suite! {
    &[] => [
        errors_in_text_on_standard_error,
        errors_in_json_in_a_file,
        errors_in_the_command_line_in_a_file,
        errors_in_text_in_a_file,
        the_log_is_appended_to,
        a_log_that_cannot_be_opened,
    ],
    &[Need::Root, Need::Ocirun] => [
        causes_are_told_to_programs,
    ],
    &[Need::Root] => [
        every_line_of_a_failed_run_is_json,
        words_of_a_failed_start,
    ],
}
