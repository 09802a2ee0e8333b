//! The test machine itself, and a short choice of the other files run in it: `cargo machine` is the long one.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, ExitCode, Output};

use ocirun_tests::{Need, Suite};

/// What runs in the machine as part of `cargo test`, with version 2 of cgroups and systemd.
const CHOICE: &[&str] = &["run", "lifecycle", "cgroups_v2", "systemd"];

fn machine(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let own = std::env::current_exe().unwrap();
    Command::new(env!("CARGO_BIN_EXE_ocirun-machine"))
        .args(arguments)
        .env("OCIRUN_MACHINE_PROGRAMS", own.parent().unwrap())
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// Seconds that one file may take: many times what it does.
const LIMIT: (&str, &str) = ("OCIRUN_MACHINE_LIMIT", "240");

fn the_short_choice_passes() {
    let choice = [&["v2"], CHOICE].concat();
    let mut output = machine(&choice, &[LIMIT]);
    // An emulated machine that others starve stands still now and then; what hangs twice is no accident.
    if words(&output).contains("exit code 124") {
        output = machine(&choice, &[LIMIT]);
    }
    let words = words(&output);
    assert!(output.status.success(), "{words}");
    for name in CHOICE {
        let row = words
            .lines()
            .find_map(|line| line.strip_prefix(&format!("| {name} | ")));
        let passed = row.and_then(|cell| cell.split(' ').next());
        assert!(passed.is_some_and(|count| count != "0"), "{name}: {words}");
    }
}

fn output_and_failure_come_back() {
    let output = machine(&["v2-plain", "sh", "echo to the host; exit 3"], &[]);
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "to the host\n");
    assert!(words(&output).contains("exit code 3"), "{}", words(&output));
}

/// The demonstration, by an ordinary user whose cgroup is delegated.
fn an_ordinary_user_runs_the_demo() {
    let script = "cd $(mktemp -d) && /machine/ocirun-demo";
    let output = machine(&["v2-user", "sh", script], &[]);
    assert!(output.status.success(), "{}", words(&output));
    let limits = words(&output);
    let limits = limits.lines().find(|line| line.contains("cgroup limits"));
    assert!(
        limits.is_some_and(|line| line.contains("67108864")),
        "{}",
        words(&output)
    );
}

fn a_task_that_hangs_is_ended() {
    let limit = [("OCIRUN_MACHINE_LIMIT", "1")];
    let output = machine(&["v2-plain", "sh", "sleep 1000"], &limit);
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(
        words(&output).contains("exit code 124"),
        "{}",
        words(&output)
    );
}

fn a_machine_that_does_not_boot_shows_its_console() {
    let panic = [("OCIRUN_MACHINE_KERNEL", "rdinit=/nothing")];
    let output = machine(&["v2-plain", "sh", "true"], &panic);
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    assert!(
        words(&output).contains("Kernel panic"),
        "{}",
        words(&output)
    );
}

fn main() -> ExitCode {
    const NEEDS: &[Need] = &[Need::Machine];
    Suite::new()
        .test("the_short_choice_passes", NEEDS, the_short_choice_passes)
        .test(
            "output_and_failure_come_back",
            NEEDS,
            output_and_failure_come_back,
        )
        .test(
            "an_ordinary_user_runs_the_demo",
            NEEDS,
            an_ordinary_user_runs_the_demo,
        )
        .test(
            "a_task_that_hangs_is_ended",
            NEEDS,
            a_task_that_hangs_is_ended,
        )
        .test(
            "a_machine_that_does_not_boot_shows_its_console",
            NEEDS,
            a_machine_that_does_not_boot_shows_its_console,
        )
        .sequential()
        .run()
}
