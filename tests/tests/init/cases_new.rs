//! What no peer tests, and what only ours promises.

use std::fs;

use super::refuse::Refused;
use super::support::{Kind, Outcome, Scratch, Subject, children, holds, same, send, status, until};
use super::{Case, case};

pub fn all() -> Vec<Case> {
    use Kind::{Any, Catatonit, DumbInit, Own, Tini};
    vec![
        case(
            "n01_signals_before_the_first_instruction",
            Any,
            start_window,
        )
        .broken(&[(DumbInit, "its child swallows signals between fork and exec")]),
        case("n02_foreign_child_is_no_reason_to_die", Any, foreign_child)
            .broken(&[(Tini, "FATAL, exit 1")]),
        case("n03_closed_stdin", Any, closed_stdin).broken(&[(Tini, "FATAL, exit 1")]),
        case("n04_real_time_signals_with_value", Any, real_time).broken(&[
            (Tini, "the value is lost"),
            (DumbInit, "real-time signals are not forwarded"),
            (Catatonit, "the value is lost"),
        ]),
        case("n05_ten_thousand_orphans", Any, storm),
        case("n06_no_descriptor_is_kept", Any, descriptors)
            .broken(&[(Tini, "kept"), (DumbInit, "kept")]),
        case("n07_shared_pid_namespace", Own, shared_namespace),
        case("n08_stop_tree_waits_for_all", Own, stop_tree_waits),
        case("n08_stop_tree_deadline", Own, stop_tree_deadline),
        case(
            "n08_stop_tree_when_the_child_ends",
            Own,
            stop_tree_after_child,
        ),
        case(
            "n08_stop_tree_spares_others_when_not_pid_1",
            Own,
            stop_tree_not_pid_1,
        ),
        case("n09_locked_down", Own, locked_down),
        case("n10_drain_delay", Own, drain),
        case("n11_variables_do_not_leak", Own, variables),
        case("n12_launchers_mask", Own, launchers_mask),
        case("n13_sent_sigchld_is_forwarded", Own, sent_sigchld),
        case("n15_script_without_interpreter", Own, plain_script),
        case("n17_started_with_sigchld_ignored", Any, sigchld_ignored).broken(&[
            (Tini, "never hears of the child's end"),
            (DumbInit, "the child's SIGCHLD is reset"),
            (Catatonit, "never hears of the child's end"),
        ]),
        case("n16_listen_pid", Own, listen_pid),
        case("n18_kernel_that_keeps_no_statuses", Own, no_statuses),
        case("n19_full_queue_of_the_child", Own, full_queue),
        case("n20_no_process_to_be_had", Own, no_process),
        case("n21_foreground_of_its_own", Any, foreground_kept),
        case("n21_foreground_of_others", Any, foreground_of_others)
            .broken(&[(Tini, "steals it"), (Catatonit, "steals it")]),
    ]
}

/// The recording program in the init as PID 1.
fn recorder(file: &std::path::Path) -> Result<Vec<String>, String> {
    let exe = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok(vec![
        exe.display().to_string(),
        "--record".into(),
        file.display().to_string(),
    ])
}

fn start_window(init: &Subject) -> Outcome {
    // The launcher blocks TERM and has it pending when it executes the init: nothing earlier is possible.
    let launcher = [
        "env",
        "--block-signal",
        "sh",
        "-c",
        "kill -TERM $$; exec \"$@\"",
        "sh",
    ];
    for _ in 0..20 {
        let scratch = Scratch::new();
        let file = scratch.file("signals");
        let words = recorder(&file)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let running = init.start(Kind::Any, &words).by(&launcher).in_namespace();
        running.await_file(&file, "<15:")?;
    }
    Ok(())
}

fn foreign_child(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("up");
    let script = format!("echo up >{}; sleep 0.6; exit 9", file.display());
    let words = [
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        "sh",
        "-c",
        &script,
    ];
    let running = init
        .start(Kind::Any, &words)
        .by(&["setpriv", "--bounding-set=-kill", "--inh-caps=-kill"])
        .in_namespace();
    running.await_file(&file, "up")?;
    running.signal(10);
    let code = running.end()?.code;
    holds(
        code == 9,
        &format!("exit code {code}: the init did not outlive the signal"),
    )
}

