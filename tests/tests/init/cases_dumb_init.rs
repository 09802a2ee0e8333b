//! What dumb-init's own tests check.

use super::support::{
    Ended, Kind, Outcome, Running, Scratch, Subject, children, holds, same, status, until,
};
use super::{Case, case};

pub fn all() -> Vec<Case> {
    use Kind::DumbInit;
    vec![
        case("d01_session_gets_term", DumbInit, |s| pipelines(s, &[], 0)),
        case("d02_without_session_others_survive", DumbInit, |s| {
            pipelines(s, &["-c"], 4)
        }),
        case(
            "d03_session_gets_term_when_the_child_ends",
            DumbInit,
            session_gets_term,
        ),
        case("d05_failed_exec_is_2", DumbInit, failed_exec),
        case("d06_d12_words", DumbInit, words),
        case("d10_debug_output", DumbInit, debug_output),
        case(
            "d13_init_goes_to_the_root_child_stays",
            Kind::Any,
            working_directory,
        )
        .broken(&[
            (Kind::Tini, "keeps its directory busy"),
            (Kind::Catatonit, "0.1.7 keeps its directory busy"),
        ]),
        case("d14_exit_codes", Kind::Any, exit_codes),
        case("d15_deaths_by_signal", Kind::Any, deaths),
        case("d16_every_signal_is_forwarded", DumbInit, |s| {
            maps(s, &[], &|n| n)
        }),
        case("d17_rewrite_identity", DumbInit, |s| {
            maps(s, &["15:15"], &|n| n)
        }),
        case("d17_rewrite_term_to_int", DumbInit, |s| {
            maps(s, &["15:2"], &|n| if n == 15 { 2 } else { n })
        }),
        case("d17_rewrite_swap", DumbInit, |s| {
            maps(s, &["1:2", "2:1"], &|n| match n {
                1 => 2,
                2 => 1,
                n => n,
            })
        }),
        case("d17_rewrite_ends", DumbInit, |s| {
            maps(s, &["1:31", "31:1"], &|n| match n {
                1 => 31,
                31 => 1,
                n => n,
            })
        }),
        case("d19_rewrite_to_nothing", DumbInit, |s| {
            maps(s, &["15:0", "1:0"], &|n| {
                if n == 15 || n == 1 { 0 } else { n }
            })
        }),
        case("d20_terminal_stops_stop_both", DumbInit, |s| stops(s, &[])),
        case("d21_terminal_stops_without_session", DumbInit, |s| {
            stops(s, &["-c"])
        }),
        case(
            "d18_rewritten_stop_still_stops_the_init",
            DumbInit,
            rewritten_stop,
        ),
        case("d22_terminal_output", DumbInit, terminal_output),
        case(
            "d23_child_has_the_terminal",
            Kind::Any,
            child_has_the_terminal,
        ),
        case("d24_only_the_kernels_hup_is_kept", DumbInit, kernels_hup),
        case("catatonit_pause_ends_on_int", Kind::Catatonit, |s| {
            pause_ends(s, Kind::Catatonit, &["-P"], 2)
        }),
        case("pause_ends_on_term", Kind::Pause, |s| {
            pause_ends(s, Kind::Pause, &[], 15)
        }),
        case("own_pause_ends_on_int", Kind::Own, |s| {
            pause_ends(s, Kind::Own, &[], 2)
        }),
        case("catatonit_version", Kind::Catatonit, catatonit_version),
    ]
}

/// The recording program in the init, ready.
fn recording(init: &Subject, scratch: &Scratch, words: &[&str]) -> Result<Running, String> {
    let file = scratch.file("signals");
    let exe = std::env::current_exe()
        .map_err(|error| error.to_string())?
        .display()
        .to_string();
    let name = file.display().to_string();
    let line: Vec<&str> = words
        .iter()
        .copied()
        .chain(["--", &exe, "--record", &name])
        .collect();
    let running = init.start(Kind::DumbInit, &line).plainly();
    running.await_file(&file, "ready")?;
    Ok(running)
}

