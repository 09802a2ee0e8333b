//! Resources in the files of cgroup version 2, and what only its hierarchy has.
//!
//! Values of version 1, which is what a configuration is written in, are turned as runc and crun turn them. See the
//! kernel's cgroup-v2.rst.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::directory::{make_directories, write};
use super::setting::{
    Missing, POINTER, Setting, Settings, check_page_size, device_number, invalid, throttles,
};
use crate::error::{Call, Context, Error, Result};
use crate::spec::{BlockIo, Cpu, HugepageLimit, Memory, Resources};

/// µs of a period of CPU time where none is asked for: the kernel's own.
const DEFAULT_PERIOD: u64 = 100_000;

/// What `resources` asks for, without devices, in the order of writing.
pub(super) fn settings(resources: &Resources) -> Result<Vec<Setting>> {
    let mut all = Settings::default();
    if let Some(pids) = &resources.pids {
        all.pids(pids.limit);
    }
    if let Some(memory) = &resources.memory {
        add_memory(&mut all, memory)?;
    }
    if let Some(block_io) = &resources.block_io {
        add_block_io(&mut all, block_io)?;
    }
    if let Some(cpu) = &resources.cpu {
        add_cpu(&mut all, cpu)?;
    }
    add_huge_pages(
        &mut all,
        resources.hugepage_limits.as_deref().unwrap_or_default(),
    )?;
    if let Some(devices) = &resources.rdma {
        all.rdma(devices);
    }
    let network = resources.network.as_ref();
    if network.is_some_and(|network| {
        network.class_id.is_some_and(|class| class != 0)
            || network
                .priorities
                .as_ref()
                .is_some_and(|all| !all.is_empty())
    }) {
        return Err(only_v1("network"));
    }
    // After the others: it may say what they cannot, and has the last word.
    if let Some(unified) = &resources.unified {
        add_unified(&mut all, unified)?;
    }
    Ok(all.0)
}

fn only_v1(element: &str) -> Error {
    Error::unsupported(format!("{POINTER}/{element}: is there in cgroup v1 alone"))
}

fn add_memory(all: &mut Settings, memory: &Memory) -> Result<()> {
    let refused = [
        (memory.swappiness.is_some(), "memory/swappiness"),
        (
            memory.kernel_tcp.is_some_and(|limit| limit > 0),
            "memory/kernelTCP",
        ),
        (
            memory.disable_oom_killer == Some(true),
            "memory/disableOOMKiller",
        ),
    ];
    if let Some((_, element)) = refused.into_iter().find(|(asked, _)| *asked) {
        return Err(only_v1(element));
    }
    // A new cgroup has no limits: swap first, so that what exceeds memory alone is not swapped meanwhile.
    if let Some(swap) = swap_max(memory)? {
        let missing = match swap.as_str() {
            // A kernel that does not count swap cannot limit it, nor need it for these.
            "max" | "0" => Missing::Ignore,
            _ => Missing::Refuse,
        };
        all.add_or("memory", ("memory.swap.max", swap), "memory/swap", missing);
    }
    for (value, file, element) in [
        (memory.limit, "memory.max", "memory/limit"),
        (memory.reservation, "memory.low", "memory/reservation"),
    ] {
        if let Some(value) = value.filter(|&value| value != 0) {
            all.add("memory", file, limit(value), element);
        }
    }
    Ok(())
}

fn add_cpu(all: &mut Settings, cpu: &Cpu) -> Result<()> {
    for (value, element) in [
        (
            cpu.realtime_period.unwrap_or_default() != 0,
            "cpu/realtimePeriod",
        ),
        (
            cpu.realtime_runtime.unwrap_or_default() != 0,
            "cpu/realtimeRuntime",
        ),
    ] {
        if value {
            return Err(only_v1(element));
        }
    }
    match cpu.idle {
        None => {}
        Some(idle @ (0 | 1)) => all.add("cpu", "cpu.idle", idle, "cpu/idle"),
        Some(idle) => {
            return Err(invalid("cpu/idle", &format!("{idle} is neither 0 nor 1")));
        }
    }
    // An idle cgroup has no weight, and the kernel refuses one.
    if let Some(shares) = cpu
        .shares
        .filter(|&shares| shares != 0 && cpu.idle != Some(1))
    {
        all.add("cpu", "cpu.weight", weight_of_shares(shares), "cpu/shares");
    }
    let quota = cpu.quota.filter(|&quota| quota != 0);
    let period = cpu.period.filter(|&period| period != 0);
    if quota.is_some() || period.is_some() {
        let quota = quota.map_or_else(|| "max".to_owned(), limit);
        let value = format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD));
        all.add("cpu", "cpu.max", value, "cpu/quota");
    }
    if let Some(burst) = cpu.burst {
        all.add("cpu", "cpu.max.burst", burst, "cpu/burst");
    }
    all.cpuset(cpu);
    Ok(())
}

