//! Signal numbers and names.

/// SIGHUP.
pub const HUP: i32 = 1;
/// SIGINT.
pub const INT: i32 = 2;
/// SIGQUIT.
pub const QUIT: i32 = 3;
/// SIGKILL.
pub const KILL: i32 = 9;
/// SIGTERM.
pub const TERM: i32 = 15;
/// SIGCHLD.
pub const CHLD: i32 = 17;
/// SIGCONT.
pub const CONT: i32 = 18;
/// SIGSTOP.
pub const STOP: i32 = 19;
/// SIGTSTP.
pub const TSTP: i32 = 20;
/// SIGTTIN.
pub const TTIN: i32 = 21;
/// SIGTTOU.
pub const TTOU: i32 = 22;

/// The names without `SIG`, in the order of their numbers from 1.
const NAMES: &[u8] = b"HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP \
TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH POLL PWR SYS";

/// The name of a signal, without `SIG`; empty for a real-time one.
pub fn name(signal: i32) -> &'static [u8] {
    let index = usize::try_from(signal - 1).unwrap_or(usize::MAX);
    NAMES.split(|byte| *byte == b' ').nth(index).unwrap_or(b"")
}

/// The signal of a name with `SIG`.
pub fn by_name(text: &[u8]) -> Option<i32> {
    let text = text.strip_prefix(b"SIG")?;
    (1..=31).find(|signal| name(*signal) == text)
}

#[cfg(test)]
mod tests {
    use super::{by_name, name};

    #[test]
    fn names_and_numbers_agree() {
        for (number, text) in [
            (1, "SIGHUP"),
            (9, "SIGKILL"),
            (15, "SIGTERM"),
            (17, "SIGCHLD"),
            (31, "SIGSYS"),
        ] {
            assert_eq!(by_name(text.as_bytes()), Some(number));
            assert_eq!(name(number), &text.as_bytes()[3..]);
        }
        assert_eq!(by_name(b"TERM"), None);
        assert_eq!(by_name(b"SIG"), None);
        assert_eq!(name(64), b"");
    }
}
