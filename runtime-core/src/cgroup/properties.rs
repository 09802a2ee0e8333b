//! What a container asks of cgroups as properties of a systemd unit.
//!
//! systemd writes the files of what it knows by itself, and again whenever it is reloaded: it must be told. What it does
//! not know is written to the files after it. See systemd.resource-control(5).

use std::collections::BTreeMap;
use std::fs;

use super::dbus::Value;
use super::devices::{Devices, Kind, Rule};
use super::setting::invalid;
use super::systemd::Properties;
use super::v2;
use crate::error::{Error, Result};
use crate::spec::{Cpu, Resources};

/// Which version of cgroups systemd has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// µs a second.
const USEC_PER_SEC: u64 = 1_000_000;

/// Annotations with this prefix are properties, by their name behind it.
const ANNOTATION: &str = "org.systemd.property.";

fn property(name: &str, value: Value) -> (String, Value) {
    (name.to_owned(), value)
}

/// What every unit of a container `id` has.
pub(super) fn common(id: &str, version: Version) -> Properties {
    let block_io = match version {
        Version::V1 => "BlockIOAccounting",
        Version::V2 => "IOAccounting",
    };
    let mut all = vec![property(
        "Description",
        Value::Str(format!("ocirun container {id}")),
    )];
    for name in [
        "MemoryAccounting",
        "CPUAccounting",
        block_io,
        "TasksAccounting",
    ] {
        all.push(property(name, Value::Bool(true)));
    }
    all.push(property("DefaultDependencies", Value::Bool(false)));
    all
}

/// The properties of `resources`.
///
/// # Errors
/// `InvalidSpec` as for the files.
pub(super) fn of_resources(resources: &Resources, version: Version) -> Result<Properties> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: Value| all.push(property(name, value));
    if let Some(memory) = &resources.memory {
        let limits = match version {
            Version::V1 => [("MemoryLimit", memory.limit), ("", None)],
            Version::V2 => [
                ("MemoryMax", memory.limit),
                ("MemoryLow", memory.reservation),
            ],
        };
        for (name, limit) in limits {
            if let Some(limit) = limit.filter(|&limit| limit != 0) {
                add(name, Value::U64(u64::try_from(limit).unwrap_or(u64::MAX)));
            }
        }
        if version == Version::V2
            && let Some(swap) = v2::swap_max(memory)?
        {
            add(
                "MemorySwapMax",
                Value::U64(swap.parse().unwrap_or(u64::MAX)),
            );
        }
    }
    if let Some(cpu) = &resources.cpu {
        let shares = cpu.shares.filter(|&shares| shares != 0);
        match (version, shares, cpu.idle) {
            (Version::V1, Some(shares), _) => add("CPUShares", Value::U64(shares)),
            // What an idle unit has for a weight.
            (Version::V2, _, Some(1)) => add("CPUWeight", Value::U64(0)),
            (Version::V2, Some(shares), _) => {
                add("CPUWeight", Value::U64(v2::weight_of_shares(shares)));
            }
            _ => {}
        }
        quota(cpu, &mut add);
        for (list, name, element) in [
            (&cpu.cpus, "AllowedCPUs", "cpu/cpus"),
            (&cpu.mems, "AllowedMemoryNodes", "cpu/mems"),
        ] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                let bits = bits(list).ok_or_else(|| {
                    invalid(element, &format!("{list:?} is no list such as 0-2,5"))
                })?;
                let bits = bits.into_iter().map(Value::Byte).collect();
                add(name, Value::Array("y", bits));
            }
        }
    }
    if version == Version::V1
        && let Some(weight) = resources
            .block_io
            .as_ref()
            .and_then(|block_io| block_io.weight)
        && weight != 0
    {
        add("BlockIOWeight", Value::U64(u64::from(weight)));
    }
    if let Some(pids) = &resources.pids {
        let limit = match pids.limit {
            0 => 1,
            limit => u64::try_from(limit).unwrap_or(u64::MAX),
        };
        add("TasksMax", Value::U64(limit));
    }
    if let Some(files) = &resources.unified {
        unified(files, &mut add);
    }
    Ok(all)
}

/// CPU time: systemd takes µs a second, in steps of 10 ms where it is a share of a period.
fn quota(cpu: &Cpu, add: &mut impl FnMut(&str, Value)) {
    let period = cpu.period.filter(|&period| period != 0);
    let quota = cpu.quota.filter(|&quota| quota != 0);
    if period.is_none() && quota.is_none() {
        return;
    }
    if let Some(period) = period {
        add("CPUQuotaPeriodUSec", Value::U64(period));
    }
    let per_second = match quota.and_then(|quota| u64::try_from(quota).ok()) {
        None => u64::MAX,
        Some(quota) => quota_per_second(quota, period.unwrap_or(100_000)),
    };
    add("CPUQuotaPerSecUSec", Value::U64(per_second));
}

