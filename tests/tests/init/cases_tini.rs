//! What tini's own tests check, and pid1-rs's.

use super::support::{Kind, Outcome, Scratch, Subject, children, holds, same, send, until};
use super::{Case, case};

pub fn all() -> Vec<Case> {
    use Kind::{Any, Catatonit, Tini};
    vec![
        case(
            "t01_each_code_can_be_expected",
            Tini,
            each_code_can_be_expected,
        ),
        case("t02_other_codes_are_kept", Tini, other_codes_are_kept),
        case(
            "t03_orphans_are_reaped_as_subreaper",
            Tini,
            orphans_are_reaped_as_subreaper,
        ),
        case(
            "t04_reaped_zombies_are_reported",
            Tini,
            reaped_zombies_are_reported,
        ),
        case(
            "t05_signals_end_the_child_with_128_and_n",
            Any,
            signals_end_the_child,
        ),
        case("t06_group_gets_the_signal", Tini, |s| {
            group_gets_the_signal(s, Tini, &["-g"], None)
        }),
        case("t06_group_gets_the_signal_catatonit", Catatonit, |s| {
            group_gets_the_signal(s, Catatonit, &["-g"], None)
        }),
        case("t07_group_by_variable", Tini, |s| {
            group_gets_the_signal(s, Tini, &[], Some("TINI_KILL_PROCESS_GROUP"))
        }),
        case("t08_warns_without_subreaper", Tini, warns_without_subreaper),
        case(
            "t09_dispositions_and_mask_reach_the_child",
            Any,
            dispositions_and_mask,
        )
        .broken(&[
            (Kind::DumbInit, "unblocks everything"),
            (Kind::Catatonit, "leaves TSTP, TTIN and TTOU blocked"),
        ]),
        case("t10_parent_death", Tini, parent_death),
        case("t11_wrong_option_is_1_help_is_0", Tini, option_codes),
        case("t13_terminal_exit", Any, |s| {
            s.start(Any, &["sh", "-c", "exit 5"])
                .in_terminal(b"")
                .ends_with(5)
                .map(drop)
        }),
        case("t14_control_c", Any, control_c),
        case(
            "t16_version_usage_and_double_dash",
            Tini,
            version_usage_and_double_dash,
        ),
        case("t16_verbosity_3_tells_of_sigchld", Tini, verbosity_3),
        case("t17_exec_failures", Tini, exec_failures),
        case("t18_stdin_reaches_the_child", Any, stdin_reaches_the_child),
        case("t19_no_writable_code", Any, no_writable_code),
        case("p01_pid_1_reaps", Any, pid_1_reaps),
        case("p03_killed_child", Any, |s| {
            s.start(Any, &["sh", "-c", "kill -12 $$"])
                .in_namespace()
                .ends_with(140)
                .map(drop)
        }),
        case("p04_handled_term_is_the_childs_code", Any, handled_term),
        case(
            "p05_ignored_term_ends_by_kill",
            Kind::Own,
            ignored_term_ends_by_kill,
        ),
        case("p06_coalesced_orphans", Any, coalesced_orphans),
        case("p07_each_process_is_reaped_once", Tini, each_is_reaped_once),
        case("c05_exit_127_ends", Any, |s| {
            s.start(Any, &["sh", "-c", "exit 127"])
                .in_namespace()
                .ends_with(127)
                .map(drop)
        }),
    ]
}

fn each_code_can_be_expected(init: &Subject) -> Outcome {
    for code in 0..=255 {
        let (code, exit) = (code.to_string(), format!("exit {code}"));
        init.start(Kind::Tini, &["-s", "-e", &code, "--", "sh", "-c", &exit])
            .plainly()
            .ends_with(0)?;
    }
    Ok(())
}

fn other_codes_are_kept(init: &Subject) -> Outcome {
    for code in 0..=255 {
        let mut words = vec!["-s".to_owned()];
        words.extend(
            (0..=255)
                .filter(|other| *other != code)
                .flat_map(|other| ["-e".to_owned(), other.to_string()]),
        );
        words.extend(["--", "sh", "-c"].map(String::from));
        words.push(format!("exit {code}"));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        init.start(Kind::Tini, &words).plainly().ends_with(code)?;
    }
    Ok(())
}

fn orphans_are_reaped_as_subreaper(init: &Subject) -> Outcome {
    let script = "for i in $(seq 100); do (sleep 0.$((i % 5))1 &) ; done; sleep 1; ps -o stat= --ppid $PPID | grep -c Z";
    for (flags, variable) in [(&["-s"][..], None), (&[][..], Some("TINI_SUBREAPER"))] {
        let words: Vec<&str> = flags
            .iter()
            .copied()
            .chain(["--", "sh", "-c", script])
            .collect();
        let start = init.start(Kind::Tini, &words);
        let start = if let Some(name) = variable {
            start.env(name, "")
        } else {
            start
        };
        let ended = start.plainly().ends_with(1)?;
        same(ended.out.trim(), "0", "zombies")?;
        same(ended.err.as_str(), "", "messages")?;
    }
    Ok(())
}