/// Ends a recording.
fn done(running: Running) -> Result<Ended, String> {
    super::support::send(running.main_child(), 9);
    running.ends_with(137)
}

fn pipelines(init: &Subject, flags: &[&str], survivors: usize) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("pids");
    let script = format!(
        "sleep 60 | sleep 60 | sleep 60 & sleep 60 | sleep 60 | sh -c 'echo up >{}; exec sleep 60'",
        file.display()
    );
    let words: Vec<&str> = flags.iter().copied().chain(["sh", "-c", &script]).collect();
    let outer = init.start(Kind::DumbInit, &words).by(&[
        "sh",
        "-c",
        "\"$@\"; sleep 0.3; ps -eo comm= | grep -c sleep >$0",
        scratch.file("left").to_str().unwrap_or(""),
    ]);
    let running = outer.in_namespace();
    running.await_file(&file, "up")?;
    let shell = running.pid();
    let inner = children(shell).first().copied().ok_or("no init")?;
    super::support::send(inner, 15);
    let left = scratch.file("left");
    until(|| {
        std::fs::read_to_string(&left)
            .ok()
            .filter(|text| !text.trim().is_empty())
    })
    .ok_or("no count")?;
    let count: usize = std::fs::read_to_string(&left)
        .unwrap_or_default()
        .trim()
        .parse()
        .unwrap_or(99);
    // A shell without job control passes TERM on to nobody: with the session all six end, without it all sleeps live.
    if survivors == 0 {
        same(count, 0, "processes left")
    } else {
        holds(count >= survivors, "the others ended too")
    }
}

fn session_gets_term(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("got");
    // Of the sleep that is ended as well the shell speaks on standard error, where nobody may read any more.
    let script = format!(
        "sh -c 'trap \"echo term >>{0}; exit\" TERM; echo up >{0}; while :; do sleep 0.02; done' 2>/dev/null & until [ -s {0} ]; do sleep 0.02; done; exit 3",
        file.display()
    );
    let running = init.start(Kind::DumbInit, &["sh", "-c", &script]).plainly();
    running.await_file(&file, "up")?;
    running.ends_with(3)?;
    until(|| {
        std::fs::read_to_string(&file)
            .ok()
            .filter(|text| text.contains("term"))
            .map(drop)
    })
    .ok_or_else(|| "no TERM".to_owned())
}

fn failed_exec(init: &Subject) -> Outcome {
    for words in [
        &["doesntexist"][..],
        &["--", "doesntexist"],
        &["-c", "doesntexist"],
        &["--single-child", "--", "doesntexist"],
    ] {
        let ended = init.start(Kind::DumbInit, words).plainly().ends_with(2)?;
        same(
            ended.err.as_str(),
            "[dumb-init] doesntexist: No such file or directory\n",
            "message",
        )?;
    }
    Ok(())
}

fn words(init: &Subject) -> Outcome {
    let ended = init.start(Kind::DumbInit, &[]).plainly().ends_with(1)?;
    // A peer names itself as it was called.
    let path = init.path(Kind::DumbInit).display().to_string();
    let text = ended.err.replace(&path, "dumb-init");
    same(
        text.as_str(),
        "Usage: dumb-init [option] program [args]\nTry dumb-init --help for full usage.\n",
        "usage",
    )?;
    let ended = init
        .start(Kind::DumbInit, &["--yipyip", "true"])
        .plainly()
        .ends_with(1)?;
    holds(
        ended.err.contains("unrecognized option '--yipyip'"),
        &ended.err,
    )?;
    for flag in ["-h", "--help"] {
        let ended = init.start(Kind::DumbInit, &[flag]).plainly().ends_with(0)?;
        holds(
            ended.err.contains("--single-child") && ended.err.contains("--rewrite s:r"),
            &ended.err,
        )?;
    }
    for flag in ["-V", "--version"] {
        let ended = init.start(Kind::DumbInit, &[flag]).plainly().ends_with(0)?;
        holds(ended.err.starts_with("dumb-init v1.2.5"), &ended.err)?;
    }
    for bad in [
        "foo", "0:1", "32:1", "1:32", "1:-1", "1", ":", "15:foo", "-1:15", "a:b",
    ] {
        let ended = init
            .start(Kind::DumbInit, &["-r", bad, "true"])
            .plainly()
            .ends_with(1)?;
        holds(
            ended.err.contains("<signum>:<signum>"),
            &format!("{bad}: {}", ended.err),
        )?;
    }
    Ok(())
}

