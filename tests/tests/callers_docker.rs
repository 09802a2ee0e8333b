//! The runtime under dockerd, in namespaces of the test's own, without a network.
#![allow(clippy::unwrap_used, reason = "tests")]

use ocirun_tests::{
    Bundle, Container, Finished, Invocation, Need, Running, eventually, program_in_path, runtime,
    suite,
};

const SETUP: &str = "ip link set lo up; mount -t tmpfs none /run; exec \"$@\"";

/// A daemon, and an image `probe:1` of the bundle's root.
struct Docker {
    container: Container,
    daemon: Running,
}

impl Docker {
    fn start(flags: &[&str]) -> Self {
        let container = Bundle::new().container();
        let file = |name: &str| container.file(name);
        let call = Invocation::new(&program_in_path("unshare").unwrap())
            .args([
                "--mount",
                "--net",
                "--pid",
                "--mount-proc",
                "--fork",
                "--kill-child",
            ])
            .args([
                "sh",
                "-c",
                SETUP,
                "sh",
                "dockerd",
                "--storage-driver",
                "vfs",
            ])
            .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"])
            .args([
                "--ip-forward=false",
                "--ip-masq=false",
                "--userland-proxy=false",
            ])
            .arg("--data-root")
            .arg(file("docker"))
            .arg("--exec-root")
            .arg(file("docker-run"))
            .arg("--pidfile")
            .arg(file("docker-pid"))
            .arg(format!("--host=unix://{}", file("docker.sock").display()))
            .arg(format!(
                "--cgroup-parent={}",
                container.bundle.cgroup().path()
            ))
            .arg(format!(
                "--add-runtime=tested={}",
                runtime().program.display()
            ))
            .arg("--default-runtime=tested")
            .args(flags);
        let mut docker = Self {
            daemon: call.start(),
            container,
        };
        eventually("dockerd answers", || {
            docker.daemon.ended() || docker.call(&["version"]).code() == 0
        });
        let tar = docker.container.file("root.tar");
        let call = Invocation::new(&program_in_path("tar").unwrap());
        let call = call.arg("-cf").arg(&tar).arg("-C");
        call.arg(docker.container.bundle.path().join("rootfs"))
            .arg(".")
            .finish()
            .ok();
        docker
            .call(&["import", tar.to_str().unwrap(), "probe:1"])
            .ok();
        docker
    }

    fn call(&self, args: &[&str]) -> Finished {
        let socket = self.container.file("docker.sock");
        let call = Invocation::new(&program_in_path("docker").unwrap());
        call.arg(format!("--host=unix://{}", socket.display()))
            .args(args)
            .finish()
    }

    /// `docker run` of the probe.
    fn run(&self, flags: &[&str], steps: &[&str]) -> Finished {
        let always = ["run", "--network", "none"];
        self.call(&[&always[..], flags, &["probe:1", "/bin/probe"], steps].concat())
    }

    fn inspect(&self, what: &str) -> String {
        let inspected = self.call(&["inspect", "--format", what, "c1"]).ok();
        inspected.stdout().trim().to_owned()
    }
}

fn it_runs_in_the_foreground() {
    let docker = Docker::start(&[]);
    let run = docker.run(&["--rm", "--env", "A=1"], &["report", ",", "exit", "3"]);
    assert_eq!(run.code(), 3, "{run}");
    assert_eq!(run.values()[0]["pid"], 1);
    let run = docker.run(&["--rm", "--init"], &["report"]).ok();
    assert_ne!(run.value()["pid"], 1);
    let missing = docker.call(&["run", "--rm", "--network", "none", "probe:1", "/no/such"]);
    assert_eq!(missing.code(), 127, "{missing}");
    let directory = docker.call(&["run", "--rm", "--network", "none", "probe:1", "/etc"]);
    assert_eq!(directory.code(), 126, "{directory}");
}

fn it_manages_a_detached_container() {
    let docker = Docker::start(&[]);
    docker
        .run(&["--detach", "--name", "c1", "--memory", "64m"], &["trap"])
        .ok();
    let exec = docker.call(&[
        "exec",
        "c1",
        "/bin/probe",
        "print",
        "inside",
        ",",
        "exit",
        "9",
    ]);
    assert_eq!((exec.code(), exec.stdout().as_str()), (9, "\"inside\"\n"));
    assert_eq!(docker.call(&["exec", "c1", "/no/such"]).code(), 126);
    docker.call(&["pause", "c1"]).ok();
    assert_eq!(docker.inspect("{{.State.Status}}"), "paused");
    docker.call(&["unpause", "c1"]).ok();
    assert_eq!(docker.call(&["top", "c1"]).ok().stdout().lines().count(), 2);
    docker.call(&["update", "--pids-limit", "30", "c1"]).ok();
    let used = ["stats", "--no-stream", "--format", "{{.PIDs}}", "c1"];
    assert_eq!(docker.call(&used).ok().stdout().trim(), "1");
    docker.call(&["stop", "--time", "5", "c1"]).ok();
    assert_eq!(docker.inspect("{{.State.ExitCode}}"), "0");
    assert!(docker.call(&["logs", "c1"]).ok().stdout().contains("ready"));
    docker.call(&["rm", "c1"]).ok();
}

fn what_ends_is_started_again() {
    let docker = Docker::start(&[]);
    docker
        .run(
            &["--detach", "--name", "c1", "--restart", "on-failure:3"],
            &["exit", "5"],
        )
        .ok();
    eventually("three starts", || {
        docker.inspect("{{.RestartCount}} {{.State.Status}}") == "3 exited"
    });
    assert_eq!(docker.inspect("{{.State.ExitCode}}"), "5");
}

fn an_image_is_built() {
    let docker = Docker::start(&[]);
    let context = docker.container.file("context");
    std::fs::create_dir(&context).unwrap();
    let steps = "FROM probe:1\nRUN [\"/bin/probe\", \"mkdir\", \"/made\"]\nENV B=2\n";
    std::fs::write(context.join("Dockerfile"), steps).unwrap();
    let build = [
        "build",
        "--network",
        "none",
        "--tag",
        "made:1",
        context.to_str().unwrap(),
    ];
    docker.call(&build).ok();
    let run = [
        "run",
        "--rm",
        "--network",
        "none",
        "made:1",
        "/bin/probe",
        "stat",
        "/made",
    ];
    docker.call(&run).ok();
}

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Program("dockerd"),
    Need::Program("docker"),
    Need::Program("containerd"),
    Need::Program("docker-init"),
];

suite! {
    NEEDS => [
        it_runs_in_the_foreground,
        it_manages_a_detached_container,
        what_ends_is_started_again,
        an_image_is_built,
    ],
}
