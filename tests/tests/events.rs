//! `events`: what a container uses, and word of processes killed for lack of memory.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use ocirun_tests::{Bundle, Container, Invocation, Need, eventually, program_in_path, suite};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn running(resources: Value, steps: &[&str]) -> Container {
    let mut resources = resources;
    resources["devices"] = json!([{"allow": false, "access": "rwm"}]);
    let container = Bundle::new()
        .set("/linux/resources", resources)
        .probe(steps)
        .container();
    container.run_until_ready_detached();
    container
}

fn stats(container: &Container) -> Value {
    let call = container
        .command("events")
        .args(["--stats", &container.id])
        .finish()
        .ok();
    serde_json::from_str(&call.stdout()).unwrap_or_else(|error| panic!("{error} in {call}"))
}

fn one_line_of_stats() {
    let container = running(
        json!({"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}}),
        &["allocate", "20", ",", "pause"],
    );
    let event = stats(&container);
    assert_eq!(
        (&event["type"], &event["id"]),
        (&json!("stats"), &json!(container.id))
    );
    let data = &event["data"];
    assert_eq!(data["memory"]["usage"]["limit"], 64 * MIB);
    assert!(
        data["memory"]["usage"]["usage"].as_u64().unwrap() > 0,
        "{data}"
    );
    assert_eq!(data["pids"], json!({"current": 1, "limit": 20}));
    assert!(
        data["cpu"]["usage"]["total"].as_u64().unwrap() > 0,
        "{data}"
    );
    assert!(
        data["memory"]["raw"].as_object().unwrap().len() > 10,
        "{data}"
    );
    assert_eq!(data["network_interfaces"], Value::Null);
}

fn keys_are_in_their_order() {
    let container = running(json!({}), &["pause"]);
    let call = container
        .command("events")
        .args(["--stats", &container.id])
        .finish()
        .ok();
    let line = call.stdout();
    assert!(
        line.starts_with(&format!(
            "{{\"type\":\"stats\",\"id\":\"{}\",\"data\":{{\"cpu\":",
            container.id
        )),
        "{line}"
    );
    assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
}

/// All paths of objects' members but those of `memory.stat` and of lists, which differ by moment and kernel.
fn members(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Value::Object(object) = value {
        for (key, value) in object {
            let path = format!("{path}/{key}");
            if !path.ends_with("/raw") {
                members(value, &path, found);
            }
            found.insert(path);
        }
    }
}

fn members_are_those_of_runc() {
    let container = running(
        json!({"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}}),
        &["allocate", "5", ",", "pause"],
    );
    let ours = stats(&container);
    let runc = running_by_runc();
    let theirs = runc.stats();
    let all = |value: &Value| {
        let mut found = BTreeSet::new();
        members(value, "", &mut found);
        // The peer does not tell of pressure yet, and what is zero at the moment is left out by both.
        let may_be_absent = ["/psi", "/hugetlb/", "/blkio/", "/memory/cache", "/max"];
        found.retain(|path| !may_be_absent.iter().any(|word| path.contains(word)));
        found
    };
    assert_eq!(all(&ours), all(&theirs));
}

/// The same container, made by runc.
struct ByRunc(Container);

fn running_by_runc() -> ByRunc {
    let container = Bundle::new()
        .set("/linux/resources", json!({
            "memory": {"limit": 64 * MIB}, "pids": {"limit": 20}, "devices": [{"allow": false, "access": "rwm"}],
        }))
        .probe(&["allocate", "5", ",", "pause"])
        .container();
    let by = ByRunc(container);
    by.call(&[
        "run",
        "--detach",
        "--bundle",
        by.0.bundle.path().to_str().unwrap(),
        &by.0.id,
    ])
    .finish()
    .ok();
    by
}

impl ByRunc {
    fn call(&self, words: &[&str]) -> Invocation {
        Invocation::new(&program_in_path("runc").unwrap())
            .arg("--root")
            .arg(self.0.file("runc"))
            .args(words)
    }

    fn stats(&self) -> Value {
        let call = self.call(&["events", "--stats", &self.0.id]).finish().ok();
        serde_json::from_str(&call.stdout()).unwrap()
    }
}

impl Drop for ByRunc {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force", &self.0.id]).finish();
    }
}

fn out_of_memory_is_told() {
    let container = running(
        json!({"memory": {"limit": 24 * MIB, "swap": 24 * MIB}}),
        &["pause"],
    );
    let events = container
        .command("events")
        .args(["--interval", "1h", &container.id])
        .start();
    let expected = format!("{{\"type\":\"oom\",\"id\":\"{}\"}}\n", container.id);
    // The watch is not there at once.
    eventually("an oom event", || {
        let _killed = container.exec(&["allocate", "200"]);
        events.stdout().contains(&expected)
    });
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    container.delete().ok();
    // It ends with the container.
    assert_eq!(events.finish().code(), 0);
}

fn again_and_again() {
    let container = running(json!({}), &["pause"]);
    let events = container
        .command("events")
        .args(["--interval", "50ms", &container.id])
        .start();
    eventually("three lines", || events.stdout().lines().count() >= 3);
    container.kill("KILL").ok();
    container.wait_for_status("stopped");
    container.delete().ok();
    let finished = events.finish();
    assert!(
        finished
            .stdout()
            .lines()
            .all(|line| line.contains("\"type\":\"stats\"")),
        "{finished}"
    );
}

fn a_container_that_has_ended_has_no_events() {
    let container = Bundle::new().probe(&["exit", "0"]).container();
    container.run_detached().ok();
    container.wait_for_status("stopped");
    let call = container
        .command("events")
        .args(["--stats", &container.id])
        .finish();
    let expected = format!("container with id {} is not running", container.id);
    call.fails(1, &expected);
}

fn an_interval_that_is_none() {
    let container = running(json!({}), &["pause"]);
    for interval in ["0s", "-1s", "x"] {
        let flag = format!("--interval={interval}");
        let call = container
            .command("events")
            .args([&flag, &container.id])
            .finish();
        assert_ne!(call.code(), 0, "{call}");
    }
}

suite! {
    &[Need::Root, Need::Cgroup("memory"), Need::Cgroup("pids")] => [
        one_line_of_stats,
        keys_are_in_their_order,
        out_of_memory_is_told,
        again_and_again,
        a_container_that_has_ended_has_no_events,
        an_interval_that_is_none,
    ],
    &[Need::Root, Need::Cgroup("memory"), Need::Program("runc"), Need::Ocirun] => [members_are_those_of_runc],
}