fn add_block_io(all: &mut Settings, block_io: &BlockIo) -> Result<()> {
    if block_io.leaf_weight.is_some_and(|weight| weight != 0) {
        return Err(only_v1("blockIO/leafWeight"));
    }
    if let Some(weight) = block_io.weight.filter(|&weight| weight != 0) {
        add_weight(all, "", weight, "blockIO/weight");
    }
    for (index, device) in block_io.weight_device.iter().flatten().enumerate() {
        let element = format!("blockIO/weightDevice/{index}");
        let number = device_number(device.major, device.minor, &element)?;
        if device.leaf_weight.is_some_and(|weight| weight != 0) {
            return Err(only_v1(&element));
        }
        if let Some(weight) = device.weight {
            add_weight(all, &format!("{number} "), weight, &element);
        }
    }
    for throttle in throttles(block_io)? {
        // Zero takes a limit away.
        let rate = match throttle.rate {
            0 => "max".to_owned(),
            rate => rate.to_string(),
        };
        let value = format!("{} {}={rate}", throttle.device, throttle.kind.v2_name());
        all.add("io", "io.max", value, &throttle.element);
    }
    Ok(())
}

/// BFQ, which honours weights, has a file of its own with the numbers of version 1.
fn add_weight(all: &mut Settings, device: &str, weight: u16, element: &str) {
    let other = Missing::Instead(
        "io.weight".to_owned(),
        format!("{device}{}", io_weight(weight)),
    );
    let value = format!("{device}{weight}");
    all.add_or("io", ("io.bfq.weight", value), element, other);
}

fn add_huge_pages(all: &mut Settings, limits: &[HugepageLimit]) -> Result<()> {
    for (index, limit) in limits.iter().enumerate() {
        let element = format!("hugepageLimits/{index}");
        let size = &limit.page_size;
        check_page_size(size, &element)?;
        all.add(
            "hugetlb",
            &format!("hugetlb.{size}.max"),
            limit.limit,
            &element,
        );
        // What is reserved counts too, where the kernel counts it (5.7).
        let reserved = format!("hugetlb.{size}.rsvd.max");
        all.add_or(
            "hugetlb",
            (&reserved, limit.limit.to_string()),
            &element,
            Missing::Ignore,
        );
    }
    Ok(())
}

fn add_unified(all: &mut Settings, files: &BTreeMap<String, String>) -> Result<()> {
    for (file, value) in files {
        let element = format!("unified/{}", file.replace('~', "~0").replace('/', "~1"));
        if file.contains(['/', '\0']) || !file.contains('.') {
            let text = format!(
                "unified resource {file:?} must be a file name (no slashes) of the form CONTROLLER.PARAMETER"
            );
            return Err(invalid(&element, &text));
        }
        // Files with several lines take one in each write.
        for line in value.lines() {
            all.add("", file, line, &element);
        }
    }
    Ok(())
}

fn limit(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

/// `memory.swap.max`, which counts swap alone, where `swap` counts memory and swap together.
pub(super) fn swap_max(memory: &Memory) -> Result<Option<String>> {
    let refuse = |text: &str| Err(invalid("memory/swap", text));
    match (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0)) {
        // No limit of memory means none of both, unless something else is said.
        (limit, 0) if limit < 0 => Ok(Some("max".to_owned())),
        (_, 0) => Ok(None),
        (_, swap) if swap < 0 => Ok(Some("max".to_owned())),
        (limit, _) if limit <= 0 => refuse("unable to set swap limit without memory limit"),
        (limit, swap) if swap < limit => refuse(&format!(
            "{swap} is less than the memory limit {limit}: it counts memory and swap together"
        )),
        (limit, swap) => Ok(Some((swap - limit).to_string())),
    }
}

