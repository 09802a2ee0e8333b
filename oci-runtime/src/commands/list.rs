//! `list`.

use runtime_core::{Container, State};

use super::{Failure, Invocation, Outcome, print};
use crate::format::{StateView, table};
use crate::time;

/// Prints all containers below the root, as a table, as JSON or by their ids alone.
pub(super) fn list(invocation: &Invocation<'_>) -> Outcome {
    let root = invocation.root()?;
    let ids = match root.ids() {
        Ok(ids) => ids,
        // No container was ever made there. A root that was named ought to be there.
        Err(error)
            if error.errno() == Some(nix::errno::Errno::ENOENT)
                && invocation.global.value("root").is_none() =>
        {
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    let mut states = Vec::new();
    for id in ids {
        match Container::open(&root, &id).and_then(|container| container.state()) {
            Ok(state) => states.push(state),
            Err(error) => eprintln!("load container {id}: {error}"),
        }
    }
    if invocation.flags.on("quiet") {
        let ids: String = states
            .iter()
            .map(|state| format!("{}\n", state.id))
            .collect();
        return print(&ids);
    }
    match invocation.flags.value("format").unwrap_or("table") {
        "table" => print(&as_table(&states)),
        "json" => print(&format!("{}\n", as_json(&states))),
        other => Err(Failure::Argument(format!(
            "invalid format option: {other:?}"
        ))),
    }
}

fn as_table(states: &[State]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
        .map(str::to_owned)
        .to_vec();
    let row = |state: &State| {
        vec![
            state.id.clone(),
            state.pid.to_string(),
            state.status.name().to_owned(),
            state.bundle.display().to_string(),
            time::nanoseconds(state.created),
            owner(state.owner),
        ]
    };
    let rows: Vec<_> = std::iter::once(header)
        .chain(states.iter().map(row))
        .collect();
    table(&rows)
}

fn as_json(states: &[State]) -> String {
    if states.is_empty() {
        return "null".to_owned();
    }
    let owners: Vec<String> = states.iter().map(|state| owner(state.owner)).collect();
    let views: Vec<_> = states
        .iter()
        .zip(&owners)
        .map(|(state, owner)| StateView::new(state, owner))
        .collect();
    serde_json::to_string(&views).unwrap_or_default()
}

/// The name of a user, by `/etc/passwd` alone: a static program has no other source.
fn owner(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}
