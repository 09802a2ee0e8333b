//! Each field of the runtime specification 1.3 (config.md, config-linux.md, runtime.md) and the test that proves it.
//!
//! A row is a path of the specification's text and a test: of these files, or, where no machine at hand could show it,
//! of the library. The test must be there and speak of the field. A field that the library reads and the table lacks
//! is an error too.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ocirun_tests::{Bundle, Need, suite};
use serde_json::json;

/// A field and its test on each line.
const TABLE: &str = include_str!("spec_fields/table.txt");

fn fields() -> Vec<(&'static str, &'static str)> {
    let rows = TABLE.lines().map(|line| line.split_once(' ').unwrap());
    rows.collect()
}

/// Types of the library's `spec` and where the specification has them; of those in several places, one.
const TYPES: &[(&str, &str)] = &[
    ("Argument", "linux.seccomp.syscalls[].args[]."),
    ("BlockIo", "linux.resources.blockIO."),
    ("Capabilities", "process.capabilities."),
    ("ConsoleSize", "process.consoleSize."),
    ("Cpu", "linux.resources.cpu."),
    ("CpuAffinity", "process.execCPUAffinity."),
    ("Device", "linux.devices[]."),
    ("DeviceRule", "linux.resources.devices[]."),
    ("Hook", "hooks.*[]."),
    ("Hooks", "hooks."),
    ("HugepageLimit", "linux.resources.hugepageLimits[]."),
    ("IdMapping", "linux.uidMappings[]."),
    ("InterfacePriority", "linux.resources.network.priorities[]."),
    ("IntelRdt", "linux.intelRdt."),
    ("IoPriority", "process.ioPriority."),
    ("Linux", "linux."),
    ("Memory", "linux.resources.memory."),
    ("MemoryPolicy", "linux.memoryPolicy."),
    ("Mount", "mounts[]."),
    ("Namespace", "linux.namespaces[]."),
    ("NetDevice", "linux.netDevices.*."),
    ("Network", "linux.resources.network."),
    ("Personality", "linux.personality."),
    ("Pids", "linux.resources.pids."),
    ("Process", "process."),
    ("Rdma", "linux.resources.rdma.*."),
    ("Resources", "linux.resources."),
    ("Rlimit", "process.rlimits[]."),
    ("Root", "root."),
    ("Rule", "linux.seccomp.syscalls[]."),
    ("Scheduler", "process.scheduler."),
    ("Seccomp", "linux.seccomp."),
    ("Spec", ""),
    (
        "ThrottleDevice",
        "linux.resources.blockIO.throttleReadBpsDevice[].",
    ),
    ("TimeOffset", "linux.timeOffsets.*."),
    ("User", "process.user."),
    ("WeightDevice", "linux.resources.blockIO.weightDevice[]."),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The last word of a path.
fn key(field: &str) -> &str {
    field.rsplit('.').next().unwrap().trim_end_matches("[]")
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.ends_with(|c: char| c.is_ascii_uppercase()) {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |camel, word| {
        let (head, tail) = word.split_at(1);
        camel + &head.to_uppercase() + tail
    })
}

fn each_field_has_its_test() {
    let mut wrong = Vec::new();
    for (field, proof) in fields() {
        let (file, test) = proof.split_once("::").unwrap();
        let is_of_library = file.contains('/');
        let path = if is_of_library {
            workspace().join(file)
        } else {
            workspace()
                .join("tests/tests")
                .join(file)
                .with_extension("rs")
        };
        let text = fs::read_to_string(&path).unwrap_or_default();
        // Defined, and among those that run.
        let is_there = text.contains(&format!("fn {test}("))
            && (is_of_library || text.matches(test).count() > 1);
        let name = key(field);
        let speaks = text.contains(name) || text.contains(&snake(name));
        if !is_there || !speaks {
            wrong.push(format!(
                "{field}: {proof}: there {is_there}, speaks of it {speaks}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn no_field_is_there_twice() {
    let unique: BTreeSet<_> = fields().into_iter().map(|(field, _)| field).collect();
    assert_eq!(unique.len(), fields().len());
}

/// Fields of a struct in the library's source, by the names that serde gives them.
fn fields_of(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut of_type, mut renamed) = (String::new(), None);
    for line in source.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            rest.trim_end_matches(" {").clone_into(&mut of_type);
        } else if let Some(rest) = line.strip_prefix("#[serde(rename = \"") {
            renamed = rest.split('"').next().map(str::to_owned);
        } else if let Some(rest) = line.strip_prefix("pub ")
            && let Some((name, _)) = rest.split_once(": ")
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            let name = renamed.take().unwrap_or_else(|| camel(name));
            found.push((of_type.clone(), name));
        }
    }
    found
}

fn what_the_library_reads_is_in_the_table() {
    let mut absent = Vec::new();
    let in_table: BTreeSet<_> = fields().into_iter().map(|(field, _)| field).collect();
    for file in ["spec.rs", "spec/seccomp.rs", "spec/scheduling.rs"] {
        let source = fs::read_to_string(workspace().join("runtime-core/src").join(file)).unwrap();
        let fields = fields_of(&source);
        assert!(fields.len() > 10, "{file}");
        for (of_type, name) in fields {
            let place = TYPES.iter().find(|(known, _)| *known == of_type);
            let path = place.map(|(_, prefix)| format!("{prefix}{name}"));
            let is_known = path.is_some_and(|path| in_table.contains(path.as_str()));
            if !is_known {
                absent.push(format!("{file}: {of_type}.{name}"));
            }
        }
    }
    assert!(absent.is_empty(), "without a test: {}", absent.join(", "));
}

fn files_of_version_1() {
    let container = Bundle::new()
        .set(
            "/linux/resources",
            json!({
                "memory": {"limit": 64 << 20, "useHierarchy": true},
                "cpu": {"realtimePeriod": 500_000, "realtimeRuntime": 0},
            }),
        )
        .container();
    container.create().ok();
    let cgroup = container.bundle.cgroup();
    assert_eq!(cgroup.read("memory", "memory.use_hierarchy"), "1");
    assert_eq!(cgroup.read("cpu", "cpu.rt_period_us"), "500000");
    assert_eq!(cgroup.read("cpu", "cpu.rt_runtime_us"), "0");
}

fn priorities_of_interfaces() {
    let priorities = json!([{"name": "lo", "priority": 7}]);
    let container = Bundle::new()
        .set(
            "/linux/resources/network",
            json!({"priorities": priorities}),
        )
        .container();
    container.create().ok();
    let map = container
        .bundle
        .cgroup()
        .read("net_prio", "net_prio.ifpriomap");
    assert!(map.lines().any(|line| line == "lo 7"), "{map}");
}

fn intel_rdt_needs_resctrl() {
    let bundle = Bundle::new().set("/linux/intelRdt", json!({"closID": "x"}));
    let container = bundle.container();
    let words = "/linux/intelRdt: intelRdt is specified in config, but Intel RDT is not enabled";
    container.run().fails(1, words);
    container.verb("state").fails(1, "does not exist");
}

fn an_update_of_intel_rdt_needs_resctrl() {
    let container = Bundle::new().container();
    container.create().ok();
    for (flag, words) in [
        ("--l3-cache-schema=L3:0=f", "l3 cache schema is not enabled"),
        (
            "--mem-bw-schema=MB:0=50",
            "memory bandwidth schema is not enabled",
        ),
    ] {
        let update = container.command("update").args([flag, &container.id]);
        update.finish().fails(1, words);
    }
}

fn intel_rdt_that_cannot_be() {
    for (written, pointer) in [
        (json!({"closID": "a/b"}), "closID: "),
        (json!({"memBwSchema": "L3:0=f"}), "memBwSchema: "),
        (json!({"schemata": ["L3:0=f\nMB:0=50"]}), "schemata/0: "),
        (json!({"enableMonitoring": 1}), "enableMonitoring: "),
    ] {
        let container = Bundle::new().set("/linux/intelRdt", written).container();
        container
            .run()
            .fails(1, &format!("/linux/intelRdt/{pointer}"));
    }
}

fn flags_of_a_personality_are_refused() {
    let personality = json!({"domain": "LINUX", "flags": ["READ_IMPLIES_EXEC"]});
    let container = Bundle::new()
        .set("/linux/personality", personality)
        .container();
    container.run().fails(1, "/linux/personality/flags");
}

/// The sources of these tests, which are not where they are only run.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/spec_fields.rs");

suite! {
    &[] => [no_field_is_there_twice],
    &[Need::File(SOURCES)] => [each_field_has_its_test, what_the_library_reads_is_in_the_table],
    &[Need::Root, Need::CgroupV1("memory"), Need::CgroupV1("cpu"), Need::File("/sys/fs/cgroup/cpu/cpu.rt_period_us")] => [
        files_of_version_1,
    ],
    &[Need::Root, Need::CgroupV1("net_prio")] => [priorities_of_interfaces],
    &[Need::Root, Need::NoFile("/sys/fs/resctrl")] => [an_update_of_intel_rdt_needs_resctrl],
    &[Need::Root, Need::NoFile("/sys/fs/resctrl"), Need::NotRunc("1.1.5 keeps silent")] => [intel_rdt_needs_resctrl],
    &[Need::Root, Need::Ocirun] => [intel_rdt_that_cannot_be],
    &[Need::Root, Need::NotRunc("1.1.5 has no personality")] => [flags_of_a_personality_are_refused],
}
