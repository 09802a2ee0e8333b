//! Terminals: run and exec in the foreground through one of the test's, the console socket, sizes, /dev/console.
#![allow(clippy::unwrap_used, reason = "tests")]

use nix::sys::signal::{Signal, kill};
use ocirun_tests::{
    Bundle, ConsoleSocket, Container, Need, PROBE, Running, Terminal, eventually, suite,
};
use rustix::termios::LocalModes;
use serde_json::{Value, json};

fn with_terminal(steps: &[&str]) -> Container {
    Bundle::new()
        .set("/process/terminal", true)
        .probe(steps)
        .container()
}

fn run_on_a_terminal(container: &Container) -> (Running, Terminal) {
    let (terminal, other_end) = Terminal::open(30, 100);
    (
        container.from_bundle("run", &[]).start_on(&other_end),
        terminal,
    )
}

fn fds(report: &Value) -> Vec<&str> {
    report["fds"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|fd| fd["target"].as_str())
        .collect()
}

/// The last report on the screen, in full.
fn report_on(terminal: &mut Terminal) -> Value {
    let mut found = None;
    eventually("a report", || {
        found = terminal
            .values()
            .into_iter()
            .rfind(|value| value.get("terminal").is_some());
        found.is_some()
    });
    found.unwrap()
}

fn run_gives_a_terminal_of_the_container() {
    let container = with_terminal(&["report"]);
    let (run, mut terminal) = run_on_a_terminal(&container);
    let report = report_on(&mut terminal);
    assert_eq!(run.finish().code(), 0);
    assert_eq!(fds(&report), ["/dev/pts/0", "/dev/pts/0", "/dev/pts/0"]);
    assert_eq!(report["terminal"]["name"], "/dev/pts/0");
    assert_eq!(
        (&report["terminal"]["foreground"], &report["session"]),
        (&json!(1), &json!(1))
    );
}

fn the_exit_code_comes_through() {
    let container = with_terminal(&["exit", "9"]);
    let (run, _terminal) = run_on_a_terminal(&container);
    assert_eq!(run.finish().code(), 9);
}

fn the_size_is_the_users() {
    let container = with_terminal(&["winch"]);
    let (run, mut terminal) = run_on_a_terminal(&container);
    terminal.wait_for("{\"columns\":100,\"rows\":30}");
    terminal.resize(50, 120);
    kill(run.pid(), Signal::SIGWINCH).unwrap();
    terminal.wait_for("{\"columns\":120,\"rows\":50}");
    container.kill("TERM").ok();
    assert_eq!(run.finish().code(), 0);
}

fn what_is_typed_arrives() {
    let container = with_terminal(&["print", "started", ",", "cat"]);
    let (run, mut terminal) = run_on_a_terminal(&container);
    terminal.wait_for("started");
    terminal.write("typed\r");
    terminal.wait_for("typed\r\ntyped\r\n");
    terminal.write("\u{4}");
    terminal.wait_for("{\"bytes\":6}");
    assert_eq!(run.finish().code(), 0);
}

fn control_c_interrupts_the_process_inside() {
    let container = with_terminal(&["trap"]);
    let (run, mut terminal) = run_on_a_terminal(&container);
    terminal.wait_for("ready");
    terminal.write("\u{3}");
    terminal.wait_for("SIGINT");
    container.kill("TERM").ok();
    assert_eq!(run.finish().code(), 0);
}

fn the_users_terminal_is_raw_meanwhile_and_restored() {
    let container = with_terminal(&["trap"]);
    let (run, mut terminal) = run_on_a_terminal(&container);
    terminal.wait_for("ready");
    assert!(!terminal.attributes().local_modes.contains(LocalModes::ECHO));
    container.kill("TERM").ok();
    assert_eq!(run.finish().code(), 0);
    assert!(
        terminal
            .attributes()
            .local_modes
            .contains(LocalModes::ECHO | LocalModes::ICANON)
    );
}

fn the_users_terminal_is_restored_after_an_error() {
    let container = Bundle::new()
        .set("/process/terminal", true)
        .args(&["/no/such/program"])
        .container();
    let (run, terminal) = run_on_a_terminal(&container);
    assert_eq!(run.finish().code(), 1);
    assert!(
        terminal
            .attributes()
            .local_modes
            .contains(LocalModes::ECHO | LocalModes::ICANON)
    );
}

fn output_ends_with_the_carriage_return_of_a_terminal() {
    let container = with_terminal(&["print", "line"]);
    let (run, mut terminal) = run_on_a_terminal(&container);
    assert_eq!(run.finish().code(), 0);
    terminal.wait_for("\"line\"\r\n");
}

fn a_long_output_is_whole() {
    let container = Bundle::new().set("/process/terminal", true);
    std::fs::write(container.inside("/etc/long"), "x".repeat(60_000)).unwrap();
    let container = container.probe(&["read", "/etc/long"]).container();
    let (run, mut terminal) = run_on_a_terminal(&container);
    eventually("60000 letters", || {
        terminal.screen().matches('x').count() == 60_000
    });
    assert_eq!(run.finish().code(), 0);
}

