//! Resources in the files of cgroup version 1.

use std::fs;
use std::path::Path;

use super::Setting;
use super::directory::write;
use crate::error::{Call, Error, Result};
use crate::spec::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, Memory, Network, Resources, ThrottleDevice,
};

const POINTER: &str = "/linux/resources";

/// What `resources` asks for, without devices, in the order of writing.
pub(super) fn settings(resources: &Resources) -> Result<Vec<Setting>> {
    if resources
        .unified
        .as_ref()
        .is_some_and(|unified| !unified.is_empty())
    {
        return Err(Error::unsupported(format!(
            "{POINTER}/unified: this host has no cgroup v2 controllers"
        )));
    }
    if resources.rdma.as_ref().is_some_and(|rdma| !rdma.is_empty()) {
        return Err(Error::unsupported(format!(
            "{POINTER}/rdma: is not supported yet"
        )));
    }
    let mut all = Settings(Vec::new());
    if let Some(memory) = &resources.memory {
        all.memory(memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        all.cpu(cpu)?;
    }
    if let Some(pids) = &resources.pids {
        let limit = match pids.limit {
            // A limit of 0 still lets the container's one process be: what counts is that it cannot fork.
            0 => "1".to_owned(),
            limit if limit < 0 => "max".to_owned(),
            limit => limit.to_string(),
        };
        all.add("pids", "pids.max", limit, "pids/limit");
    }
    if let Some(block_io) = &resources.block_io {
        all.block_io(block_io)?;
    }
    all.huge_pages(resources.hugepage_limits.as_deref().unwrap_or_default())?;
    if let Some(network) = &resources.network {
        all.network(network);
    }
    Ok(all.0)
}

struct Settings(Vec<Setting>);

impl Settings {
    fn add(&mut self, controller: &'static str, file: &str, value: impl ToString, element: &str) {
        let pointer = format!("{POINTER}/{element}");
        self.0.push(Setting {
            controller,
            file: file.to_owned(),
            value: value.to_string(),
            pointer,
        });
    }

    fn memory(&mut self, memory: &Memory) -> Result<()> {
        if let (Some(limit), Some(swap)) = (memory.limit, memory.swap)
            && swap >= 0
            && (limit < 0 || swap < limit)
        {
            let text = format!(
                "{swap} is less than the memory limit {limit}: it counts memory and swap together"
            );
            return Err(Error::invalid_spec(
                &format!("{POINTER}/memory/swap"),
                &text,
            ));
        }
        if let Some(swappiness @ 101..) = memory.swappiness {
            let text = format!("{swappiness} is not from 0 to 100");
            return Err(Error::invalid_spec(
                &format!("{POINTER}/memory/swappiness"),
                &text,
            ));
        }
        // The kernel keeps memory at or below memory and swap together: a new cgroup has no limits, so the smaller
        // comes first. Zero has always meant that nothing is asked for.
        let values = [
            (memory.limit, "memory.limit_in_bytes", "memory/limit"),
            (memory.swap, "memory.memsw.limit_in_bytes", "memory/swap"),
            (
                memory.reservation,
                "memory.soft_limit_in_bytes",
                "memory/reservation",
            ),
            (
                memory.kernel_tcp,
                "memory.kmem.tcp.limit_in_bytes",
                "memory/kernelTCP",
            ),
        ];
        for (value, file, element) in values {
            if let Some(value) = value.filter(|&value| value != 0) {
                self.add("memory", file, value, element);
            }
        }
        if let Some(swappiness) = memory.swappiness {
            self.add(
                "memory",
                "memory.swappiness",
                swappiness,
                "memory/swappiness",
            );
        }
        if memory.disable_oom_killer == Some(true) {
            self.add("memory", "memory.oom_control", 1, "memory/disableOOMKiller");
        }
        Ok(())
    }

    fn cpu(&mut self, cpu: &Cpu) -> Result<()> {
        if let Some(idle) = cpu.idle
            && !matches!(idle, 0 | 1)
        {
            return Err(Error::invalid_spec(
                &format!("{POINTER}/cpu/idle"),
                &format!("{idle} is neither 0 nor 1"),
            ));
        }
        if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
            self.add("cpu", "cpu.shares", shares, "cpu/shares");
        }
        let period = cpu.period.filter(|&period| period != 0);
        let quota = cpu.quota.filter(|&quota| quota != 0);
        if let Some(period) = period {
            self.add("cpu", "cpu.cfs_period_us", period, "cpu/period");
        }
        if let Some(quota) = quota {
            self.add("cpu", "cpu.cfs_quota_us", quota, "cpu/quota");
        }
        if let Some(burst) = cpu.burst {
            self.add("cpu", "cpu.cfs_burst_us", burst, "cpu/burst");
        }
        if let Some(period) = cpu.realtime_period.filter(|&period| period != 0) {
            self.add("cpu", "cpu.rt_period_us", period, "cpu/realtimePeriod");
        }
        if let Some(runtime) = cpu.realtime_runtime.filter(|&runtime| runtime != 0) {
            self.add("cpu", "cpu.rt_runtime_us", runtime, "cpu/realtimeRuntime");
        }
        if let Some(idle) = cpu.idle {
            self.add("cpu", "cpu.idle", idle, "cpu/idle");
        }
        for (value, file, element) in [
            (&cpu.cpus, "cpuset.cpus", "cpu/cpus"),
            (&cpu.mems, "cpuset.mems", "cpu/mems"),
        ] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                self.add("cpuset", file, value, element);
            }
        }
        Ok(())
    }

    fn block_io(&mut self, block_io: &BlockIo) -> Result<()> {
        if let Some(weight) = block_io.weight.filter(|&weight| weight != 0) {
            self.add(
                "blkio",
                weight_file("blkio.weight"),
                weight,
                "blockIO/weight",
            );
        }
        if let Some(weight) = block_io.leaf_weight.filter(|&weight| weight != 0) {
            self.add("blkio", "blkio.leaf_weight", weight, "blockIO/leafWeight");
        }
        for (index, device) in block_io.weight_device.iter().flatten().enumerate() {
            let element = format!("blockIO/weightDevice/{index}");
            let number = device_number(device.major, device.minor, &element)?;
            if let Some(weight) = device.weight {
                self.add(
                    "blkio",
                    weight_file("blkio.weight_device"),
                    format!("{number} {weight}"),
                    &element,
                );
            }
            if let Some(weight) = device.leaf_weight {
                self.add(
                    "blkio",
                    "blkio.leaf_weight_device",
                    format!("{number} {weight}"),
                    &element,
                );
            }
        }
        let throttles: [(&Option<Vec<ThrottleDevice>>, &str, &str); 4] = [
            (
                &block_io.throttle_read_bps_device,
                "read_bps",
                "throttleReadBpsDevice",
            ),
            (
                &block_io.throttle_write_bps_device,
                "write_bps",
                "throttleWriteBpsDevice",
            ),
            (
                &block_io.throttle_read_iops_device,
                "read_iops",
                "throttleReadIOPSDevice",
            ),
            (
                &block_io.throttle_write_iops_device,
                "write_iops",
                "throttleWriteIOPSDevice",
            ),
        ];
        for (devices, file, element) in throttles {
            for (index, device) in devices.iter().flatten().enumerate() {
                let element = format!("blockIO/{element}/{index}");
                let number = device_number(device.major, device.minor, &element)?;
                let file = format!("blkio.throttle.{file}_device");
                self.add(
                    "blkio",
                    &file,
                    format!("{number} {}", device.rate),
                    &element,
                );
            }
        }
        Ok(())
    }

    fn huge_pages(&mut self, limits: &[HugepageLimit]) -> Result<()> {
        for (index, limit) in limits.iter().enumerate() {
            let element = format!("hugepageLimits/{index}");
            let size = &limit.page_size;
            let digits = size.trim_end_matches(['K', 'M', 'G', 'B']);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                let text = format!("{size:?} is no size such as 2MB");
                return Err(Error::invalid_spec(
                    &format!("{POINTER}/{element}/pageSize"),
                    &text,
                ));
            }
            self.add(
                "hugetlb",
                &format!("hugetlb.{size}.limit_in_bytes"),
                limit.limit,
                &element,
            );
        }
        Ok(())
    }

    fn network(&mut self, network: &Network) {
        if let Some(class) = network.class_id.filter(|&class| class != 0) {
            self.add("net_cls", "net_cls.classid", class, "network/classID");
        }
        for (index, interface) in network.priorities.iter().flatten().enumerate() {
            let value = format!("{} {}", interface.name, interface.priority);
            self.add(
                "net_prio",
                "net_prio.ifpriomap",
                value,
                &format!("network/priorities/{index}"),
            );
        }
    }
}