fn reaped_zombies_are_reported(init: &Subject) -> Outcome {
    let ended = init
        .start(
            Kind::Tini,
            &["-w", "--", "sh", "-c", "(sleep 0.1 &); sleep 0.4"],
        )
        .in_namespace()
        .ends_with(0)?;
    holds(
        ended.err.contains("Reaped zombie process with pid="),
        &ended.err,
    )
}

fn signals_end_the_child(init: &Subject) -> Outcome {
    for number in [15, 10, 12, 1, 3] {
        let running = init.start(Kind::Any, &["sleep", "60"]).in_namespace();
        running.main_child();
        running.signal(number);
        running.ends_with(128 + number)?;
    }
    Ok(())
}

fn group_gets_the_signal(
    init: &Subject,
    kind: Kind,
    flags: &[&str],
    variable: Option<&str>,
) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("grandchild");
    let script = format!(
        "trap : USR1; sh -c 'trap \"echo got >>{0}; exit\" USR1; echo up >{0}; while :; do sleep 0.05; done' & wait; sleep 1",
        file.display()
    );
    let words: Vec<&str> = flags
        .iter()
        .copied()
        .chain(["--", "sh", "-c", &script])
        .collect();
    let start = init.start(kind, &words);
    let running = if let Some(name) = variable {
        start.env(name, "1")
    } else {
        start
    }
    .in_namespace();
    running.await_file(&file, "up")?;
    running.signal(10);
    running.await_file(&file, "got")
}

fn warns_without_subreaper(init: &Subject) -> Outcome {
    let ended = init.start(Kind::Tini, &["true"]).plainly().ends_with(0)?;
    holds(ended.err.contains("subreaper"), "no warning")?;
    same(
        init.start(Kind::Tini, &["-s", "true"])
            .plainly()
            .ends_with(0)?
            .err
            .as_str(),
        "",
        "messages with -s",
    )?;
    same(
        init.start(Kind::Tini, &["true"])
            .in_namespace()
            .ends_with(0)?
            .err
            .as_str(),
        "",
        "messages as PID 1",
    )
}