fn dev_console_is_the_terminal() {
    let container = with_terminal(&[
        "report",
        ",",
        "stat",
        "/dev/console",
        ",",
        "stat",
        "/dev/pts/0",
    ]);
    let (run, mut terminal) = run_on_a_terminal(&container);
    assert_eq!(run.finish().code(), 0);
    let report = report_on(&mut terminal);
    let mounts = report["mounts"].as_array().unwrap();
    let console = mounts
        .iter()
        .find(|mount| mount["at"] == "/dev/console")
        .unwrap();
    assert_eq!(console["type"], "devpts");
    let stats: Vec<Value> = terminal
        .values()
        .into_iter()
        .filter(|value| value.get("major").is_some())
        .collect();
    assert_eq!(stats.len(), 2);
    assert_eq!(stats[0]["dev"], stats[1]["dev"]);
    assert_eq!(
        (&stats[0]["major"], &stats[0]["minor"]),
        (&stats[1]["major"], &stats[1]["minor"])
    );
}

fn no_terminal_no_console() {
    let found = Bundle::new()
        .probe(&["report", ",", "stat", "/dev/console"])
        .container()
        .run()
        .values();
    assert_eq!(
        (&found[0]["terminal"], &found[1]),
        (&Value::Null, &json!({"errno": "ENOENT"}))
    );
}

fn the_terminal_belongs_to_the_user() {
    let container = Bundle::new()
        .set("/process/terminal", true)
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .probe(&["stat", "/dev/pts/0"])
        .container();
    let (run, mut terminal) = run_on_a_terminal(&container);
    assert_eq!(run.finish().code(), 0);
    eventually("a stat", || {
        terminal.values().iter().any(|value| value["uid"] == 1000)
    });
}

fn created_with_socket(bundle: Bundle) -> (Container, Terminal, String) {
    let container = bundle.set("/process/terminal", true).container();
    let socket = ConsoleSocket::bind(container.file("console"));
    container
        .from_bundle(
            "create",
            &["--console-socket", socket.path().to_str().unwrap()],
        )
        .finish()
        .ok();
    let (terminal, text) = socket.receive();
    (container, terminal, text)
}

fn a_detached_terminal_goes_to_the_socket() {
    let (container, mut terminal, text) =
        created_with_socket(Bundle::new().probe(&["report", ",", "trap"]));
    assert!(
        text.contains("/dev/p"),
        "the name of the terminal: {text:?}"
    );
    container.start().ok();
    terminal.wait_for("\"ready\"");
    let report = report_on(&mut terminal);
    assert_eq!(fds(&report), ["/dev/pts/0", "/dev/pts/0", "/dev/pts/0"]);
    terminal.write("\u{3}");
    terminal.wait_for("SIGINT");
    container.kill("TERM").ok();
    container.wait_for_status("stopped");
}

fn a_detached_run_with_the_socket() {
    let container = with_terminal(&["trap"]);
    let socket = ConsoleSocket::bind(container.file("console"));
    let flags = [
        "--detach",
        "--console-socket",
        socket.path().to_str().unwrap(),
    ];
    container.from_bundle("run", &flags).finish().ok();
    let (mut terminal, _) = socket.receive();
    terminal.wait_for("\"ready\"");
}

fn console_size_of_the_configuration() {
    let bundle = Bundle::new()
        .set("/process/consoleSize", json!({"height": 33, "width": 77}))
        .probe(&["report"]);
    let (container, mut terminal, _) = created_with_socket(bundle);
    assert_eq!(terminal.size(), (33, 77));
    container.start().ok();
    let report = report_on(&mut terminal);
    assert_eq!(
        (&report["terminal"]["rows"], &report["terminal"]["columns"]),
        (&json!(33), &json!(77))
    );
}

fn a_resize_through_the_socket_reaches_the_process() {
    let (container, mut terminal, _) = created_with_socket(Bundle::new().probe(&["winch"]));
    terminal.resize(11, 22);
    container.start().ok();
    terminal.wait_for("{\"columns\":22,\"rows\":11}");
    terminal.resize(44, 55);
    terminal.wait_for("{\"columns\":55,\"rows\":44}");
}

fn a_detached_terminal_needs_the_socket() {
    let container = with_terminal(&["report"]);
    let words = "cannot allocate tty if runc will detach without setting console socket";
    container.create().fails(1, words);
    container.run_detached().fails(1, words);
    container.verb("state").fails(1, "container does not exist");
}

fn the_socket_needs_a_detached_terminal() {
    let container = Bundle::new().container();
    let socket = ConsoleSocket::bind(container.file("console"));
    let words = "cannot use console socket if runc will not detach or allocate tty";
    let flags = ["--console-socket", socket.path().to_str().unwrap()];
    container
        .from_bundle("create", &flags)
        .finish()
        .fails(1, words);
    container
        .from_bundle("run", &flags)
        .finish()
        .fails(1, words);
    container.verb("state").fails(1, "container does not exist");
}

