//! The process: what it runs, where, and in what environment.

use super::{ImageProcess, Input};
use crate::error::{Result, invalid};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command: the request's `command` takes the place of the image's entry point, and then of its arguments too.
pub(super) fn args(input: &Input<'_>) -> Result<Vec<String>> {
    let (config, image) = (input.config, input.image);
    let mut args = config.command.clone();
    let mut rest = config.args.clone();
    if args.is_empty() {
        args.clone_from(&image.entrypoint);
        if rest.is_empty() {
            rest.clone_from(&image.command);
        }
    }
    args.extend(rest);
    if args.is_empty() {
        let text = "is empty, and the image names no program";
        return Err(invalid("config.command", text));
    }
    if args[0].is_empty() {
        return Err(invalid("config.command[0]", "is empty"));
    }
    if args.iter().any(|arg| arg.contains('\0')) {
        return Err(invalid("config.command", "has a NUL byte"));
    }
    Ok(args)
}

/// What a process finds in its environment.
#[derive(Debug)]
pub(super) struct Environment {
    /// `process.env`.
    pub(super) texts: Value,
    /// Values that are no text and that JSON cannot have, by names and in hexadecimal digits.
    pub(super) bytes: BTreeMap<String, String>,
}

/// The environment: the image's, changed by the request's.
pub(super) fn env(input: &Input<'_>) -> Result<Environment> {
    let mut env = json!([PATH]);
    if input.config.tty {
        set_variable(&mut env, "TERM=xterm");
    }
    set_variable(&mut env, &format!("HOSTNAME={}", input.facts.hostname));
    for variable in &input.image.env {
        set_variable(&mut env, variable);
    }
    let mut bytes = BTreeMap::new();
    for (index, pair) in input.config.envs.iter().enumerate() {
        let at = format!("config.envs[{index}]");
        if pair.key.is_empty() || pair.key.contains(['=', '\0']) {
            return Err(invalid(
                format!("{at}.key"),
                format!("{:?} is not a name", pair.key),
            ));
        }
        if pair.value.contains(&0) {
            let text = format!("of {:?} has a NUL byte", pair.key);
            return Err(invalid(format!("{at}.value"), text));
        }
        // The last counts.
        bytes.remove(&pair.key);
        match std::str::from_utf8(&pair.value) {
            Ok(value) => set_variable(&mut env, &format!("{}={value}", pair.key)),
            Err(_) => {
                if let Value::Array(list) = &mut env {
                    list.retain(|old| !is_named(old, &pair.key));
                }
                let digits = pair.value.iter().map(|byte| format!("{byte:02x}"));
                bytes.insert(pair.key.clone(), digits.collect());
            }
        }
    }
    Ok(Environment { texts: env, bytes })
}

/// Sets a variable, in its old place where it had one.
pub(super) fn set_variable(env: &mut Value, variable: &str) {
    let name = variable.split_once('=').map_or(variable, |(name, _)| name);
    let Value::Array(list) = env else {
        *env = json!([variable]);
        return;
    };
    match list.iter_mut().find(|old| is_named(old, name)) {
        Some(old) => *old = json!(variable),
        None => list.push(json!(variable)),
    }
}

fn is_named(variable: &Value, name: &str) -> bool {
    let pair = variable.as_str().and_then(|pair| pair.split_once('='));
    pair.is_some_and(|(known, _)| known == name)
}

/// The working directory.
pub(super) fn cwd(input: &Input<'_>) -> Result<String> {
    let ImageProcess { cwd, .. } = input.image;
    let own = &input.config.working_dir;
    let (cwd, field) = if own.is_empty() {
        (cwd, "working directory of the image")
    } else {
        (own, "config.working_dir")
    };
    if cwd.is_empty() {
        return Ok("/".to_owned());
    }
    if !cwd.starts_with('/') || cwd.contains('\0') {
        return Err(invalid(field, format!("{cwd:?} is not an absolute path")));
    }
    Ok(cwd.clone())
}
