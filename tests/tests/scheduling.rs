//! Where and when processes run: scheduler, I/O priority, CPUs, NUMA policy, for `run` and `exec`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::process::Command;

use ocirun_tests::{
    Bundle, Container, Finished, Invocation, Need, program_in_path, runtime, suite,
};
use serde_json::{Value, json};

const SELF_STAT: &[&str] = &["read", "/proc/self/stat"];

/// Nice value, real-time priority and policy, see proc_pid_stat(5).
fn scheduling(stat: &Value) -> [i64; 3] {
    let (_, fields) = stat.as_str().unwrap().rsplit_once(')').unwrap();
    let fields: Vec<i64> = fields
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or(i64::MAX))
        .collect();
    // The first of them is the fourth of the file.
    [19, 40, 41].map(|number| fields[number - 4])
}

fn running(bundle: Bundle) -> Container {
    let container = bundle.probe(&["pause"]).container();
    container.run_until_ready_detached();
    container
}

fn policies_and_nice_values() {
    for (policy, nice, number) in [("SCHED_OTHER", 7, 0), ("SCHED_BATCH", -3, 3)] {
        let bundle = Bundle::new().set(
            "/process/scheduler",
            json!({"policy": policy, "nice": nice}),
        );
        let found = bundle.probe(SELF_STAT).container().run().ok().value();
        assert_eq!(scheduling(&found), [nice, 0, number], "{policy}");
    }
}

fn a_policy_of_exec() {
    let container = running(Bundle::new());
    let mut process = container.bundle.spec["process"].clone();
    process["args"] = json!(["/bin/probe", "read", "/proc/self/stat"]);
    process["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 4});
    let file = container.file("process.json");
    fs::write(&file, process.to_string()).unwrap();
    let call = container.command("exec").arg("--process").arg(file);
    let found = call.arg(&container.id).finish().ok().value();
    assert_eq!(scheduling(&found), [4, 0, 3]);
    // And without, exec's processes have the container's, as its other elements.
    let container = running(Bundle::new().set(
        "/process/scheduler",
        json!({"policy": "SCHED_BATCH", "nice": 2}),
    ));
    assert_eq!(
        scheduling(&container.exec(SELF_STAT).ok().value()),
        [2, 0, 3]
    );
}

fn a_deadline_without_times_is_told() {
    let bundle = Bundle::new().set("/process/scheduler", json!({"policy": "SCHED_DEADLINE"}));
    let run = bundle.container().run();
    run.fails(
        1,
        "process.scheduler: sched_setattr(policy 6): invalid argument",
    );
}

fn io_priority_of(pid: i32) -> String {
    let output = Command::new("ionice")
        .args(["-p", &pid.to_string()])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn io_priorities() {
    for (class, priority, shown) in [
        ("IOPRIO_CLASS_RT", 3, "realtime: prio 3"),
        ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
    ] {
        let io = json!({"class": class, "priority": priority});
        let container = running(Bundle::new().set("/process/ioPriority", io));
        assert_eq!(io_priority_of(container.pid()), shown);
    }
}

/// A call of the runtime by a caller that may run on the first CPU alone.
fn confined(container: &Container, arguments: &[&str]) -> Finished {
    Invocation::new(&program_in_path("taskset").unwrap())
        .args(["-c", "0"])
        .arg(&runtime().program)
        .arg("--root")
        .arg(container.state_root())
        .args(arguments)
        .finish()
}

fn the_callers_cpus_are_not_inherited() {
    let container = Bundle::new().probe(&["report"]).container();
    let bundle = container.bundle.path().to_str().unwrap();
    let run = confined(&container, &["run", "--bundle", bundle, &container.id]);
    assert_ne!(run.ok().value()["cpus_allowed"], "0");
    let container = running(Bundle::new());
    let exec = confined(&container, &["exec", &container.id, "/bin/probe", "report"]);
    assert_ne!(exec.ok().value()["cpus_allowed"], "0");
}

fn cpus_of_exec() {
    let affinity = json!({"initial": "0", "final": "1"});
    let container = running(Bundle::new().set("/process/execCPUAffinity", affinity));
    assert_eq!(
        container.exec(&["report"]).ok().value()["cpus_allowed"],
        "1"
    );
    // It is exec's alone.
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list"));
    assert!(!line.unwrap().ends_with("\t1"), "{line:?}");
}

fn cpus_that_are_not_there() {
    for name in ["initial", "final"] {
        let container =
            running(Bundle::new().set("/process/execCPUAffinity", json!({name: "8191"})));
        let exec = container.exec(&["report"]);
        exec.fails(255, &format!("sched_setaffinity({name})"));
    }
}

fn memory_policies() {
    for (policy, shown) in [
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
        (
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
            "interleave=static:0",
        ),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
    ] {
        let container = running(Bundle::new().set("/linux/memoryPolicy", policy));
        let maps = fs::read_to_string(format!("/proc/{}/numa_maps", container.pid())).unwrap();
        assert!(
            maps.lines().any(|line| line.contains(shown)),
            "{shown}: {maps}"
        );
        let maps = container
            .exec(&["read", "/proc/self/numa_maps"])
            .ok()
            .value();
        assert!(maps.as_str().unwrap().contains(shown), "{shown}: {maps}");
    }
}

fn nodes_that_are_not_there() {
    let policy = json!({"mode": "MPOL_BIND", "nodes": "63"});
    let run = Bundle::new()
        .set("/linux/memoryPolicy", policy)
        .container()
        .run();
    run.fails(1, "linux.memoryPolicy: set_mempolicy(");
}

suite! {
    &[Need::Root, Need::Ocirun] => [
        policies_and_nice_values,
        a_policy_of_exec,
        a_deadline_without_times_is_told,
    ],
    &[Need::Root, Need::Ocirun, Need::Program("ionice")] => [io_priorities],
    &[Need::Root, Need::Ocirun, Need::Program("taskset"), Need::File("/sys/devices/system/cpu/cpu1")] => [
        the_callers_cpus_are_not_inherited,
        cpus_of_exec,
        cpus_that_are_not_there,
    ],
    &[Need::Root, Need::Ocirun, Need::File("/proc/self/numa_maps")] => [memory_policies, nodes_that_are_not_there],
}