/// Rounded up to what systemd can say, for less than what is asked would be wrong.
fn quota_per_second(quota: u64, period: u64) -> u64 {
    const STEP: u64 = 10_000;
    (quota.saturating_mul(USEC_PER_SEC) / period.max(1)).next_multiple_of(STEP)
}

/// Files of the unified hierarchy that systemd would write over.
fn unified(files: &BTreeMap<String, String>, add: &mut impl FnMut(&str, Value)) {
    for (file, value) in files {
        let value = value.trim();
        let number = match value {
            "max" => Some(u64::MAX),
            value => value.parse().ok(),
        };
        let name = match file.as_str() {
            "cpu.weight" => "CPUWeight",
            "memory.min" => "MemoryMin",
            "memory.low" => "MemoryLow",
            "memory.high" => "MemoryHigh",
            "memory.max" => "MemoryMax",
            "memory.swap.max" => "MemorySwapMax",
            "pids.max" => "TasksMax",
            "cpu.idle" if value == "1" => {
                add("CPUWeight", Value::U64(0));
                continue;
            }
            "cpu.max" => {
                cpu_max(value, add);
                continue;
            }
            "cpuset.cpus" | "cpuset.mems" => {
                let name = if file == "cpuset.cpus" {
                    "AllowedCPUs"
                } else {
                    "AllowedMemoryNodes"
                };
                if let Some(bits) = bits(value) {
                    add(
                        name,
                        Value::Array("y", bits.into_iter().map(Value::Byte).collect()),
                    );
                }
                continue;
            }
            _ => continue,
        };
        if let Some(number) = number {
            add(name, Value::U64(number));
        }
    }
}

/// `QUOTA [PERIOD]`.
fn cpu_max(value: &str, add: &mut impl FnMut(&str, Value)) {
    let mut words = value.split_whitespace();
    let quota = words.next().unwrap_or("max");
    let period = words.next().and_then(|period| period.parse().ok());
    if let Some(period) = period {
        add("CPUQuotaPeriodUSec", Value::U64(period));
    }
    let per_second = quota.parse().map_or(u64::MAX, |quota| {
        quota_per_second(quota, period.unwrap_or(100_000))
    });
    add("CPUQuotaPerSecUSec", Value::U64(per_second));
}

/// A list as in cpuset(7) as bits, the first of each byte for the lowest number. None where it is no such list.
fn bits(list: &str) -> Option<Vec<u8>> {
    /// Larger than any machine, and small enough for a message.
    const MOST: usize = 8192;
    let mut bits = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        for number in first..=last {
            let byte = number / 8;
            if bits.len() <= byte {
                bits.resize(byte + 1, 0);
            }
            bits[byte] |= 1 << (number % 8);
        }
    }
    Some(bits)
}

/// The rules for devices, as far as systemd can say them: what it cannot say is in the kernel's own rules.
pub(super) fn of_devices(rules: &[Rule]) -> Properties {
    let allow_nothing = || Value::Array("(ss)", Vec::new());
    // Before the last rule about all devices nothing counts.
    let start = rules.iter().rposition(Rule::is_whole).unwrap_or_default();
    if rules.get(start).is_some_and(|rule| rule.allow) {
        return vec![
            property("DevicePolicy", Value::text("auto")),
            property("DeviceAllow", allow_nothing()),
        ];
    }
    let groups = fs::read_to_string("/proc/devices").unwrap_or_default();
    let allowed = rules[start..].iter().filter(|rule| rule.allow);
    let entries = allowed.filter_map(|rule| {
        let name = device_name(rule, &groups)?;
        Some(Value::Struct(vec![
            Value::Str(name),
            Value::Str(rule.rights()),
        ]))
    });
    vec![
        property("DevicePolicy", Value::text("strict")),
        // An empty list first, for others are added to what is there.
        property("DeviceAllow", allow_nothing()),
        property("DeviceAllow", Value::Array("(ss)", entries.collect())),
    ]
}

/// How systemd names the devices of a rule: a node, a group of `/proc/devices`, or all of a kind.
fn device_name(rule: &Rule, groups: &str) -> Option<String> {
    let Devices::Some { kind, major, minor } = rule.devices else {
        return None;
    };
    let (word, title) = match kind {
        Kind::Block => ("block", "Block devices:"),
        Kind::Char => ("char", "Character devices:"),
    };
    match (major, minor) {
        (None, None) => Some(format!("{word}-*")),
        (Some(major), None) => {
            let section = groups
                .split("\n\n")
                .find(|section| section.starts_with(title))?;
            let group = section.lines().skip(1).find_map(|line| {
                let (number, name) = line.trim().split_once(' ')?;
                (number == major.to_string()).then(|| name.trim())
            })?;
            Some(format!("{word}-{group}"))
        }
        // By these paths systemd takes the numbers, whether or not there is a node.
        (Some(major), Some(minor)) => Some(format!("/dev/{word}/{major}:{minor}")),
        (None, Some(_)) => None,
    }
}