fn debug_output(init: &Subject) -> Outcome {
    for (words, variable) in [
        (&["-v", "true"][..], None),
        (&["true"], Some("DUMB_INIT_DEBUG")),
        (&["-v", "-c", "true"], None),
    ] {
        let start = init.start(Kind::DumbInit, words);
        let start = if let Some(name) = variable {
            start.env(name, "1")
        } else {
            start
        };
        let ended = start.plainly().ends_with(0)?;
        holds(
            ended
                .err
                .lines()
                .all(|line| line.starts_with("[dumb-init] "))
                && !ended.err.is_empty(),
            &ended.err,
        )?;
    }
    Ok(())
}

fn working_directory(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let (file, here) = (scratch.file("cwd"), scratch.file("."));
    let script = format!("pwd >{}; exec sleep 60", file.display());
    let running = init
        .start(Kind::Any, &["sh", "-c", &script])
        .by(&["env", "-C", here.to_str().unwrap_or("/")])
        .in_namespace();
    running.await_file(&file, "ocirun-init-case")?;
    // The child may be at its work before the init has gone there.
    let link = || {
        std::fs::read_link(format!("/proc/{}/cwd", running.pid()))
            .map_err(|error| error.to_string())
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while link()?.to_str() != Some("/") && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    same(link()?.to_str(), Some("/"), "the init's directory")
}

fn exit_codes(init: &Subject) -> Outcome {
    for code in [0, 1, 2, 32, 64, 127, 254, 255] {
        init.start(Kind::Any, &["sh", "-c", &format!("exit {code}")])
            .in_namespace()
            .ends_with(code)?;
    }
    Ok(())
}

fn deaths(init: &Subject) -> Outcome {
    for number in [15, 1, 3, 9, 6, 11] {
        init.start(
            Kind::Any,
            &["sh", "-c", &format!("ulimit -c 0; kill -{number} $$")],
        )
        .in_namespace()
        .ends_with(128 + number)?;
    }
    Ok(())
}

/// Sends every signal that a program can hear and compares what arrives.
fn maps(init: &Subject, rewrites: &[&str], wanted: &dyn Fn(i32) -> i32) -> Outcome {
    let scratch = Scratch::new();
    let flags: Vec<&str> = rewrites
        .iter()
        .flat_map(|rewrite| ["-r", rewrite])
        .collect();
    let running = recording(init, &scratch, &flags)?;
    // KILL and STOP cannot be caught, CHLD is the init's own, the terminal's three stop and have cases of their own.
    let silent = [9, 17, 19, 20, 21, 22];
    let mut count = 0;
    for number in (1..=31).filter(|number| !silent.contains(number)) {
        running.signal(number);
        count += usize::from(wanted(number) != 0);
        let line = format!("<{}:", wanted(number));
        if wanted(number) != 0 {
            running.await_file(&scratch.file("signals"), &line)?;
        }
    }
    until(|| {
        std::fs::read_to_string(scratch.file("signals"))
            .ok()
            .filter(|text| text.matches('<').count() >= count)
    })
    .ok_or("some are missing")?;
    let text = std::fs::read_to_string(scratch.file("signals")).unwrap_or_default();
    same(text.matches('<').count(), count, &text)?;
    done(running).map(drop)
}

fn stopped(pid: i32, wanted: bool) -> Outcome {
    until(|| (status(pid, "State").starts_with('T') == wanted).then_some(())).ok_or_else(|| {
        format!(
            "{pid} is {}, stopped wanted: {wanted}",
            status(pid, "State")
        )
    })
}

fn stops(init: &Subject, flags: &[&str]) -> Outcome {
    for number in [20, 21, 22] {
        let words: Vec<&str> = flags.iter().copied().chain(["sleep", "60"]).collect();
        let running = init.start(Kind::DumbInit, &words).plainly();
        let (pid, child) = (running.pid(), running.main_child());
        running.signal(number);
        stopped(pid, true)?;
        if flags.is_empty() {
            stopped(child, true)?;
        }
        running.signal(18);
        stopped(pid, false)?;
        stopped(child, false)?;
        running.signal(15);
        running.ends_with(143)?;
    }
    Ok(())
}

fn rewritten_stop(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let running = recording(init, &scratch, &["-r", "20:15"])?;
    let pid = running.pid();
    running.signal(20);
    running.await_file(&scratch.file("signals"), "<15:")?;
    stopped(pid, true)?;
    running.signal(18);
    running.await_file(&scratch.file("signals"), "<18:")?;
    done(running).map(drop)
}

fn terminal_output(init: &Subject) -> Outcome {
    let running = init
        .start(Kind::DumbInit, &["tac"])
        .in_terminal(b"one\ntwo\n\x04");
    let ended = running.end()?;
    holds(
        ended.out.replace('\r', "").contains("two\none\n"),
        &ended.out,
    )
}

fn child_has_the_terminal(init: &Subject) -> Outcome {
    let ended = init
        .start(Kind::Any, &["bash", "-m", "-c", "echo flags:$-"])
        .in_terminal(b"")
        .ends_with(0)?;
    holds(
        ended.out.contains('m') && !ended.out.contains("job control"),
        &ended.out,
    )
}

fn kernels_hup(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("signals");
    let exe = std::env::current_exe()
        .map_err(|error| error.to_string())?
        .display()
        .to_string();
    let name = file.display().to_string();
    let running = init
        .start(Kind::DumbInit, &[&exe, "--record", &name])
        .in_terminal(b"");
    running.await_file(&file, "ready")?;
    let shell =
        until(|| children(running.pid()).first().copied()).ok_or("no program in the terminal")?;
    let comm = status(shell, "Name");
    let inner = if comm.contains("init") {
        shell
    } else {
        children(shell).first().copied().ok_or("no init")?
    };
    // Signals are forwarded in the order of their numbers, so what the kernel sent comes before this one.
    super::support::send(inner, 10);
    running.await_file(&file, "<10:")?;
    super::support::send(inner, 23);
    running.await_file(&file, "<23:")?;
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let heard = text.contains("<1:") || text.contains("<18:");
    holds(
        !heard,
        &format!("the child heard of the lost terminal: {text}"),
    )?;
    super::support::send(inner, 1);
    running.await_file(&file, "<1:")
}

fn pause_ends(init: &Subject, kind: Kind, words: &[&str], number: i32) -> Outcome {
    let running = init.start(kind, words).in_namespace();
    let pid = running.pid();
    let name = init
        .path(kind)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    until(|| (status(pid, "Name") == name && status(pid, "State").starts_with('S')).then_some(()))
        .ok_or("never at rest")?;
    running.signal(10);
    until(|| {
        (status(pid, "SigPnd").trim_start_matches('0').is_empty()
            && status(pid, "State").starts_with('S'))
        .then_some(())
    })
    .ok_or("another signal ended it")?;
    running.signal(number);
    running.ends_with(0).map(drop)
}

fn catatonit_version(init: &Subject) -> Outcome {
    for flag in ["-V", "--version"] {
        let ended = init
            .start(Kind::Catatonit, &[flag])
            .plainly()
            .ends_with(0)?;
        holds(
            ended.out.starts_with("tini version ") && ended.out.contains("catatonit"),
            &ended.out,
        )?;
    }
    init.start(Kind::Catatonit, &["nonexistent"])
        .in_namespace()
        .ends_with(1)
        .map(drop)
}