/// The file of a weight: the scheduler that honours weights today (BFQ) has its own.
fn weight_file(name: &str) -> &str {
    let bfq = match name {
        "blkio.weight" => "blkio.bfq.weight",
        _ => "blkio.bfq.weight_device",
    };
    if Path::new("/sys/fs/cgroup/blkio").join(bfq).exists() {
        bfq
    } else {
        name
    }
}

fn device_number(major: i64, minor: i64, element: &str) -> Result<String> {
    if major < 0 || minor < 0 {
        return Err(Error::invalid_spec(
            &format!("{POINTER}/{element}"),
            "is not a device number",
        ));
    }
    Ok(format!("{major}:{minor}"))
}

/// What every container may use: its default devices, terminals, tun, and nodes of any device, which it may make but
/// not open.
const DEFAULT_DEVICES: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:8 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 1:5 rwm",
    "c 1:9 rwm",
    "c 136:* rwm",
    "c 5:2 rwm",
    "c 10:200 rwm",
];

/// Adds the device rules: nothing is allowed at first, then the rules in their order, then the defaults.
pub(super) fn device_settings(rules: &[DeviceRule], settings: &mut Vec<Setting>) -> Result<()> {
    let mut add = |allow: bool, value: String, pointer: &str| {
        let file = if allow {
            "devices.allow"
        } else {
            "devices.deny"
        };
        settings.push(Setting {
            controller: "devices",
            file: file.to_owned(),
            value,
            pointer: pointer.to_owned(),
        });
    };
    let list = format!("{POINTER}/devices");
    add(false, "a".to_owned(), &list);
    for (index, rule) in rules.iter().enumerate() {
        let pointer = format!("{list}/{index}");
        for value in rule_values(rule, &pointer)? {
            // That is how the list begins.
            if index == 0 && !rule.allow && value == "a" {
                continue;
            }
            add(rule.allow, value, &pointer);
        }
    }
    for value in DEFAULT_DEVICES {
        add(true, value.to_owned(), &list);
    }
    Ok(())
}

