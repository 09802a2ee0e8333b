//! systemd as the cgroup driver: the units it is asked for, what they say, and what becomes of one that is not answered.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ocirun_tests::{
    Bundle, Container, Finished, Invocation, Need, eventually, program_in_path, runtime, suite,
};
use serde_json::{Value, json};

/// A bundle whose unit is `ocirun_tests-<name>.scope` in a slice below the system's own.
fn bundle(resources: Value) -> Bundle {
    let mut resources = resources;
    if resources.get("devices").is_none() {
        resources["devices"] = json!([{"allow": false, "access": "rwm"}]);
    }
    Bundle::new().set("/linux/resources", resources)
}

/// A container of which systemd makes the unit.
#[derive(Debug)]
struct Unit {
    container: Container,
}

impl Unit {
    fn new(bundle: Bundle) -> Self {
        let container = bundle.probe(&["pause"]).container();
        let path = format!("ocirun-tests.slice:ocirun_tests:{}", container.id);
        Self::with_path(container, &path)
    }

    fn with_path(mut container: Container, path: &str) -> Self {
        container.bundle.spec["linux"]["cgroupsPath"] = path.into();
        container.bundle.write();
        Self { container }
    }

    fn name(&self) -> String {
        format!("ocirun_tests-{}.scope", self.container.id)
    }

    fn by(&self, program: &Path, verb: &str) -> Invocation {
        Invocation::new(program)
            .arg("--systemd-cgroup")
            .arg("--root")
            .arg(self.container.state_root())
            .arg(verb)
    }

    fn create_by(&self, program: &Path) {
        self.by(program, "create")
            .arg("--bundle")
            .arg(self.container.bundle.path())
            .arg(&self.container.id)
            .finish()
            .ok();
    }

    fn create(&self) {
        self.create_by(&runtime().program);
    }

    /// `run`, until its end.
    fn run(&self) -> Finished {
        self.by(&runtime().program, "run")
            .arg("--bundle")
            .arg(self.container.bundle.path())
            .arg(&self.container.id)
            .finish()
    }

    /// `run` in a mount namespace of its own, behind `script`, which finds the runtime's words in its own.
    fn run_behind(&self, script: &str) -> Finished {
        Invocation::new(&program_in_path("unshare").unwrap())
            .args(["-m", "sh", "-c", script])
            .arg(ocirun_tests::probe_program())
            .arg(&runtime().program)
            .args(["--systemd-cgroup", "--root"])
            .arg(self.container.state_root())
            .args(["run", "--bundle"])
            .arg(self.container.bundle.path())
            .arg(&self.container.id)
            .finish()
    }

    fn delete_by(&self, program: &Path) {
        self.by(program, "delete")
            .args(["--force", &self.container.id])
            .finish()
            .ok();
    }

    /// What `systemctl show` says.
    fn show(&self, properties: &[&str]) -> BTreeSet<String> {
        let shown = Invocation::new(&program_in_path("systemctl").unwrap())
            .arg("show")
            .arg(self.name())
            .arg(format!("--property={}", properties.join(",")))
            .finish()
            .ok();
        shown.stdout().lines().map(str::to_owned).collect()
    }

    fn is_loaded(&self) -> bool {
        self.show(&["ActiveState"]).contains("ActiveState=active")
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if self
            .container
            .state_root()
            .join(&self.container.id)
            .exists()
        {
            let _ = self
                .by(&runtime().program, "delete")
                .args(["--force", &self.container.id])
                .finish();
        }
    }
}

/// What a container may ask of a unit.
const PROPERTIES: [&str; 24] = [
    "Slice",
    "Delegate",
    "DefaultDependencies",
    "CPUAccounting",
    "MemoryAccounting",
    "IOAccounting",
    "BlockIOAccounting",
    "TasksAccounting",
    "MemoryMax",
    "MemoryLow",
    "MemoryHigh",
    "MemoryMin",
    "MemorySwapMax",
    "MemoryLimit",
    "CPUWeight",
    "CPUShares",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "TasksMax",
    "DevicePolicy",
    "DeviceAllow",
    "TimeoutStopUSec",
];