/// The weight (1 to 10,000) of CPU shares (2 to 262,144): both ends and the default, 1024 and 100, meet.
///
/// Between them it is the exponent that follows the shares: 10^(l²/612 + 125·l/612 − 7/34) of their binary logarithm.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    #[expect(clippy::cast_precision_loss, reason = "below 2^18")]
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    let weight = 10f64.powf(exponent).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 1 to 10,000"
    )]
    let weight = weight as u64;
    weight.clamp(1, 10_000)
}

/// `io.weight` (1 to 10,000) of a weight of version 1 (10 to 1000).
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9_999 / 990
}

/// Makes the cgroup at `path`, with every controller that the hierarchy at `mount` can give it.
pub(super) fn make(mount: &Path, path: &Path) -> Result<()> {
    make_directories(path)?;
    let read = |directory: &Path, file: &str| {
        let file = directory.join(file);
        fs::read_to_string(&file).call(|| format!("read({file:?})"))
    };
    let available = read(mount, "cgroup.controllers")?;
    if read(path, "cgroup.controllers")? == available {
        return Ok(());
    }
    let Ok(below) = path.strip_prefix(mount) else {
        return Ok(());
    };
    let mut directory = mount.to_owned();
    for name in below {
        let enabled = read(&directory, "cgroup.subtree_control")?;
        let missing: Vec<String> = read(&directory, "cgroup.controllers")?
            .split_whitespace()
            .filter(|controller| !enabled.split_whitespace().any(|name| name == *controller))
            .map(|controller| format!("+{controller}"))
            .collect();
        let file = directory.join("cgroup.subtree_control");
        // All at once, or those that can be: what is missing then shows with the limit that needs it.
        if !missing.is_empty() && write(&file, &missing.join(" ")).is_err() {
            for controller in missing {
                drop(write(&file, &controller));
            }
        }
        directory.push(name);
    }
    Ok(())
}

/// Writes `setting` to the cgroup `directory`.
pub(super) fn apply(setting: &Setting, directory: &Path) -> Result<()> {
    setting.apply(directory).map_err(|error| {
        let controller = setting.file.split('.').next().unwrap_or_default();
        let is_missing = error.errno() == Some(nix::errno::Errno::ENOENT);
        if is_missing && !has_controller(directory, controller) {
            error.also(&format!(
                "the controller {controller} is not available there: either the host has none, it is not delegated, or \
                 the cgroup above has processes of its own"
            ))
        } else {
            error
        }
    })
}

fn has_controller(directory: &Path, controller: &str) -> bool {
    fs::read_to_string(directory.join("cgroup.controllers"))
        .is_ok_and(|all| all.split_whitespace().any(|name| name == controller))
}

/// Gives the cgroup to who is root in the container, so that it can make cgroups of its own below.
pub(super) fn delegate(directory: &Path, owner: (u32, u32)) -> Result<()> {
    /// What the kernel says may be given away; older kernels do not say it.
    const LIST: &str = "/sys/kernel/cgroup/delegate";
    const LEAST: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control";
    let list = fs::read_to_string(LIST).unwrap_or_else(|_| LEAST.to_owned());
    let give = |path: &Path| {
        std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1))
            .call(|| format!("chown({path:?}, {}, {})", owner.0, owner.1))
    };
    give(directory).context(|| "cgroup")?;
    for file in list.lines() {
        let path = directory.join(file);
        // Those of controllers that are not enabled.
        if path.exists() {
            give(&path).context(|| "cgroup")?;
        }
    }
    Ok(())
}

/// Whether the cgroup is frozen.
pub(super) fn is_frozen(directory: &Path) -> bool {
    fs::read(directory.join("cgroup.freeze")).is_ok_and(|state| state.starts_with(b"1"))
}