/// A rule in the words of the kernel. `a` there is all devices, whatever numbers stand behind it.
fn rule_values(rule: &DeviceRule, pointer: &str) -> Result<Vec<String>> {
    let invalid =
        |field: &str, text: &str| Error::invalid_spec(&format!("{pointer}/{field}"), text);
    let number = |value: Option<i64>, field: &str| match value {
        None | Some(-1) => Ok("*".to_owned()),
        Some(number @ 0..) => Ok(number.to_string()),
        Some(_) => Err(invalid(field, "is not a device number")),
    };
    let access = rule
        .access
        .as_deref()
        .filter(|access| !access.is_empty())
        .unwrap_or("rwm");
    if !access.chars().all(|c| "rwm".contains(c)) {
        return Err(invalid(
            "access",
            &format!("{access:?} is not made of r, w, m"),
        ));
    }
    let numbers = format!(
        "{}:{} {access}",
        number(rule.major, "major")?,
        number(rule.minor, "minor")?
    );
    match rule.kind.as_deref().unwrap_or("a") {
        "a" | "" if numbers.starts_with("*:* ") && access.len() == 3 => Ok(vec!["a".to_owned()]),
        "a" | "" => Ok(vec![format!("b {numbers}"), format!("c {numbers}")]),
        kind @ ("b" | "c") => Ok(vec![format!("{kind} {numbers}")]),
        other => Err(invalid("type", &format!("{other:?} is none of a, b, c"))),
    }
}