fn closed_stdin(init: &Subject) -> Outcome {
    let start =
        init.start(Kind::Any, &["sh", "-c", "exit 4"])
            .by(&["sh", "-c", "exec \"$@\" <&-", "sh"]);
    start.in_namespace().ends_with(4).map(drop)
}

fn real_time(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("signals");
    let words = recorder(&file)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let running = init.start(Kind::Any, &words).in_namespace();
    running.await_file(&file, "ready")?;
    for value in ["41", "42", "43"] {
        let status = std::process::Command::new("/bin/kill")
            .args(["-q", value, "-s", "40", &running.pid().to_string()])
            .status();
        holds(status.is_ok_and(|status| status.success()), "kill -q")?;
    }
    let wanted = "<40:41>\n<40:42>\n<40:43>";
    let heard = until(|| {
        fs::read_to_string(&file)
            .ok()
            .filter(|text| text.matches("<40").count() == 3)
    });
    let text = heard.ok_or("not all three arrived")?;
    holds(text.contains(wanted), &text)
}

fn storm(init: &Subject) -> Outcome {
    let script = "i=0; while [ $i -lt 10000 ]; do (: &); i=$((i+1)); done; sleep 0.3; ps -eo stat= | grep -c Z";
    let ended = init.start(Kind::Any, &["sh", "-c", script]).in_namespace();
    let ended = until_long(ended)?;
    same(ended.out.trim(), "0", "zombies")
}

/// As `end`, for a case that works for longer.
fn until_long(mut running: super::support::Running) -> Result<super::support::Ended, String> {
    for _ in 0..12 {
        if until(|| (!running.is_running()).then_some(())).is_some() {
            break;
        }
    }
    running.end()
}

fn descriptors(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("held");
    let outer = format!("exec 7>{} 9</dev/null; exec \"$@\"", file.display());
    let words = ["sh", "-c", "echo up >&7; exec sleep 60"];
    let running = init
        .start(Kind::Any, &words)
        .by(&["sh", "-c", &outer, "sh"])
        .in_namespace();
    running.await_file(&file, "up")?;
    let child = running.main_child();
    let open =
        |pid: i32, number: &str| fs::symlink_metadata(format!("/proc/{pid}/fd/{number}")).is_ok();
    holds(
        open(child, "7") && open(child, "9"),
        "the child lost its descriptors",
    )?;
    let pid = running.pid();
    until(|| (!open(pid, "7") && !open(pid, "9")).then_some(()))
        .ok_or_else(|| "the init holds 7 or 9".to_owned())
}

fn shared_namespace(init: &Subject) -> Outcome {
    let running = init.start(Kind::Own, &[]).in_namespace();
    let pid = running.pid();
    until(|| (status(pid, "Seccomp") == "2").then_some(())).ok_or("never locked down")?;
    // Another container's process joins, leaves an orphan behind and goes.
    let join = std::process::Command::new("nsenter")
        .args([
            "-t",
            &pid.to_string(),
            "-p",
            "sh",
            "-c",
            "(sleep 0.2 &); exit 6",
        ])
        .status();
    same(
        join.ok().and_then(|status| status.code()),
        Some(6),
        "the joined process",
    )?;
    until(|| (children(pid).len() == 1).then_some(())).ok_or("no orphan arrived")?;
    until(|| children(pid).is_empty().then_some(())).ok_or("the orphan was not reaped")?;
    running.signal(15);
    running.ends_with(0).map(drop)
}

fn stop_tree_waits(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("daemon");
    let daemon = format!(
        "trap \"sleep 0.4; echo saved >>{0}; exit\" TERM; echo up >{0}; while :; do sleep 0.02; done",
        file.display()
    );
    let script = format!("setsid sh -c '{daemon}' & exec sleep 60");
    let running = init
        .start(Kind::Own, &["--stop-tree", "--", "sh", "-c", &script])
        .in_namespace();
    running.await_file(&file, "up")?;
    running.signal(15);
    running.ends_with(143)?;
    holds(
        fs::read_to_string(&file)
            .unwrap_or_default()
            .contains("saved"),
        "the daemon had no time to save",
    )
}