fn sections() -> [Value; 11] {
    [
        json!({}),
        json!({"memory": {"limit": 64 << 20, "reservation": 32 << 20}}),
        json!({"memory": {"limit": 64 << 20, "swap": 96 << 20}}),
        json!({"memory": {"limit": -1}}),
        json!({"cpu": {"quota": 50_000, "period": 100_000}}),
        json!({"cpu": {"quota": 1001, "period": 100_000}}),
        json!({"cpu": {"shares": 262_144}}),
        json!({"cpu": {"cpus": "0", "mems": "0"}}),
        json!({"pids": {"limit": 20}}),
        json!({"devices": [{"allow": true, "access": "rwm"}]}),
        json!({"devices": [{"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
            {"allow": true, "type": "c", "major": 4, "access": "r"}]}),
    ]
}

fn units_are_those_of_runc() {
    let runc = program_in_path("runc").unwrap();
    for resources in sections() {
        let unit = Unit::new(bundle(resources.clone()));
        unit.create();
        let mut ours = unit.show(&PROPERTIES);
        // Newer runtimes allow tun by default, as this one does, and runc 1.1.5 does not.
        ours.remove("DeviceAllow=/dev/char/10:200 rwm");
        unit.delete_by(&runtime().program);
        unit.create_by(&runc);
        let theirs = unit.show(&PROPERTIES);
        unit.delete_by(&runc);
        assert_eq!(ours, theirs, "{resources}");
    }
}

fn the_process_is_in_its_unit() {
    let unit = Unit::new(bundle(json!({"pids": {"limit": 20}})));
    unit.create();
    let pid = unit.container.pid();
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let expected = format!("/ocirun.slice/ocirun-tests.slice/{}", unit.name());
    assert!(
        cgroup.lines().any(|line| line.ends_with(&expected)),
        "{cgroup}"
    );
    unit.container.start().ok();
    let report = unit.container.exec(&["report"]).ok().value();
    let lines: Vec<&str> = report["cgroup"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        lines.iter().any(|line| line.ends_with(&expected)),
        "{lines:?}"
    );
}

fn delete_stops_the_unit() {
    let unit = Unit::new(bundle(json!({})));
    unit.create();
    assert!(unit.is_loaded());
    unit.delete_by(&runtime().program);
    assert!(!unit.is_loaded());
    // The name is free at once.
    unit.create();
    assert!(unit.is_loaded());
}

fn the_end_of_run_stops_the_unit() {
    let container = bundle(json!({})).probe(&["exit", "3"]).container();
    let path = format!("ocirun-tests.slice:ocirun_tests:{}", container.id);
    let unit = Unit::with_path(container, &path);
    let run = unit.run();
    assert_eq!(run.code(), 3, "{run}");
    eventually("no unit", || !unit.is_loaded());
}

fn annotations_are_properties() {
    let unit = Unit::new(
        bundle(json!({}))
            .set(
                "/annotations/org.systemd.property.TimeoutStopUSec",
                "uint64 123456789",
            )
            .set(
                "/annotations/org.systemd.property.CollectMode",
                "'inactive-or-failed'",
            ),
    );
    unit.create();
    let shown = unit.show(&["TimeoutStopUSec", "CollectMode"]);
    assert!(
        shown.contains("CollectMode=inactive-or-failed"),
        "{shown:?}"
    );
    assert!(
        shown.contains("TimeoutStopUSec=2min 3.456789s"),
        "{shown:?}"
    );
}

fn a_property_that_systemd_refuses() {
    let unit =
        Unit::new(bundle(json!({})).set("/annotations/org.systemd.property.NoSuchThing", "true"));
    let run = unit.run();
    run.fails(1, "NoSuchThing");
    unit.container
        .verb("state")
        .fails(1, "container does not exist");
}

fn a_path_of_another_form_is_refused() {
    let unit = Unit::with_path(bundle(json!({})).container(), "/not/a/unit");
    let run = unit.run();
    run.fails(
        1,
        "expected cgroupsPath to be of format \"slice:prefix:name\"",
    );
}

fn pause_and_resume() {
    let unit = Unit::new(bundle(json!({})));
    unit.create();
    unit.container.start().ok();
    unit.container.verb("pause").ok();
    assert_eq!(unit.container.status(), "paused");
    unit.container.verb("resume").ok();
    assert_eq!(unit.container.status(), "running");
}

/// A systemd that is there and says nothing, in a mount namespace of its own.
fn without_an_answer_nothing_is_left() {
    let container = bundle(json!({})).container();
    let unit = Unit::with_path(container, "ocirun-tests.slice:ocirun_tests:silent");
    // Of the host's /run only this is seen, and the socket is listened at by the shell's own child.
    let script = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system \
        && { \"$0\" listen /run/systemd/private & listener=$!; } \
        && while [ ! -S /run/systemd/private ]; do sleep 0.05; done; \
        \"$@\"; code=$?; kill $listener; exit $code";
    let run = unit.run_behind(script);
    run.fails(1, "systemd did not answer within");
    let left: Vec<PathBuf> = fs::read_dir(unit.container.state_root())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

fn without_systemd_it_is_refused() {
    let unit = Unit::with_path(bundle(json!({})).container(), "a.slice:b:c");
    let run = unit.run_behind("mount -t tmpfs tmpfs /run && exec \"$@\"");
    run.fails(1, "systemd does not run this host");
}

suite! {
    &[Need::Root, Need::Systemd] => [
        the_process_is_in_its_unit,
        delete_stops_the_unit,
        the_end_of_run_stops_the_unit,
        annotations_are_properties,
        a_property_that_systemd_refuses,
        a_path_of_another_form_is_refused,
        pause_and_resume,
    ],
    &[Need::Root, Need::Systemd, Need::Program("runc"), Need::Ocirun] => [units_are_those_of_runc],
    &[Need::Root, Need::Program("unshare"), Need::Ocirun] => [
        without_an_answer_nothing_is_left,
        without_systemd_it_is_refused,
    ],
}