fn a_socket_that_is_not_there() {
    let container = with_terminal(&["report"]);
    container
        .from_bundle("create", &["--console-socket", "/no/such/socket"])
        .finish()
        .fails(1, "no such file or directory");
    let file = container.file("console");
    std::fs::write(&file, "").unwrap();
    let create = container
        .from_bundle("create", &["--console-socket", file.to_str().unwrap()])
        .finish();
    create.fails(1, "");
    container.verb("state").fails(1, "container does not exist");
    assert_eq!(
        container.bundle.cgroup().existing(),
        Vec::<std::path::PathBuf>::new()
    );
}

fn running() -> Container {
    let container = Bundle::new().probe(&["pause"]).container();
    container.run_detached().ok();
    container
}

fn exec_in_the_foreground() {
    let container = running();
    let (mut terminal, other_end) = Terminal::open(25, 90);
    let exec = container
        .exec_call(&["-t"], &["report", ",", "winch"])
        .start_on(&other_end);
    terminal.wait_for("{\"columns\":90,\"rows\":25}");
    let report = report_on(&mut terminal);
    assert_eq!(fds(&report), ["/dev/pts/0", "/dev/pts/0", "/dev/pts/0"]);
    assert_eq!(report["terminal"]["foreground"], report["pid"]);
    terminal.resize(26, 91);
    kill(exec.pid(), Signal::SIGWINCH).unwrap();
    terminal.wait_for("{\"columns\":91,\"rows\":26}");
    kill(exec.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(exec.finish().code(), 0);
}

fn exec_detached() {
    let container = running();
    let socket = ConsoleSocket::bind(container.file("console"));
    let flags = [
        "--tty",
        "--detach",
        "--console-socket",
        socket.path().to_str().unwrap(),
    ];
    container.exec_with(&flags, &["trap"]).ok();
    let (mut terminal, _) = socket.receive();
    terminal.wait_for("\"ready\"");
    terminal.write("\u{3}");
    terminal.wait_for("SIGINT");
}

fn exec_refuses_mismatched_flags() {
    let container = running();
    let words = "cannot allocate tty if runc will detach without setting console socket";
    container
        .exec_with(&["-t", "-d"], &["report"])
        .fails(255, words);
    let words = "cannot use console socket if runc will not detach or allocate tty";
    let path = container.file("console");
    container
        .exec_with(
            &["-d", "--console-socket", path.to_str().unwrap()],
            &["report"],
        )
        .fails(255, words);
}

fn exec_takes_the_terminal_from_a_process_file() {
    let container = running();
    let file = container.file("process.json");
    let process = json!({
        "terminal": true, "args": [PROBE, "report"], "cwd": "/", "env": [], "user": {"uid": 0, "gid": 0},
        "consoleSize": {"height": 12, "width": 34},
    });
    std::fs::write(&file, process.to_string()).unwrap();
    let socket = ConsoleSocket::bind(container.file("console"));
    let call = container
        .command("exec")
        .args(["--detach", "--process"])
        .arg(&file)
        .arg("--console-socket");
    call.arg(socket.path()).arg(&container.id).finish().ok();
    let (mut terminal, _) = socket.receive();
    assert_eq!(report_on(&mut terminal)["terminal"]["name"], "/dev/pts/0");
}

fn several_terminals_at_once() {
    let container = running();
    let open = || {
        let (terminal, other_end) = Terminal::open(25, 80);
        (
            container
                .exec_call(&["-t"], &["report", ",", "trap"])
                .start_on(&other_end),
            terminal,
        )
    };
    let mut both = [open(), open()];
    let mut names: Vec<String> = Vec::new();
    for (_, terminal) in &mut both {
        terminal.wait_for("ready");
        names.push(
            report_on(terminal)["terminal"]["name"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    names.sort();
    assert_eq!(names, ["/dev/pts/0", "/dev/pts/1"]);
    for (exec, _) in both {
        kill(exec.pid(), Signal::SIGTERM).unwrap();
        assert_eq!(exec.finish().code(), 0);
    }
}

suite! {
    &[Need::Root] => [
        run_gives_a_terminal_of_the_container,
        the_exit_code_comes_through,
        the_size_is_the_users,
        what_is_typed_arrives,
        control_c_interrupts_the_process_inside,
        the_users_terminal_is_raw_meanwhile_and_restored,
        the_users_terminal_is_restored_after_an_error,
        output_ends_with_the_carriage_return_of_a_terminal,
        a_long_output_is_whole,
        dev_console_is_the_terminal,
        no_terminal_no_console,
        the_terminal_belongs_to_the_user,
        a_detached_terminal_goes_to_the_socket,
        a_detached_run_with_the_socket,
        console_size_of_the_configuration,
        a_resize_through_the_socket_reaches_the_process,
        a_detached_terminal_needs_the_socket,
        the_socket_needs_a_detached_terminal,
        a_socket_that_is_not_there,
        exec_in_the_foreground,
        exec_detached,
        exec_refuses_mismatched_flags,
        exec_takes_the_terminal_from_a_process_file,
        several_terminals_at_once,
    ],
}