/// The number behind `key` in a file of keys and numbers.
pub(super) fn number(directory: &Path, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(directory.join(file)).ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(json: &str) -> Result<Vec<String>> {
        let resources: Resources = serde_json::from_str(json).unwrap();
        Ok(settings(&resources)?
            .into_iter()
            .map(|setting| format!("{} {}", setting.file, setting.value))
            .collect())
    }

    #[test]
    fn limits() {
        let cases: [(&str, &[&str]); 14] = [
            (
                r#"{"memory":{"limit":1000,"swap":3000,"reservation":500}}"#,
                &["memory.swap.max 2000", "memory.max 1000", "memory.low 500"],
            ),
            (
                r#"{"memory":{"limit":1000,"swap":1000}}"#,
                &["memory.swap.max 0", "memory.max 1000"],
            ),
            (
                r#"{"memory":{"limit":-1}}"#,
                &["memory.swap.max max", "memory.max max"],
            ),
            (r#"{"memory":{"limit":0,"kernelTCP":0}}"#, &[]),
            (r#"{"memory":{"swap":-1}}"#, &["memory.swap.max max"]),
            (
                r#"{"cpu":{"shares":1024,"quota":5000,"period":10000,"burst":7}}"#,
                &["cpu.weight 100", "cpu.max 5000 10000", "cpu.max.burst 7"],
            ),
            (r#"{"cpu":{"quota":-1}}"#, &["cpu.max max 100000"]),
            (r#"{"cpu":{"period":5000}}"#, &["cpu.max max 5000"]),
            (
                r#"{"cpu":{"idle":1,"shares":512,"cpus":"0","mems":"0"}}"#,
                &["cpu.idle 1", "cpuset.cpus 0", "cpuset.mems 0"],
            ),
            (r#"{"pids":{"limit":0}}"#, &["pids.max 1"]),
            (
                r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":10}]}}"#,
                &["io.bfq.weight 500", "io.bfq.weight 8:0 10"],
            ),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":9}],"throttleWriteIOPSDevice":[{"major":8,"minor":1,"rate":0}]}}"#,
                &["io.max 8:0 rbps=9", "io.max 8:1 wiops=max"],
            ),
            (
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4096}],"rdma":{"mlx5":{"hcaHandles":2,"hcaObjects":3}}}"#,
                &[
                    "hugetlb.2MB.max 4096",
                    "hugetlb.2MB.rsvd.max 4096",
                    "rdma.max mlx5 hca_handle=2 hca_object=3",
                ],
            ),
            (
                r#"{"unified":{"io.max":"8:0 rbps=1\n8:1 rbps=2","memory.high":"max"},"pids":{"limit":3}}"#,
                &[
                    "pids.max 3",
                    "io.max 8:0 rbps=1",
                    "io.max 8:1 rbps=2",
                    "memory.high max",
                ],
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(values(json).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn refused() {
        for (json, pointer) in [
            (r#"{"memory":{"swap":1000}}"#, "memory/swap"),
            (r#"{"memory":{"limit":1000,"swap":10}}"#, "memory/swap"),
            (r#"{"cpu":{"idle":2}}"#, "cpu/idle"),
            (r#"{"unified":{"../x.y":"1"}}"#, "unified/..~1x.y"),
            (r#"{"unified":{"nodot":"1"}}"#, "unified/nodot"),
        ] {
            let pointer = format!("{POINTER}/{pointer}");
            let error = values(json).unwrap_err();
            assert_eq!(error.pointer(), Some(pointer.as_str()), "{json}");
        }
        for json in [
            r#"{"memory":{"swappiness":1}}"#,
            r#"{"memory":{"disableOOMKiller":true}}"#,
            r#"{"cpu":{"realtimeRuntime":1}}"#,
            r#"{"blockIO":{"leafWeight":10}}"#,
            r#"{"network":{"classID":1}}"#,
        ] {
            let error = values(json).unwrap_err();
            assert!(error.to_string().ends_with("in cgroup v1 alone"), "{error}");
        }
    }

    #[test]
    fn weights() {
        let shares = [
            (1, 1),
            (2, 1),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (262_144, 10_000),
        ];
        for (shares, weight) in shares {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        for (v1, v2) in [(10, 1), (100, 910), (500, 4950), (1000, 10_000)] {
            assert_eq!(io_weight(v1), v2, "{v1}");
        }
    }
}
