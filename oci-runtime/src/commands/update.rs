//! `update`.

use std::fs::File;
use std::io::Read;
use std::str::FromStr;

use runtime_core::spec::{BlockIo, Cpu, Memory, Pids, Resources, resources_from_json};

use super::{Failure, Invocation, Outcome, done};
use crate::cli::Flags;

/// Longest file of resources that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// Changes the limits of a container that runs.
pub(super) fn update(invocation: &Invocation<'_>) -> Outcome {
    let flags = invocation.flags;
    let container = invocation.locked_container()?;
    let resources = match flags.value("resources") {
        Some(path) => read(path)?,
        None => from_flags(flags)?,
    };
    for obsolete in ["kernel-memory", "kernel-memory-tcp"] {
        if flags.value(obsolete).is_some() {
            let text = format!("--{obsolete}: no kernel has that limit any more");
            invocation.log.warning(&text);
        }
    }
    let schema = |name: &str| flags.value(name).filter(|schema| !schema.is_empty());
    container.update_shares(schema("l3-cache-schema"), schema("mem-bw-schema"))?;
    done(container.update(&resources))
}

/// Resources from a file, or from standard input for `-`.
fn read(path: &str) -> Result<Resources, Failure> {
    let failed =
        |error: &std::io::Error| Failure::File(format!("{path}: {}", crate::format::io(error)));
    let mut json = Vec::new();
    let read = if path == "-" {
        std::io::stdin().take(LONGEST).read_to_end(&mut json)
    } else {
        File::open(path)
            .map_err(|error| failed(&error))?
            .take(LONGEST)
            .read_to_end(&mut json)
    };
    read.map_err(|error| failed(&error))?;
    Ok(resources_from_json(&json)?)
}

fn from_flags(flags: &Flags) -> Result<Resources, Failure> {
    let text = |name: &str| {
        flags
            .value(name)
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
    };
    Ok(Resources {
        memory: Some(Memory {
            limit: bytes(flags, "memory")?,
            reservation: bytes(flags, "memory-reservation")?,
            swap: bytes(flags, "memory-swap")?,
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            shares: number(flags, "cpu-share")?,
            quota: number(flags, "cpu-quota")?,
            burst: number(flags, "cpu-burst")?,
            period: number(flags, "cpu-period")?,
            realtime_runtime: number(flags, "cpu-rt-runtime")?,
            realtime_period: number(flags, "cpu-rt-period")?,
            cpus: text("cpuset-cpus"),
            mems: text("cpuset-mems"),
            idle: number(flags, "cpu-idle")?,
        }),
        pids: number(flags, "pids-limit")?
            // Zero is how callers say that nothing is to change.
            .filter(|&limit| limit != 0)
            .map(|limit| Pids { limit }),
        block_io: Some(BlockIo {
            weight: number(flags, "blkio-weight")?,
            ..BlockIo::default()
        }),
        ..Resources::default()
    })
}

fn number<T: FromStr>(flags: &Flags, name: &str) -> Result<Option<T>, Failure> {
    let parse = |value: &str| {
        value
            .parse()
            .map_err(|_| Failure::Argument(format!("invalid value for {name}: {value:?}")))
    };
    flags
        .value(name)
        .filter(|value| !value.is_empty())
        .map(parse)
        .transpose()
}

fn bytes(flags: &Flags, name: &str) -> Result<Option<i64>, Failure> {
    let parse = |value: &str| {
        parse_bytes(value)
            .ok_or_else(|| Failure::Argument(format!("invalid value for {name}: {value:?}")))
    };
    flags
        .value(name)
        .filter(|value| !value.is_empty())
        .map(parse)
        .transpose()
}

/// Bytes as people write them: `-1`, `1024`, `64m`, `1.5GiB`. All units are powers of 1024.
fn parse_bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let shift = match unit.strip_suffix('i').unwrap_or(unit) {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(1 << shift);
    }
    let number: f64 = number.parse().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let bytes = number * (1i64 << shift) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "below 2^62")]
    (0.0..4.6e18).contains(&bytes).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn bytes() {
        for (text, expected) in [
            ("-1", Some(-1)),
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("64m", Some(64 << 20)),
            ("64MB", Some(64 << 20)),
            ("1 GiB", Some(1 << 30)),
            ("1.5k", Some(1536)),
            ("-2", None),
            ("m", None),
            ("1x", None),
            ("9999999999999g", None),
        ] {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
    }
}