fn stop_tree_deadline(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("daemon");
    let script = format!(
        "setsid sh -c 'trap \"\" TERM; echo up >{}; while :; do sleep 0.02; done' & exec sleep 60",
        file.display()
    );
    let running = init
        .start(Kind::Own, &["--stop-tree=0.3", "--", "sh", "-c", &script])
        .in_namespace();
    running.await_file(&file, "up")?;
    running.signal(15);
    running.ends_with(143).map(drop)
}

fn stop_tree_after_child(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("daemon");
    let daemon = format!(
        "trap \"sleep 0.3; echo saved >>{0}; exit\" TERM; echo up >{0}; while :; do sleep 0.02; done",
        file.display()
    );
    let script = format!(
        "setsid sh -c '{daemon}' & while ! [ -s {} ]; do sleep 0.02; done; exit 8",
        file.display()
    );
    init.start(Kind::Own, &["--stop-tree=5", "--", "sh", "-c", &script])
        .in_namespace()
        .ends_with(8)?;
    holds(
        fs::read_to_string(&file)
            .unwrap_or_default()
            .contains("saved"),
        "the daemon had no time to save",
    )
}

fn stop_tree_not_pid_1(init: &Subject) -> Outcome {
    // The guard: an init that is not PID 1 must never signal everybody. Tried as the second process of a private
    // namespace, where everybody is only ours.
    let script = "\"$0\" --stop-tree=1 -s -- sleep 60 & inner=$!; sleep 60 & other=$!; sleep 0.3; kill $inner; wait $inner; echo code:$?; kill -0 $other && echo spared";
    let words = [init.path(Kind::Own).display().to_string()];
    let running = init
        .start(Kind::Own, &["sh", "-c", script, &words[0]])
        .in_namespace();
    let ended = running.end()?;
    holds(
        ended.out.contains("code:143") && ended.out.contains("spared"),
        &format!("{ended:?}"),
    )
}

fn locked_down(init: &Subject) -> Outcome {
    let running = init.start(Kind::Own, &["sleep", "60"]).in_namespace();
    let (pid, child) = (running.pid(), running.main_child());
    until(|| (status(pid, "Seccomp") == "2").then_some(())).ok_or("no filter")?;
    same(status(pid, "NoNewPrivs").as_str(), "1", "no_new_privs")?;
    same(
        status(pid, "CapEff").as_str(),
        "0000000000000020",
        "capabilities",
    )?;
    same(
        status(pid, "CapPrm").as_str(),
        "0000000000000020",
        "permitted capabilities",
    )?;
    same(status(child, "Seccomp").as_str(), "0", "the child's filter")?;
    same(
        status(child, "CapEff"),
        status(1, "CapEff").min(status(child, "CapEff")),
        "the child's capabilities",
    )?;
    same(
        status(child, "NoNewPrivs").as_str(),
        "0",
        "the child's no_new_privs",
    )
}

fn drain(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("signals");
    let recorder = recorder(&file)?;
    let words: Vec<&str> = ["--drain=0.5", "--"]
        .into_iter()
        .chain(recorder.iter().map(String::as_str))
        .collect();
    let running = init.start(Kind::Own, &words).in_namespace();
    running.await_file(&file, "ready")?;
    running.signal(15);
    running.signal(10);
    // Another signal overtakes the one that is held back.
    running.await_file(&file, "<15:")?;
    let text = fs::read_to_string(&file).unwrap_or_default();
    holds(text.find("<10:") < text.find("<15:"), &text)
}

fn variables(init: &Subject) -> Outcome {
    let names = [
        "TINI_SUBREAPER",
        "TINI_VERBOSITY",
        "TINI_KILL_PROCESS_GROUP",
        "DUMB_INIT_DEBUG",
        "DUMB_INIT_SETSID",
        "CATATONIT_DEBUG",
    ];
    let start = names
        .iter()
        .fold(init.start(Kind::Own, &["env"]), |start, name| {
            start.env(name, "0")
        });
    let ended = start.env("KEPT_ONE", "x").in_namespace().ends_with(0)?;
    holds(
        ended.out.contains("KEPT_ONE=x"),
        "a variable of the child is gone",
    )?;
    let leaked: Vec<_> = names
        .iter()
        .filter(|name| ended.out.contains(**name))
        .collect();
    holds(leaked.is_empty(), &format!("{leaked:?}"))
}

