//! exec: every combination of user, groups, capabilities, no_new_privs and terminal, as the process itself finds it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::{Bundle, Container, Need, PROBE, Terminal, eventually, suite};
use serde_json::{Value, json};

/// What is asked for, and what capabilities(7) makes of it when the program is executed.
struct Sets {
    asked: Value,
    /// Of user 0, whose programs get all of the bounding set.
    of_root: Value,
    /// Of others, whose programs get what is ambient.
    of_others: Value,
}

fn sets() -> [Sets; 3] {
    let (kill, bind) = ("CAP_KILL", "CAP_NET_BIND_SERVICE");
    let five = |bounding: &[&str], used: &[&str], inherited: &[&str]| {
        json!({
            "bounding": bounding, "permitted": used, "effective": used,
            "inheritable": inherited, "ambient": inherited,
        })
    };
    [
        Sets {
            asked: five(&[], &[], &[]),
            of_root: five(&[], &[], &[]),
            of_others: five(&[], &[], &[]),
        },
        Sets {
            asked: five(&[kill, bind], &[kill, bind], &[]),
            of_root: five(&[kill, bind], &[kill, bind], &[]),
            of_others: five(&[kill, bind], &[], &[]),
        },
        Sets {
            asked: five(&[bind], &[bind], &[bind]),
            of_root: five(&[bind], &[bind], &[bind]),
            of_others: five(&[bind], &[bind], &[bind]),
        },
    ]
}

/// Runs `exec --process`, and gives the probe's report.
fn report(container: &Container, process: &Value) -> Value {
    let file = container.file("process.json");
    fs::write(&file, process.to_string()).unwrap();
    let call = container.command("exec").arg("--process").arg(file);
    let call = call.arg(&container.id);
    if process["terminal"] == false {
        return call.finish().ok().value();
    }
    let (mut terminal, other_end) = Terminal::open(24, 80);
    let run = call.start_on(&other_end);
    let mut found = None;
    eventually("a report on the terminal", || {
        let mut values = terminal.values().into_iter();
        found = values.find(|value| value.get("uids").is_some());
        found.is_some()
    });
    assert_eq!(run.finish().code(), 0);
    found.unwrap()
}

/// Each id four times: real, effective, saved and of the file system.
fn four(id: &Value) -> Value {
    json!([id, id, id, id])
}

fn each_combination() {
    let container = Bundle::new().probe(&["pause"]).container();
    container.run_until_ready_detached();
    let users = [
        json!({"uid": 0, "gid": 0}),
        json!({"uid": 1000, "gid": 1001}),
        json!({"uid": 0, "gid": 5}),
    ];
    for user in users {
        for groups in [json!([]), json!([7, 4_000_000])] {
            for sets in sets() {
                for no_new_privileges in [false, true] {
                    for terminal in [false, true] {
                        let mut user = user.clone();
                        user["additionalGids"] = groups.clone();
                        let process = json!({
                            "terminal": terminal, "user": user, "args": [PROBE, "report"], "cwd": "/",
                            "env": ["PATH=/bin"], "capabilities": sets.asked, "noNewPrivileges": no_new_privileges,
                        });
                        let report = report(&container, &process);
                        let told = format!("{process}\n{report}");
                        let wanted = if user["uid"] == 0 {
                            &sets.of_root
                        } else {
                            &sets.of_others
                        };
                        assert_eq!(report["uids"], four(&user["uid"]), "{told}");
                        assert_eq!(report["gids"], four(&user["gid"]), "{told}");
                        assert_eq!(report["groups"], groups, "{told}");
                        assert_eq!(&report["capabilities"], wanted, "{told}");
                        let privileges = if no_new_privileges { "1" } else { "0" };
                        assert_eq!(report["no_new_privs"], privileges, "{told}");
                        assert_eq!(report["terminal"].is_null(), !terminal, "{told}");
                        assert_eq!(report["session"], report["pid"], "{told}");
                    }
                }
            }
        }
    }
}

/// What the container's user namespace does not have, exec does not get by asking.
fn never_more_than_the_container_has() {
    let maps = json!([{"containerID": 0, "hostID": 200_000, "size": 10}]);
    let bundle = Bundle::new()
        .namespace(json!({"type": "user"}))
        .set("/linux/uidMappings", maps.clone())
        .set("/linux/gidMappings", maps);
    let container = bundle.probe(&["pause"]).container();
    container.run_until_ready_detached();
    let process = |user: Value| json!({"user": user, "args": [PROBE, "report"], "cwd": "/", "terminal": false});
    let inside = report(&container, &process(json!({"uid": 5, "gid": 6})));
    assert_eq!(
        (&inside["uids"][0], &inside["uid_map"][0][1]),
        (&json!(5), &json!(200_000))
    );
    for user in [
        json!({"uid": 10, "gid": 0}),
        json!({"uid": 0, "gid": 10}),
        json!({"uid": 0, "gid": 0, "additionalGids": [10]}),
    ] {
        let file = container.file("process.json");
        fs::write(&file, process(user).to_string()).unwrap();
        let call = container.command("exec").arg("--process").arg(file);
        call.arg(&container.id).finish().fails(255, "");
    }
}

suite! {
    &[Need::Root] => [each_combination],
    &[Need::Root, Need::UserNamespace] => [never_more_than_the_container_has],
}
