//! Kernel parameters of the container's own namespaces, and the refusal of all others.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use ocirun_tests::{Bundle, Need, suite};
use serde_json::json;

fn network_and_ipc_parameters_are_set() {
    let run = Bundle::new()
        .set(
            "/linux/sysctl",
            json!({
                "net.ipv4.ip_forward": "1", "kernel.msgmax": "8000", "fs.mqueue.queues_max": "77",
                "net/ipv4/ip_default_ttl": "33", "kernel.shm_rmid_forced": "1",
            }),
        )
        .probe(&[
            "read",
            "/proc/sys/net/ipv4/ip_forward",
            ",",
            "read",
            "/proc/sys/kernel/msgmax",
            ",",
            "read",
            "/proc/sys/fs/mqueue/queues_max",
            ",",
            "read",
            "/proc/sys/net/ipv4/ip_default_ttl",
            ",",
            "read",
            "/proc/sys/kernel/shm_rmid_forced",
        ])
        .container()
        .run()
        .ok();
    assert_eq!(
        run.values(),
        [
            json!("1\n"),
            json!("8000\n"),
            json!("77\n"),
            json!("33\n"),
            json!("1\n")
        ]
    );
}

fn domain_name_is_set() {
    let run = Bundle::new()
        .set("/linux/sysctl", json!({"kernel.domainname": "example.org"}))
        .container()
        .run()
        .ok();
    assert_eq!(run.value()["domainname"], "example.org");
}

fn parameters_of_the_whole_machine_are_refused() {
    let before = fs::read_to_string("/proc/sys/vm/swappiness").unwrap();
    for (name, value) in [
        ("vm.swappiness", "77"),
        ("kernel.core_pattern", "|/evil"),
        ("kernel.sysrq", "1"),
        ("fs.file-max", "1000"),
        ("kernel.hostname", "other"),
        ("../../etc/passwd", "x"),
        ("net/../kernel/core_pattern", "|/evil"),
        ("kernel.no_such_parameter", "1"),
    ] {
        let container = Bundle::new()
            .set("/linux/sysctl", json!({name: value}))
            .container();
        container.run().fails(1, "");
        container.verb("state").fails(1, "container does not exist");
    }
    assert_eq!(
        fs::read_to_string("/proc/sys/vm/swappiness").unwrap(),
        before
    );
    assert!(
        !fs::read_to_string("/proc/sys/kernel/core_pattern")
            .unwrap()
            .contains("evil")
    );
}

fn parameters_need_their_namespace() {
    let before = fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap();
    let bundle = Bundle::new().without_namespace("network");
    bundle
        .set("/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "33"}))
        .container()
        .run()
        .fails(1, "");
    assert_eq!(
        fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap(),
        before
    );
    let bundle = Bundle::new().without_namespace("ipc");
    bundle
        .set("/linux/sysctl", json!({"kernel.msgmax": "8000"}))
        .container()
        .run()
        .fails(1, "");
}

fn a_missing_parameter_is_an_error() {
    let bundle = Bundle::new().set("/linux/sysctl", json!({"net.ipv4.no_such_thing": "1"}));
    bundle.container().run().fails(1, "no_such_thing");
}

fn a_refused_value_is_an_error() {
    let bundle = Bundle::new().set("/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "many"}));
    bundle.container().run().fails(1, "ip_default_ttl");
}

suite! {
    &[Need::Root] => [
        network_and_ipc_parameters_are_set,
        domain_name_is_set,
        parameters_of_the_whole_machine_are_refused,
        parameters_need_their_namespace,
        a_missing_parameter_is_an_error,
        a_refused_value_is_an_error,
    ],
}