/// Gives a new cgroup the CPUs and memory nodes of the one above: without them no process may enter.
pub(super) fn inherit_cpuset(directory: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = directory.join(file);
        let read = |path: &Path| fs::read_to_string(path).call(|| format!("read({path:?})"));
        if !read(&own)?.trim().is_empty() {
            continue;
        }
        let Some(parent) = directory.parent() else {
            continue;
        };
        if read(&parent.join(file))?.trim().is_empty() {
            // Made a moment ago by someone who has not come to this yet.
            inherit_cpuset(parent)?;
        }
        write(&own, read(&parent.join(file))?.trim())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(json: &str) -> Result<Vec<(String, String)>> {
        let resources: Resources = serde_json::from_str(json).unwrap();
        Ok(settings(&resources)?
            .into_iter()
            .map(|setting| (setting.file, setting.value))
            .collect())
    }

    #[test]
    fn limits() {
        let cases: [(&str, &[(&str, &str)]); 7] = [
            (
                r#"{"memory":{"limit":1000,"swap":2000}}"#,
                &[
                    ("memory.limit_in_bytes", "1000"),
                    ("memory.memsw.limit_in_bytes", "2000"),
                ],
            ),
            (
                r#"{"memory":{"limit":-1,"swap":-1}}"#,
                &[
                    ("memory.limit_in_bytes", "-1"),
                    ("memory.memsw.limit_in_bytes", "-1"),
                ],
            ),
            (
                r#"{"memory":{"limit":0,"swappiness":0}}"#,
                &[("memory.swappiness", "0")],
            ),
            (
                r#"{"cpu":{"shares":2,"quota":1000,"period":5000,"cpus":"0-1"}}"#,
                &[
                    ("cpu.shares", "2"),
                    ("cpu.cfs_period_us", "5000"),
                    ("cpu.cfs_quota_us", "1000"),
                    ("cpuset.cpus", "0-1"),
                ],
            ),
            (r#"{"pids":{"limit":0}}"#, &[("pids.max", "1")]),
            (r#"{"pids":{"limit":-1}}"#, &[("pids.max", "max")]),
            (
                r#"{"blockIO":{"throttleReadIOPSDevice":[{"major":8,"minor":1,"rate":7}]},"hugepageLimits":[{"pageSize":"2MB","limit":4096}]}"#,
                &[
                    ("blkio.throttle.read_iops_device", "8:1 7"),
                    ("hugetlb.2MB.limit_in_bytes", "4096"),
                ],
            ),
        ];
        for (json, expected) in cases {
            let found = values(json).unwrap();
            let found: Vec<_> = found
                .iter()
                .map(|(file, value)| (file.as_str(), value.as_str()))
                .collect();
            assert_eq!(found, expected, "{json}");
        }
    }

    #[test]
    fn refused() {
        let cases = [
            (
                r#"{"memory":{"limit":1000,"swap":10}}"#,
                "/linux/resources/memory/swap",
            ),
            (
                r#"{"memory":{"swappiness":101}}"#,
                "/linux/resources/memory/swappiness",
            ),
            (r#"{"cpu":{"idle":2}}"#, "/linux/resources/cpu/idle"),
            (
                r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#,
                "/linux/resources/hugepageLimits/0/pageSize",
            ),
        ];
        for (json, pointer) in cases {
            assert_eq!(values(json).unwrap_err().pointer(), Some(pointer), "{json}");
        }
    }

    #[test]
    fn device_rules() {
        let rules: Vec<DeviceRule> = serde_json::from_str(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"},
                {"allow":true,"major":7},{"allow":true}]"#,
        )
        .unwrap();
        let mut settings = Vec::new();
        device_settings(&rules, &mut settings).unwrap();
        let found: Vec<_> = settings
            .iter()
            .take(5)
            .map(|s| (s.file.as_str(), s.value.as_str()))
            .collect();
        let expected = [
            ("devices.deny", "a"),
            ("devices.allow", "c 10:229 rw"),
            ("devices.allow", "b 7:* rwm"),
            ("devices.allow", "c 7:* rwm"),
            ("devices.allow", "a"),
        ];
        assert_eq!(found, expected);
        assert_eq!(settings.len(), 5 + DEFAULT_DEVICES.len());
    }
}
