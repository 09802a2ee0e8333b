//! `ps`.

use std::process::Command;

use nix::unistd::Pid;

use super::{Failure, Invocation, Outcome, print};

/// Prints the processes of a container: their pids as JSON, or the lines that ps(1) has of them.
pub(super) fn ps(invocation: &Invocation<'_>) -> Outcome {
    let pids = invocation.container()?.processes()?;
    match invocation.flags.value("format").unwrap_or("table") {
        "json" => {
            let numbers: Vec<i32> = pids.iter().map(|pid| pid.as_raw()).collect();
            // What runc's callers know an empty list as.
            let numbers = Some(numbers).filter(|numbers| !numbers.is_empty());
            let json = serde_json::to_string(&numbers).unwrap_or_default();
            print(&format!("{json}\n"))
        }
        "table" => {
            let options = match &invocation.arguments[1..] {
                [] => &["-ef".to_owned()][..],
                options => options,
            };
            print(&lines(options, &pids)?)
        }
        other => Err(Failure::Argument(format!(
            "invalid format option: {other:?}"
        ))),
    }
}

fn lines(options: &[String], pids: &[Pid]) -> Result<String, Failure> {
    let output = Command::new("ps").args(options).output();
    let output = output
        .map_err(|error| Failure::File(format!("execve(\"ps\"): {}", crate::format::io(&error))))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::File(format!(
            "ps {}: {}: {said}",
            options.join(" "),
            output.status
        )));
    }
    choose(&String::from_utf8_lossy(&output.stdout), pids)
}

/// The header and the lines whose column `PID` is one of `pids`.
fn choose(text: &str, pids: &[Pid]) -> Result<String, Failure> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let Some(column) = header.split_whitespace().position(|name| name == "PID") else {
        return Err(Failure::File(
            "couldn't find PID field in ps output".to_owned(),
        ));
    };
    let is_ours = |line: &&str| {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|field| field.parse().ok());
        pid.is_some_and(|pid| pids.contains(&Pid::from_raw(pid)))
    };
    Ok(std::iter::once(header)
        .chain(lines.filter(is_ours))
        .fold(String::new(), |text, line| text + line + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_container() {
        let text = "UID PID CMD\nroot 1 init\nroot 12 sh\nroot 2 12\n";
        assert_eq!(
            choose(text, &[Pid::from_raw(12)]).unwrap(),
            "UID PID CMD\nroot 12 sh\n"
        );
        assert_eq!(choose(text, &[]).unwrap(), "UID PID CMD\n");
        assert!(choose("UID CMD\n", &[]).is_err());
    }
}
