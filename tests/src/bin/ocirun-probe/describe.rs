//! The report for a person, as `cargo demo` shows it.

use std::fs;

use nix::time::ClockId;
use serde_json::Value;

use crate::report::{capability_names, mounts, namespaces, status_value};
use crate::{Outcome, Refusal};

/// Prints what the container sees of itself. `DEMO_STARTED` is the time of CLOCK_MONOTONIC, in ns, at which the
/// runtime was called; `DEMO_HOST_NAMESPACES` the host's namespaces as JSON.
pub fn print() -> Outcome {
    let now = ClockId::CLOCK_MONOTONIC.now()?;
    let status = fs::read_to_string("/proc/self/status")?;
    row("PID", &std::process::id().to_string());
    row(
        "user",
        &format!("{}:{}", words(&status, "Uid", 1), words(&status, "Gid", 1)),
    );
    row("host name", &nix::unistd::gethostname()?.to_string_lossy());
    row("namespaces", &own_namespaces());
    for (index, mount) in mounts().iter().enumerate() {
        row(if index == 0 { "mounts" } else { "" }, &mount_line(mount));
    }
    let mask = status_value(&status, "CapEff")
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .unwrap_or_default();
    row("capabilities", &capability_names(mask).join(" "));
    row("seccomp", seccomp(status_value(&status, "Seccomp")));
    row(
        "no_new_privs",
        status_value(&status, "NoNewPrivs").unwrap_or("?"),
    );
    row("cgroup limits", &limits());
    if let Some(started) = variable("DEMO_STARTED").and_then(|text| text.parse::<i64>().ok()) {
        let nanoseconds = now.tv_sec() * 1_000_000_000 + now.tv_nsec() - started;
        row(
            "start took",
            &format!(
                "{}.{:02} ms",
                nanoseconds / 1_000_000,
                nanoseconds % 1_000_000 / 10_000
            ),
        );
    }
    Err(Refusal::Exit(0))
}

fn row(name: &str, value: &str) {
    println!("  {name:<14} {value}");
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn words(status: &str, key: &str, count: usize) -> String {
    status_value(status, key)
        .unwrap_or("?")
        .split_whitespace()
        .take(count)
        .collect::<Vec<&str>>()
        .join(" ")
}

/// Each namespace with its number, those that are the host's marked.
fn own_namespaces() -> String {
    let host: Value = variable("DEMO_HOST_NAMESPACES")
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let Value::Object(own) = namespaces() else {
        return String::new();
    };
    let mark = |(name, link): (&String, &Value)| {
        format!(
            "{name}{}",
            if host.get(name) == Some(link) {
                " (the host's)"
            } else {
                ""
            }
        )
    };
    own.iter().map(mark).collect::<Vec<String>>().join(", ")
}

fn mount_line(mount: &Value) -> String {
    let text = |key: &str| mount[key].as_str().unwrap_or("?").to_owned();
    let options: Vec<&str> = mount["options"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    format!(
        "{:<24} {:<8} {}",
        text("at"),
        text("type"),
        options.join(",")
    )
}

fn seccomp(mode: Option<&str>) -> &'static str {
    match mode {
        Some("0") => "off",
        Some("1") => "strict",
        Some("2") => "filter",
        _ => "?",
    }
}

/// Limits as the container finds them in its own view of /sys/fs/cgroup, on v1 and on v2.
fn limits() -> String {
    const FILES: [(&str, &str, &str); 3] = [
        (
            "memory",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory.max",
        ),
        (
            "pids",
            "/sys/fs/cgroup/pids/pids.max",
            "/sys/fs/cgroup/pids.max",
        ),
        (
            "cpu shares or weight",
            "/sys/fs/cgroup/cpu/cpu.shares",
            "/sys/fs/cgroup/cpu.weight",
        ),
    ];
    let shown = FILES.iter().filter_map(|(name, v1, v2)| {
        let value = fs::read_to_string(v1)
            .or_else(|_| fs::read_to_string(v2))
            .ok()?;
        Some(format!("{name} {}", value.trim()))
    });
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() {
        "none visible".to_owned()
    } else {
        shown.join(", ")
    }
}
