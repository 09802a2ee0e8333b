//! Signals by the names that images and the interface have for them.

use crate::api::Signal;
use crate::error::{Result, invalid};

/// SIGTERM.
pub const TERM: i32 = 15;

/// Numbers of the interface's names, as on every architecture that is served; see signal(7).
const NAMES: [(&str, i32); 36] = [
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("RTMIN", RTMIN),
    ("RTMAX", RTMAX),
];
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number of a signal as an image writes it: a number, or a name with or without `SIG`.
#[must_use]
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let name = text.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let offset = |prefix: &str| name.strip_prefix(prefix)?.parse::<i32>().ok();
    let number = match (offset("RTMIN+"), offset("RTMAX-")) {
        (Some(offset), _) => RTMIN.checked_add(offset)?,
        (None, Some(offset)) => RTMAX.checked_sub(offset)?,
        (None, None) => return NAMES.iter().find(|(known, _)| *known == name).map(|n| n.1),
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

/// The signal that stops a container, and its name in the interface: the request's, else the image's, else SIGTERM.
///
/// # Errors
/// `Invalid` for a number that is no signal of the interface, or an image's word that is none.
pub fn stop(wanted: i32, image: &str) -> Result<(i32, Signal)> {
    let signal = Signal::try_from(wanted)
        .map_err(|_| invalid("config.stop_signal", format!("{wanted} is not a signal")))?;
    if signal != Signal::RuntimeDefault {
        let number = number(signal);
        let number = number.ok_or_else(|| invalid("config.stop_signal", "is not a signal"))?;
        return Ok((number, signal));
    }
    if image.is_empty() {
        return Ok((TERM, Signal::Sigterm));
    }
    let unknown = || {
        invalid(
            "stop signal of the image",
            format!("{image:?} is not a signal"),
        )
    };
    let number = parse(image).ok_or_else(unknown)?;
    Ok((number, named(number)))
}

/// `SIGRTMINPLUS3` is `RTMIN+3`.
fn number(signal: Signal) -> Option<i32> {
    let name = signal.as_str_name();
    parse(&name.replace("PLUS", "+").replace("MINUS", "-"))
}

/// The interface's name of a number: the first that has it.
fn named(wanted: i32) -> Signal {
    let all = (1..=65).filter_map(|value| Signal::try_from(value).ok());
    all.into_iter()
        .find(|signal| number(*signal) == Some(wanted))
        .unwrap_or(Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_interface_is_a_signal() {
        let numbers = (1..=65).map(|v| number(Signal::try_from(v).unwrap()).unwrap());
        let numbers = numbers.collect::<std::collections::BTreeSet<_>>();
        // 1 to 31 and the real-time ones: none is missing.
        assert_eq!(numbers, (1..=31).chain(34..=64).collect());
    }

    #[test]
    fn words_of_images() {
        for (text, number) in [
            ("9", Some(9)),
            ("SIGKILL", Some(9)),
            ("quit", Some(3)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("RTMIN+31", None),
            ("0", None),
            ("65", None),
            ("SIGNOT", None),
            ("", None),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
    }

    #[test]
    fn which_signal_stops() {
        assert_eq!(stop(0, "").unwrap(), (15, Signal::Sigterm));
        assert_eq!(stop(0, "SIGQUIT").unwrap(), (3, Signal::Sigquit));
        assert_eq!(stop(10, "SIGQUIT").unwrap(), (2, Signal::Sigint));
        assert_eq!(stop(38, "").unwrap(), (37, Signal::Sigrtminplus3));
        assert!(stop(66, "").is_err());
        assert!(stop(0, "SIGNOT").is_err());
    }
}