fn launchers_mask(init: &Subject) -> Outcome {
    let start = |words: &[&str]| {
        init.start(Kind::Own, words)
            .env("OCIRUN_INIT_MASK", "0000000000004000")
            .by(&["env", "--block-signal"])
            .in_namespace()
    };
    let ended = start(&["grep", "SigBlk", "/proc/self/status"]).ends_with(0)?;
    same(
        ended.out.as_str(),
        "SigBlk:\t0000000000004000\n",
        "the child's mask",
    )?;
    let ended = start(&["env"]).ends_with(0)?;
    holds(
        !ended.out.contains("OCIRUN_INIT_MASK"),
        "the variable leaks",
    )
}

fn sent_sigchld(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("signals");
    let words = recorder(&file)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let running = init.start(Kind::Own, &words).in_namespace();
    running.await_file(&file, "ready")?;
    // One that comes while the kernel's own is pending is one with it, as signals are.
    for _ in 0..5 {
        running.signal(17);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    running.await_file(&file, "<17:")
}

fn plain_script(init: &Subject) -> Outcome {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let file = scratch.file("script");
    fs::write(&file, "exit $1\n").map_err(|error| error.to_string())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
        .map_err(|error| error.to_string())?;
    init.start(Kind::Own, &[file.to_str().unwrap_or(""), "11"])
        .in_namespace()
        .ends_with(11)
        .map(drop)
}

fn listen_pid(init: &Subject) -> Outcome {
    let words = ["sh", "-c", "echo $$:$LISTEN_PID"];
    let ended = init
        .start(Kind::Own, &words)
        .env("LISTEN_PID", "1")
        .in_namespace()
        .ends_with(0)?;
    let (own, told) = ended.out.trim().split_once(':').unwrap_or_default();
    same(told, own, "LISTEN_PID")
}

/// Whether SIGCHLD is ignored: the kernel reaps.
fn ignores_sigchld(pid: i32) -> bool {
    let ignored = u64::from_str_radix(&status(pid, "SigIgn"), 16).unwrap_or(0);
    ignored >> 16 & 1 == 1
}

/// Whether the kernel is new enough to tell the status of a reaped process.
fn kernel_tells() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

fn launcher(refused: Refused) -> Result<[String; 2], String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok([own.display().to_string(), refused.word().to_owned()])
}

/// Kernels below 6.15: the init reaps by itself. On such a kernel the control shows nothing, and all else still holds.
fn no_statuses(init: &Subject) -> Outcome {
    let [own, word] = launcher(Refused::PidfdInfo)?;
    let start = |words: &[&str]| init.start(Kind::Own, words).by(&[&own, &word]);
    let locked = |pid| until(|| (status(pid, "Seccomp_filters") == "2").then_some(()));
    // Below 6.15 the filter changes nothing, and the control says nothing.
    let control = init.start(Kind::Own, &["sleep", "60"]).in_namespace();
    let pid = control.pid();
    until(|| (status(pid, "Seccomp") == "2").then_some(())).ok_or("the control's filter")?;
    let by_kernel = ignores_sigchld(pid);
    let running =
        start(&["sh", "-c", "(sleep 0.1 &); (sleep 0.1 &); exec sleep 60"]).in_namespace();
    let pid = running.pid();
    locked(pid).ok_or("no filter")?;
    holds(
        !ignores_sigchld(pid) && by_kernel == kernel_tells(),
        "who reaps",
    )?;
    until(|| (children(pid).len() == 1).then_some(())).ok_or("the orphans were not reaped")?;
    running.signal(15);
    running.ends_with(143)?;
    for code in [0, 3, 255] {
        start(&["sh", "-c", &format!("exit {code}")])
            .in_namespace()
            .ends_with(code)?;
    }
    start(&["sh", "-c", "kill -12 $$"])
        .in_namespace()
        .ends_with(140)?;
    stopped_and_continued(&start(&["sleep", "60"]).in_namespace())
}