fn dispositions_and_mask(init: &Subject) -> Outcome {
    let set = [
        "env",
        "--ignore-signal=TTOU,SEGV,INT",
        "--block-signal=TTIN,ILL,TERM",
    ];
    let wanted = std::process::Command::new(set[0])
        .args(&set[1..])
        .args(["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])
        .output()
        .map_err(|error| error.to_string())?;
    let ended = init
        .start(
            Kind::Any,
            &["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"],
        )
        .by(&set)
        .in_namespace();
    let ended = ended.ends_with(0)?;
    same(
        ended.out,
        String::from_utf8_lossy(&wanted.stdout).into_owned(),
        "the child's signals",
    )
}

fn parent_death(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("got");
    let script = format!(
        "trap 'echo usr1 >>{0}; exit' USR1; echo up >{0}; while :; do sleep 0.05; done",
        file.display()
    );
    // A shell below PID 1 starts the init and is killed; PID 1 lives on.
    let outer = "sh -c '\"$@\" & wait' sh \"$@\" & wait; sleep 20";
    let start = init.start(
        Kind::Tini,
        &["-s", "-p", "SIGUSR1", "--", "sh", "-c", &script],
    );
    let running = start.by(&["sh", "-c", outer, "sh"]).in_namespace();
    running.await_file(&file, "up")?;
    let parent = children(running.pid())
        .first()
        .copied()
        .ok_or("no parent")?;
    send(parent, 9);
    running.await_file(&file, "usr1")
}

fn option_codes(init: &Subject) -> Outcome {
    for (words, code) in [
        (&["-z"][..], 1),
        (&["-h"], 0),
        (&["zzzz"], 127),
        (&["-w"], 1),
        (&["-e", "256", "true"], 1),
        (&["-p", "X", "true"], 1),
    ] {
        init.start(Kind::Tini, words).plainly().ends_with(code)?;
    }
    Ok(())
}

fn control_c(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("up");
    let script = format!("echo up >{}; exec sleep 60", file.display());
    let mut running = init
        .start(Kind::Any, &["sh", "-c", &script])
        .in_terminal(b"");
    running.await_file(&file, "up")?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    running.write(b"\x03");
    until(|| (!running.is_running()).then_some(())).ok_or("Ctrl-C did not end it")?;
    running.ends_with(130).map(drop)
}

fn version_usage_and_double_dash(init: &Subject) -> Outcome {
    let ended = init
        .start(Kind::Tini, &["--version"])
        .plainly()
        .ends_with(0)?;
    holds(ended.out.starts_with("tini version "), &ended.out)?;
    let ended = init.start(Kind::Tini, &[]).plainly().end()?;
    same(ended.code, 1, "without arguments")?;
    holds(ended.err.contains("Usage: tini"), &ended.err)?;
    let ended = init.start(Kind::Tini, &["-l"]).plainly().ends_with(0)?;
    holds(ended.out.contains("icense"), "no licence")?;
    init.start(Kind::Tini, &["--", "true"])
        .plainly()
        .ends_with(0)?;
    init.start(Kind::Tini, &["--", "--", "true"])
        .plainly()
        .ends_with(127)
        .map(drop)
}

fn verbosity_3(init: &Subject) -> Outcome {
    let ended = init
        .start(Kind::Tini, &["true"])
        .env("TINI_VERBOSITY", "3")
        .in_namespace()
        .ends_with(0)?;
    holds(
        format!("{}{}", ended.out, ended.err).contains("Received SIGCHLD"),
        "nothing of SIGCHLD",
    )
}

fn exec_failures(init: &Subject) -> Outcome {
    for (program, code) in [
        ("/nonexistent", 127),
        ("nonexistent", 127),
        ("/tmp", 126),
        ("/etc/passwd", 126),
        ("", 127),
    ] {
        init.start(Kind::Tini, &["--", program])
            .in_namespace()
            .ends_with(code)?;
    }
    Ok(())
}

fn stdin_reaches_the_child(init: &Subject) -> Outcome {
    let ended = init
        .start(Kind::Any, &["cat"])
        .input(b"hello\n")
        .in_namespace()
        .ends_with(0)?;
    same(ended.out.as_str(), "hello\n", "what cat saw")
}

/// The program headers of a 64-bit ELF file: see elf(5).
fn no_writable_code(init: &Subject) -> Outcome {
    const STACK: usize = 0x6474_e551;
    let bytes = std::fs::read(init.path(Kind::Any)).map_err(|error| error.to_string())?;
    let number = |at: usize, size: usize| {
        let bytes = bytes.get(at..at + size).unwrap_or_default();
        bytes
            .iter()
            .rev()
            .fold(0, |sum, &byte| sum << 8 | usize::from(byte))
    };
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let headers: Vec<(usize, usize)> = (0..count)
        .map(|index| start + index * size)
        .map(|at| (number(at, 4), number(at + 4, 4)))
        .collect();
    holds(
        headers.iter().any(|(kind, _)| *kind == STACK),
        "no GNU_STACK",
    )?;
    holds(
        headers.iter().all(|(_, flags)| flags & 3 != 3),
        "a segment that is writable and executable",
    )
}

fn pid_1_reaps(init: &Subject) -> Outcome {
    let script =
        "(sleep 0.05 &); (sleep 0.05 &); (sleep 0.1 &); sleep 0.5; ps -eo stat= | grep -c Z";
    let ended = init
        .start(Kind::Any, &["sh", "-c", script])
        .in_namespace()
        .end()?;
    same(ended.out.trim(), "0", "zombies")
}

fn handled_term(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("up");
    let script = format!(
        "trap 'exit 0' TERM; echo up >{}; while :; do sleep 0.05; done",
        file.display()
    );
    let running = init.start(Kind::Any, &["sh", "-c", &script]).in_namespace();
    running.await_file(&file, "up")?;
    running.signal(15);
    running.ends_with(0).map(drop)
}

fn ignored_term_ends_by_kill(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("up");
    let script = format!(
        "trap '' TERM; echo up >{}; while :; do sleep 0.05; done",
        file.display()
    );
    let running = init
        .start(Kind::Own, &["--stop-tree=0.5", "sh", "-c", &script])
        .in_namespace();
    running.await_file(&file, "up")?;
    running.signal(15);
    running.ends_with(137).map(drop)
}

fn each_is_reaped_once(init: &Subject) -> Outcome {
    // Three orphans and the child: four, however many of their signals became one.
    let script = "(sleep 0.1 &); (sleep 0.1 &); (sleep 0.1 &); sleep 0.4";
    let ended = init
        .start(Kind::Tini, &["-vvv", "--", "sh", "-c", script])
        .in_namespace()
        .ends_with(0)?;
    let text = format!("{}{}", ended.out, ended.err);
    same(text.matches("Reaped child with pid").count(), 4, "reaped")
}

fn coalesced_orphans(init: &Subject) -> Outcome {
    let running = init
        .start(
            Kind::Any,
            &[
                "sh",
                "-c",
                "for i in 1 2 3; do (sleep 0.6 &); done; exec sleep 60",
            ],
        )
        .in_namespace();
    let pid = running.pid();
    running.main_child();
    until(|| (children(pid).len() == 4).then_some(())).ok_or("no orphans")?;
    send(pid, 19);
    std::thread::sleep(std::time::Duration::from_millis(900));
    send(pid, 18);
    until(|| (children(pid).len() == 1).then_some(())).ok_or_else(|| "zombies stay".to_owned())
}
