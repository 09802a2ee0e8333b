//! The process: what it runs, where, and in what environment.

use super::{ImageProcess, Input};
use crate::error::{Result, invalid};
use serde_json::{Value, json};

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

/// The environment: the image's, changed by the request's.
pub(super) fn env(input: &Input<'_>) -> Result<Value> {
    let mut env = json!([PATH]);
    if input.config.tty {
        set_variable(&mut env, "TERM=xterm");
    }
    set_variable(&mut env, &format!("HOSTNAME={}", input.facts.hostname));
    for variable in &input.image.env {
        set_variable(&mut env, variable);
    }
    for (index, pair) in input.config.envs.iter().enumerate() {
        let at = format!("config.envs[{index}]");
        if pair.key.is_empty() || pair.key.contains(['=', '\0']) {
            return Err(invalid(
                format!("{at}.key"),
                format!("{:?} is not a name", pair.key),
            ));
        }
        let value = std::str::from_utf8(&pair.value)
            .ok()
            .filter(|v| !v.contains('\0'));
        let value = value.ok_or_else(|| {
            let text = format!("of {:?} is not UTF-8 without NUL bytes", pair.key);
            invalid(format!("{at}.value"), text)
        })?;
        set_variable(&mut env, &format!("{}={value}", pair.key));
    }
    Ok(env)
}

/// Sets a variable, in its old place where it had one.
pub(super) fn set_variable(env: &mut Value, variable: &str) {
    let name = variable.split_once('=').map_or(variable, |(name, _)| name);
    let Value::Array(list) = env else {
        *env = json!([variable]);
        return;
    };
    let is_same = |old: &Value| {
        let old = old.as_str().and_then(|old| old.split_once('='));
        old.is_some_and(|(old, _)| old == name)
    };
    match list.iter_mut().find(|old| is_same(old)) {
        Some(old) => *old = json!(variable),
        None => list.push(json!(variable)),
    }
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
