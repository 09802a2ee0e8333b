//! `events`.

use std::time::{Duration, Instant};

use runtime_core::stats::Stats;
use runtime_core::{Container, MemoryEvent, Status};
use serde::Serialize;

use super::{Failure, Invocation, Outcome, print};

/// One line of output.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

/// Prints what a container uses, once or again and again, and when it lacks memory, until it is gone.
pub(super) fn events(invocation: &Invocation<'_>) -> Outcome {
    let interval = match invocation.flags.value("interval") {
        None => Duration::from_secs(5),
        Some(written) => parse_duration(written)
            .filter(|interval| !interval.is_zero())
            .ok_or_else(|| {
                Failure::Argument(format!(
                    "--interval {written:?}: duration interval must be greater than 0"
                ))
            })?,
    };
    let id = invocation.id();
    let container = invocation.container()?;
    if matches!(container.status()?, Status::Stopped | Status::Creating) {
        return Err(Failure::Argument(format!(
            "container with id {id} is not running"
        )));
    }
    if invocation.flags.on("stats") {
        return print_stats(id, &container);
    }
    follow(id, &container, interval)
}

fn follow(id: &str, container: &Container, interval: Duration) -> Outcome {
    let mut watch = container.watch_memory()?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let event = match &mut watch {
            Some(watch) => watch.wait(left)?,
            None => {
                std::thread::sleep(left);
                MemoryEvent::None
            }
        };
        match event {
            MemoryEvent::OutOfMemory => {
                let event = Event {
                    kind: "oom",
                    id,
                    data: None,
                };
                print_event(&event)?;
            }
            MemoryEvent::Gone => return Ok(0),
            MemoryEvent::None => {}
        }
        if Instant::now() >= next {
            if container.status()? == Status::Stopped {
                return Ok(0);
            }
            print_stats(id, container)?;
            next += interval;
        }
    }
}

fn print_stats(id: &str, container: &Container) -> Outcome {
    print_event(&Event {
        kind: "stats",
        id,
        data: Some(container.stats()),
    })
}

fn print_event(event: &Event<'_>) -> Outcome {
    let json =
        serde_json::to_string(event).map_err(|error| Failure::File(format!("events: {error}")))?;
    print(&format!("{json}\n"))
}

/// A time as Go writes it: `5s`, `1m30s`, `250ms`.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |length| end + length);
        let seconds = match &rest[end..unit_end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum += Duration::try_from_secs_f64(number * seconds).ok()?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("5s", Some(5000)),
            ("1m30s", Some(90_000)),
            ("250ms", Some(250)),
            ("1.5s", Some(1500)),
            ("0s", Some(0)),
            ("5", None),
            ("", None),
            ("-1s", None),
            ("5x", None),
        ] {
            assert_eq!(
                parse_duration(text),
                expected.map(Duration::from_millis),
                "{text}"
            );
        }
    }
}
