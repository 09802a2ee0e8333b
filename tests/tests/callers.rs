//! The runtime under those who call it: containerd, a bundle that umoci unpacked, a shell of busybox. Podman has
//! `callers_podman.rs`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use ocirun_tests::{
    Bundle, Container, Finished, Invocation, Need, Running, Terminal, eventually, program_in_path,
    runtime, suite,
};
use serde_json::{Value, json};

fn program(name: &str) -> PathBuf {
    program_in_path(name).unwrap()
}

fn call(name: &str) -> Invocation {
    Invocation::new(&program(name))
}

fn with_busybox() -> Bundle {
    let bundle = Bundle::new();
    fs::copy(program("busybox"), bundle.inside("/bin/busybox")).unwrap();
    for name in ["sh", "ls", "ps", "id", "cat", "hostname"] {
        std::os::unix::fs::symlink("busybox", bundle.inside("/bin").join(name)).unwrap();
    }
    bundle
}

fn a_shell_of_busybox() {
    let script = "hostname; id -u; echo $$; ls / | wc -l >/dev/null; cat /proc/1/comm; exit 5";
    let run = with_busybox().args(&["sh", "-c", script]).container().run();
    assert_eq!((run.code(), run.stdout().as_str()), (5, "runc\n0\n1\nsh\n"));
}

fn an_interactive_shell() {
    let container = with_busybox()
        .set("/process/terminal", true)
        .args(&["sh", "-i"])
        .container();
    let (mut terminal, other_end) = Terminal::open(24, 80);
    let run = container.from_bundle("run", &[]).start_on(&other_end);
    terminal.wait_for("#");
    terminal.write("echo $((40 + 2))\r");
    terminal.wait_for("\r\n42\r\n");
    terminal.write("exit 3\r");
    assert_eq!(run.finish().code(), 3);
}

fn a_bundle_unpacked_by_umoci() {
    let container = Bundle::new().container();
    let umoci = |args: &[&str]| {
        call("umoci")
            .args(args)
            .directory(container.bundle.path())
            .finish()
            .ok()
    };
    umoci(&["init", "--layout", "image"]);
    umoci(&["new", "--image", "image:latest"]);
    umoci(&[
        "config",
        "--image",
        "image:latest",
        "--config.entrypoint",
        "/bin/sh",
        "--config.cmd",
        "-c",
        "--config.cmd",
        "echo $FROM_IMAGE; exit 4",
        "--config.env",
        "FROM_IMAGE=yes",
    ]);
    umoci(&[
        "insert",
        "--image",
        "image:latest",
        program("busybox").to_str().unwrap(),
        "/bin/sh",
    ]);
    umoci(&["unpack", "--image", "image:latest", "unpacked"]);
    let file = container.file("unpacked/config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    spec["process"]["terminal"] = json!(false);
    spec["linux"]["cgroupsPath"] = json!(container.bundle.cgroup().path());
    fs::write(&file, spec.to_string()).unwrap();
    let run = container
        .command("run")
        .arg("--bundle")
        .arg(container.file("unpacked"))
        .arg(&container.id)
        .finish();
    assert_eq!((run.code(), run.stdout().as_str()), (4, "yes\n"), "{run}");
}

struct Containerd {
    socket: PathBuf,
    _daemon: Running,
}

/// A containerd of the test's own, and its socket.
fn containerd(container: &Container) -> Containerd {
    let file = |name: &str| container.file(name);
    let disabled = [
        "grpc.v1.cri",
        "snapshotter.v1.btrfs",
        "snapshotter.v1.zfs",
        "snapshotter.v1.devmapper",
        "snapshotter.v1.aufs",
    ];
    let disabled: Vec<String> = disabled
        .iter()
        .map(|name| format!("\"io.containerd.{name}\""))
        .collect();
    let text = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [{}]\n[grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
        file("containerd"),
        file("containerd-state"),
        disabled.join(","),
        file("socket"),
        file("ttrpc")
    );
    fs::write(file("config.toml"), text).unwrap();
    let daemon = call("containerd")
        .arg("--config")
        .arg(file("config.toml"))
        .start();
    let found = Containerd {
        socket: file("socket"),
        _daemon: daemon,
    };
    eventually("containerd answers", || {
        ctr(&found, &["version"]).code() == 0
    });
    found
}

fn ctr(containerd: &Containerd, args: &[&str]) -> Finished {
    call("ctr")
        .arg("--address")
        .arg(&containerd.socket)
        .args(args)
        .finish()
}

fn ctr_run(
    containerd: &Containerd,
    container: &Container,
    flags: &[&str],
    command: &[&str],
) -> Finished {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let always = [
        "run",
        "--runc-binary",
        &path(&runtime().program),
        "--cgroup",
        container.bundle.cgroup().path(),
    ];
    let rootfs = path(&container.bundle.path().join("rootfs"));
    ctr(
        containerd,
        &[
            &always[..],
            flags,
            &["--rootfs", &rootfs, &container.id],
            command,
        ]
        .concat(),
    )
}

fn containerd_runs_in_the_foreground() {
    let container = Bundle::new().container();
    let daemon = containerd(&container);
    // ctr gives up on output that it has not begun to read when the program ends.
    let run = ctr_run(
        &daemon,
        &container,
        &["--rm"],
        &["/bin/probe", "report", ",", "sleep", "1", ",", "exit", "3"],
    );
    assert_eq!(run.code(), 3, "{run}");
    assert_eq!(run.values()[0]["pid"], 1);
    let run = ctr_run(&daemon, &container, &["--rm"], &["/no/such/program"]);
    assert_ne!(run.code(), 0);
    assert!(run.says("no such file or directory"), "{run}");
}

fn containerd_manages_a_task() {
    let container = Bundle::new().container();
    let daemon = containerd(&container);
    ctr_run(
        &daemon,
        &container,
        &["--detach", "--memory-limit", "67108864"],
        &["/bin/probe", "trap"],
    )
    .ok();
    let task = |args: &[&str]| ctr(&daemon, &[&["task"], args].concat());
    let status = || {
        let list = task(&["list"]).ok().stdout();
        list.lines()
            .last()
            .unwrap()
            .split_whitespace()
            .last()
            .unwrap()
            .to_owned()
    };
    assert_eq!(status(), "RUNNING");
    let exec = task(&[
        "exec",
        "--exec-id",
        "e1",
        &container.id,
        "/bin/probe",
        "print",
        "inside",
    ])
    .ok();
    assert_eq!(exec.value(), "inside");
    task(&["pause", &container.id]).ok();
    assert_eq!(status(), "PAUSED");
    task(&["resume", &container.id]).ok();
    assert_eq!(
        task(&["ps", &container.id]).ok().stdout().lines().count(),
        2
    );
    task(&["kill", "--signal", "SIGTERM", &container.id]).ok();
    eventually("its end", || status() == "STOPPED");
    task(&["delete", &container.id]).ok();
    ctr(&daemon, &["container", "delete", &container.id]).ok();
    eventually("no cgroup is left", || {
        container.bundle.cgroup().existing().is_empty()
    });
}

suite! {
    &[Need::Root, Need::Program("busybox")] => [a_shell_of_busybox, an_interactive_shell],
    &[Need::Root, Need::Program("busybox"), Need::Program("umoci")] => [a_bundle_unpacked_by_umoci],
    &[Need::Root, Need::Program("containerd"), Need::Program("ctr")] => [
        containerd_runs_in_the_foreground,
        containerd_manages_a_task,
    ],
}