/// Properties that annotations ask for: `org.systemd.property.NAME`, with a value as GVariant writes it.
///
/// # Errors
/// `InvalidSpec` for what is no name or no value.
pub(super) fn of_annotations(annotations: &BTreeMap<String, String>) -> Result<Properties> {
    let mut all = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(ANNOTATION) else {
            continue;
        };
        let pointer = format!("/annotations/{key}");
        let refuse = |text: &str| Err(Error::invalid_spec(&pointer, text));
        if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return refuse("is no name of a property");
        }
        let Some(value) = gvariant(text) else {
            return refuse(&format!(
                "{text:?} is no value such as 5, uint64 5, true, 'text' or ['a', 'b']"
            ));
        };
        // Seconds are how people write times, microseconds how systemd takes them.
        match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
            None => all.push(property(name, value)),
            Some(stem) => match microseconds(&value) {
                Some(time) => all.push(property(&format!("{stem}USec"), Value::U64(time))),
                None => return refuse(&format!("{text:?} is no number of seconds")),
            },
        }
    }
    Ok(all)
}

fn microseconds(value: &Value) -> Option<u64> {
    let whole = |seconds: u64| seconds.checked_mul(USEC_PER_SEC);
    match *value {
        Value::Byte(seconds) => whole(seconds.into()),
        Value::U16(seconds) => whole(seconds.into()),
        Value::U32(seconds) => whole(seconds.into()),
        Value::U64(seconds) => whole(seconds),
        Value::I16(seconds) => whole(seconds.try_into().ok()?),
        Value::I32(seconds) => whole(seconds.try_into().ok()?),
        Value::I64(seconds) => whole(seconds.try_into().ok()?),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "below 2^53"
        )]
        Value::Double(seconds) if (0.0..9e9).contains(&seconds) => {
            Some((seconds * USEC_PER_SEC as f64) as u64)
        }
        _ => None,
    }
}

/// Reads a value in GVariant's text format: scalars, with or without the word for their type, and arrays of them.
fn gvariant(text: &str) -> Option<Value> {
    let text = text.trim();
    if let Some(list) = text.strip_prefix("@as") {
        return array(list.trim(), Some("s"));
    }
    if text.starts_with('[') {
        return array(text, None);
    }
    if let Some(string) = quoted(text) {
        return Some(Value::Str(string));
    }
    if let Some((kind, number)) = text.split_once(char::is_whitespace) {
        let number = number.trim();
        return match kind {
            "byte" => number.parse().ok().map(Value::Byte),
            "boolean" => number.parse().ok().map(Value::Bool),
            "int16" => number.parse().ok().map(Value::I16),
            "uint16" => number.parse().ok().map(Value::U16),
            "int32" => number.parse().ok().map(Value::I32),
            "uint32" => number.parse().ok().map(Value::U32),
            "int64" => number.parse().ok().map(Value::I64),
            "uint64" => number.parse().ok().map(Value::U64),
            "double" => number.parse().ok().map(Value::Double),
            "string" => quoted(number).map(Value::Str),
            "objectpath" => quoted(number).map(Value::Path),
            _ => None,
        };
    }
    if let Ok(value) = text.parse() {
        return Some(Value::Bool(value));
    }
    if let Ok(value) = text.parse() {
        return Some(Value::I32(value));
    }
    text.contains('.')
        .then(|| text.parse().ok())?
        .map(Value::Double)
}

fn array(text: &str, element: Option<&'static str>) -> Option<Value> {
    let list = text.strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut values = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let end = end_of_element(rest);
        values.push(gvariant(&rest[..end])?);
        rest = rest[end..]
            .strip_prefix(',')
            .unwrap_or_default()
            .trim_start();
    }
    let element = match values.first() {
        None => element?,
        Some(Value::Str(_)) => "s",
        Some(Value::U32(_)) => "u",
        Some(Value::I32(_)) => "i",
        Some(Value::U64(_)) => "t",
        Some(Value::Byte(_)) => "y",
        Some(_) => return None,
    };
    let kind = values.first().map(std::mem::discriminant);
    values
        .iter()
        .all(|value| Some(std::mem::discriminant(value)) == kind)
        .then_some(Value::Array(element, values))
}

/// Where the first element of a list ends: at a comma outside quotes.
fn end_of_element(list: &str) -> usize {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, c) in list.char_indices() {
        match (quote, c) {
            _ if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ',') => return at,
            _ => {}
        }
    }
    list.len()
}

fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut string = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => string.push(chars.next()?),
            c if c == quote => return None,
            c => string.push(c),
        }
    }
    Some(string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::devices::compile;

    #[test]
    fn resources() {
        let json = r#"{"memory":{"limit":1000,"swap":3000,"reservation":-1},"pids":{"limit":-1},
            "cpu":{"shares":1024,"quota":50000,"period":100000,"cpus":"0-2,9"},"unified":{"memory.high":"500","io.x":"y"}}"#;
        let resources: Resources = serde_json::from_str(json).unwrap();
        let found = of_resources(&resources, Version::V2).unwrap();
        let expected = [
            ("MemoryMax", Value::U64(1000)),
            ("MemoryLow", Value::U64(u64::MAX)),
            ("MemorySwapMax", Value::U64(2000)),
            ("CPUWeight", Value::U64(100)),
            ("CPUQuotaPeriodUSec", Value::U64(100_000)),
            ("CPUQuotaPerSecUSec", Value::U64(500_000)),
            (
                "AllowedCPUs",
                Value::Array("y", vec![Value::Byte(7), Value::Byte(2)]),
            ),
            ("TasksMax", Value::U64(u64::MAX)),
            ("MemoryHigh", Value::U64(500)),
        ]
        .map(|(name, value)| property(name, value));
        assert_eq!(found, expected);
    }

    #[test]
    fn quotas() {
        for (quota, period, per_second) in [
            (50_000, 100_000, 500_000),
            (1_000, 100_000, 10_000),
            (1_001, 100_000, 20_000),
            (200_000, 100_000, 2_000_000),
        ] {
            assert_eq!(
                quota_per_second(quota, period),
                per_second,
                "{quota} {period}"
            );
        }
    }

    #[test]
    fn device_lists() {
        let rules = compile(&[]).unwrap();
        let groups = "Character devices:\n  5 ttyprintk\n136 pts\n\nBlock devices:\n  8 sd\n";
        let named = |index: usize| device_name(&rules[index], groups);
        assert_eq!(named(1).as_deref(), Some("char-*"));
        assert_eq!(named(2).as_deref(), Some("block-*"));
        assert_eq!(named(3).as_deref(), Some("/dev/char/1:3"));
        assert_eq!(named(9).as_deref(), Some("char-pts"));
        let all = serde_json::from_str::<Vec<_>>(r#"[{"allow":true}]"#).unwrap();
        let policy = |rules: &[Rule]| of_devices(rules)[0].1.clone();
        assert_eq!(policy(&compile(&all).unwrap()), Value::text("auto"));
        assert_eq!(policy(&rules), Value::text("strict"));
    }

    #[test]
    fn annotations() {
        let cases = [
            (
                "CollectMode",
                "'inactive-or-failed'",
                ("CollectMode", Value::text("inactive-or-failed")),
            ),
            (
                "TimeoutStopUSec",
                "uint64 123456789",
                ("TimeoutStopUSec", Value::U64(123_456_789)),
            ),
            (
                "TimeoutStopSec",
                "uint64 3",
                ("TimeoutStopUSec", Value::U64(3_000_000)),
            ),
            (
                "TimeoutStopSec",
                "1.5",
                ("TimeoutStopUSec", Value::U64(1_500_000)),
            ),
            ("SendSIGHUP", "true", ("SendSIGHUP", Value::Bool(true))),
            ("OOMScore", "-7", ("OOMScore", Value::I32(-7))),
            (
                "After",
                r"['a,b.service', 'it\'s']",
                (
                    "After",
                    Value::Array("s", vec![Value::text("a,b.service"), Value::text("it's")]),
                ),
            ),
            ("After", "@as []", ("After", Value::Array("s", vec![]))),
        ];
        for (name, text, (property_name, value)) in cases {
            let annotations = BTreeMap::from([(format!("{ANNOTATION}{name}"), text.to_owned())]);
            let found = of_annotations(&annotations).unwrap();
            assert_eq!(found, [property(property_name, value)], "{name}={text}");
        }
        for (name, text) in [
            ("X", "1"),
            ("Kill Mode", "1"),
            ("KillMode", "mixed"),
            ("KillMode", "'a"),
            ("KillMode", "['a', 1]"),
            ("StopSec", "'x'"),
            ("KillMode", "uint8 1"),
            ("KillMode", "byte 256"),
        ] {
            let key = format!("{ANNOTATION}{name}");
            let annotations = BTreeMap::from([(key.clone(), text.to_owned())]);
            let pointer = format!("/annotations/{key}");
            let error = of_annotations(&annotations).unwrap_err();
            assert_eq!(error.pointer(), Some(pointer.as_str()), "{name}={text}");
        }
    }
}
