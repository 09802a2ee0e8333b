//! The runtime under podman, with storage, cgroups and limits of the test's own.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use ocirun_tests::{
    Bundle, Container, Finished, Invocation, Need, program_in_path, runtime, suite,
};
use serde_json::json;

/// The cgroups of podman's monitors, which it leaves behind: removed at the end if nobody is in them.
struct MonitorsCgroups;

impl Drop for MonitorsCgroups {
    fn drop(&mut self) {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
        let roots = hierarchies.flatten().map(|entry| entry.path());
        for root in roots.chain([PathBuf::from("/sys/fs/cgroup")]) {
            let parent = root.join("libpod_parent");
            // A monitor lives on for a moment after its container.
            for _ in 0..100 {
                match fs::remove_dir(parent.join("conmon")) {
                    Err(error) if error.kind() == ErrorKind::ResourceBusy => {}
                    _ => break,
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            // Another's containers keep it, which is right.
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Limits that root need not raise, which it may not do everywhere; no pause image but podman's own.
const LIMITS: &str =
    "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";

/// Podman with everything of its own below the test's directory.
fn podman(container: &Container, args: &[&str]) -> Finished {
    let limits = container.file("containers.conf");
    fs::write(&limits, LIMITS).unwrap();
    let directory = |name: &str| container.file(name).to_str().unwrap().to_owned();
    Invocation::new(&program_in_path("podman").unwrap())
        .env("CONTAINERS_CONF", limits)
        .args([
            "--root",
            &directory("podman"),
            "--runroot",
            &directory("podman-run"),
            "--storage-driver",
            "vfs",
        ])
        .args([
            "--tmpdir",
            &directory("podman-tmp"),
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
        ])
        .arg("--runtime")
        .arg(&runtime().program)
        .args(args)
        .finish()
}

/// A container without a network, of the bundle's root.
fn podman_run(container: &Container, flags: &[&str], command: &[&str]) -> Finished {
    let rootfs = container
        .bundle
        .path()
        .join("rootfs")
        .to_str()
        .unwrap()
        .to_owned();
    let always = [
        "run",
        "--network",
        "none",
        "--cgroup-parent",
        container.bundle.cgroup().path(),
        "--name",
        &container.id,
    ];
    podman(
        container,
        &[&always[..], flags, &["--rootfs", &rootfs], command].concat(),
    )
}

fn podman_runs_in_the_foreground() {
    let _monitors = MonitorsCgroups;
    let container = Bundle::new().container();
    let run = podman_run(
        &container,
        &["--rm", "--env", "A=1", "--hostname", "pod"],
        &["/bin/probe", "report", ",", "exit", "3"],
    );
    assert_eq!(run.code(), 3, "{run}");
    let report = &run.values()[0];
    assert_eq!(
        (&report["hostname"], &report["pid"], &report["seccomp"]),
        (&json!("pod"), &json!(1), &json!("2"))
    );
    assert!(report["env"].as_array().unwrap().contains(&json!("A=1")));
}

fn podman_gives_the_codes_of_its_manual() {
    let _monitors = MonitorsCgroups;
    let container = Bundle::new().container();
    let run = podman_run(&container, &["--rm"], &["/no/such/program"]);
    assert_eq!(run.code(), 127, "{run}");
    fs::write(container.bundle.inside("/etc/data"), "").unwrap();
    for cannot_run in ["/etc/data", "/etc"] {
        let run = podman_run(&container, &["--rm"], &[cannot_run]);
        assert_eq!(run.code(), 126, "{run}");
    }
}

fn podman_manages_a_detached_container() {
    let _monitors = MonitorsCgroups;
    let container = Bundle::new().container();
    podman_run(
        &container,
        &["--detach", "--memory", "64m"],
        &["/bin/probe", "trap"],
    )
    .ok();
    let inspect = || {
        podman(
            &container,
            &["inspect", "--format", "{{.State.Status}}", &container.id],
        )
        .ok()
        .stdout()
    };
    assert_eq!(inspect().trim(), "running");
    let exec = podman(
        &container,
        &[
            "exec",
            &container.id,
            "/bin/probe",
            "print",
            "inside",
            ",",
            "exit",
            "9",
        ],
    );
    assert_eq!(
        (exec.code(), exec.stdout().as_str()),
        (9, "\"inside\"\n"),
        "{exec}"
    );
    podman(&container, &["pause", &container.id]).ok();
    assert_eq!(inspect().trim(), "paused");
    podman(&container, &["unpause", &container.id]).ok();
    podman(&container, &["stop", "--time", "5", &container.id]).ok();
    let code = podman(
        &container,
        &["inspect", "--format", "{{.State.ExitCode}}", &container.id],
    )
    .ok();
    assert_eq!(
        code.stdout().trim(),
        "0",
        "the probe ends itself on SIGTERM"
    );
    podman(&container, &["rm", &container.id]).ok();
}

fn format(container: &Container, what: &str) -> String {
    let inspected = podman(container, &["inspect", "--format", what, &container.id]).ok();
    inspected.stdout().trim().to_owned()
}

fn podman_asks_after_the_health() {
    let _monitors = MonitorsCgroups;
    let container = Bundle::new().container();
    fs::write(container.bundle.inside("/etc/well"), "").unwrap();
    let flags = [
        "--detach",
        "--health-interval",
        "disable",
        "--health-retries",
        "1",
        "--health-cmd",
        "[\"/bin/probe\", \"stat\", \"/etc/well\"]",
    ];
    podman_run(&container, &flags, &["/bin/probe", "trap"]).ok();
    podman(&container, &["healthcheck", "run", &container.id]).ok();
    podman(&container, &["rm", "--force", "--time", "0", &container.id]).ok();
}

fn podman_puts_an_init_in_front() {
    let _monitors = MonitorsCgroups;
    let container = Bundle::new().container();
    let run = podman_run(
        &container,
        &["--rm", "--init"],
        &["/bin/probe", "report", ",", "exit", "3"],
    );
    assert_eq!(run.code(), 3, "{run}");
    assert_ne!(run.values()[0]["pid"], 1, "{run}");
}

fn podman_writes_and_restores() {
    let _monitors = MonitorsCgroups;
    let container = Bundle::new().container();
    let flags = ["--detach"];
    podman_run(&container, &flags, &["/bin/probe", "trap"]).ok();
    let pid = format(&container, "{{.State.Pid}}");
    for flags in [&[][..], &["--keep"]] {
        let write = ["container", "checkpoint"];
        podman(&container, &[&write[..], flags, &[&container.id]].concat()).ok();
        assert_eq!(format(&container, "{{.State.Status}}"), "exited");
        podman(&container, &["container", "restore", &container.id]).ok();
        assert_eq!(format(&container, "{{.State.Status}}"), "running");
    }
    assert_ne!(format(&container, "{{.State.Pid}}"), pid);
    let exec = ["exec", &container.id, "/bin/probe", "print", "inside"];
    assert_eq!(podman(&container, &exec).ok().value(), "inside");
    podman(&container, &["stop", "--time", "5", &container.id]).ok();
    assert_eq!(format(&container, "{{.State.ExitCode}}"), "0");
    podman(&container, &["rm", &container.id]).ok();
}

/// The bundle's root as an image of podman's.
fn import(container: &Container) {
    let tar = container.file("root.tar");
    let call = Invocation::new(&program_in_path("tar").unwrap())
        .arg("-cf")
        .arg(&tar);
    call.arg("-C")
        .arg(container.bundle.path().join("rootfs"))
        .arg(".")
        .finish()
        .ok();
    podman(
        container,
        &["import", tar.to_str().unwrap(), "localhost/probe:1"],
    )
    .ok();
}

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: NAME
spec:
  hostNetwork: true
  restartPolicy: Never
  containers:
  - name: one
    image: localhost/probe:1
    imagePullPolicy: Never
    command: ["/bin/probe", "trap"]
  - name: two
    image: localhost/probe:1
    imagePullPolicy: Never
    command: ["/bin/probe", "trap"]
"#;

fn podman_plays_a_pod() {
    let _monitors = MonitorsCgroups;
    let container = Bundle::new().container();
    import(&container);
    let file = container.file("pod.yaml");
    fs::write(&file, POD.replace("NAME", &container.id)).unwrap();
    let file = file.to_str().unwrap();
    podman(&container, &["play", "kube", file]).ok();
    let of = |name: &str, what: &str| {
        let name = format!("{}-{name}", container.id);
        podman(&container, &["inspect", "--format", what, &name])
            .ok()
            .stdout()
    };
    for name in ["one", "two"] {
        assert_eq!(of(name, "{{.State.Status}}").trim(), "running");
    }
    let ipc = |name: &str| {
        let pid = of(name, "{{.State.Pid}}");
        fs::read_link(format!("/proc/{}/ns/ipc", pid.trim())).unwrap()
    };
    assert_eq!(ipc("one"), ipc("two"));
    podman(&container, &["play", "kube", "--down", file]).ok();
    let left = podman(&container, &["ps", "--all", "--quiet"]).ok();
    assert_eq!(left.stdout(), "");
}

const NEEDS: &[Need] = &[Need::Root, Need::Program("podman"), Need::Program("conmon")];

suite! {
    NEEDS => [
        podman_runs_in_the_foreground,
        podman_gives_the_codes_of_its_manual,
        podman_manages_a_detached_container,
        podman_asks_after_the_health,
        podman_plays_a_pod,
    ],
    &[
        Need::Root,
        Need::Program("podman"),
        Need::Program("conmon"),
        Need::File("/usr/libexec/podman/catatonit"),
    ] => [podman_puts_an_init_in_front],
    &[Need::Root, Need::Program("podman"), Need::Program("conmon"), Need::Criu] => [podman_writes_and_restores],
}