/// A child that is stopped has not ended.
fn stopped_and_continued(running: &super::support::Running) -> Outcome {
    let child = running.main_child();
    send(child, 19);
    until(|| status(child, "State").starts_with('T').then_some(())).ok_or("never stopped")?;
    send(child, 18);
    until(|| status(child, "State").starts_with('S').then_some(())).ok_or("never went on")?;
    holds(children(running.pid()) == [child], "the child is gone")
}

fn full_queue(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("signals");
    let recorder = recorder(&file)?;
    // A user of its own, whose pending signals nobody else has a share in, and one place for them.
    let mut words = vec![
        "prlimit",
        "--sigpending=1",
        "setpriv",
        "--reuid=54321",
        "--clear-groups",
    ];
    words.extend(recorder.iter().map(String::as_str));
    let running = init.start(Kind::Own, &words).in_namespace();
    running.await_file(&file, "ready")?;
    let (pid, child) = (running.pid(), running.main_child());
    send(child, 19);
    until(|| status(child, "State").starts_with('T').then_some(())).ok_or("never stopped")?;
    for value in ["41", "42"] {
        let sent = std::process::Command::new("/bin/kill")
            .args(["-q", value, "-s", "40", &pid.to_string()])
            .status();
        holds(sent.is_ok_and(|status| status.success()), "kill -q")?;
    }
    until(|| (status(pid, "ShdPnd") == "0000000000000000").then_some(()))
        .ok_or("the init did not take its signals")?;
    send(child, 18);
    running.await_file(&file, "<40:41>\n<40:42>")
}

fn no_process(init: &Subject) -> Outcome {
    let [own, word] = launcher(Refused::Clone)?;
    let ended = init
        .start(Kind::Own, &["true"])
        .by(&[&own, &word])
        .in_namespace()
        .ends_with(1)?;
    holds(ended.err.contains("clone: errno 11"), &ended.err)
}

/// The foreground group of the terminal of a process.
fn foreground(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(5)?.parse().ok()
}

fn foreground_kept(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let file = scratch.file("pid");
    let script = format!("echo $$ >{}; exec sleep 60", file.display());
    let running = init
        .start(Kind::Any, &["sh", "-c", &script])
        .in_terminal(b"");
    let child = pid_in(&file)?;
    same(
        foreground(child),
        Some(child),
        "the group in the foreground",
    )?;
    send(child, 9);
    running.end().map(drop)
}

fn foreground_of_others(init: &Subject) -> Outcome {
    let scratch = Scratch::new();
    let (shell, child) = (scratch.file("shell"), scratch.file("child"));
    // A shell with job control starts the init in the background, and stays in the foreground itself.
    let script = format!(
        "set -m; echo $$ >{}; \"$@\" & wait; sleep 60",
        shell.display()
    );
    let inner = format!("echo $$ >{}; exec sleep 60", child.display());
    let running = init
        .start(Kind::Any, &["sh", "-c", &inner])
        .behind(&["sh", "-c", &script, "sh"])
        .in_terminal(b"");
    let (shell, child) = (pid_in(&shell)?, pid_in(&child)?);
    let outcome = same(
        foreground(shell),
        Some(shell),
        "the group in the foreground",
    );
    send(child, 9);
    send(shell, 9);
    drop(running);
    outcome
}

/// The number that a script wrote into a file.
fn pid_in(file: &std::path::Path) -> Result<i32, String> {
    let read = || fs::read_to_string(file).ok()?.trim().parse().ok();
    until(read).ok_or_else(|| format!("{}: nobody wrote it", file.display()))
}

fn sigchld_ignored(init: &Subject) -> Outcome {
    let start = init
        .start(Kind::Any, &["grep", "SigIgn", "/proc/self/status"])
        .by(&["env", "--ignore-signal=CHLD"]);
    let ended = start.in_namespace().ends_with(0)?;
    // The harness itself may ignore real-time signals: SIGCHLD's digit is compared.
    holds(ended.out.trim().ends_with("10000"), &ended.out)
}
