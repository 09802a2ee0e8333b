//! AppArmor: which profile a request means, and the default one, which is loaded where it is not.

use crate::api::LinuxContainerSecurityContext;
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::spec::seccomp::{Wanted, wanted};
use std::io::Write;
use std::process::{Command, Stdio};

/// The name of the profile that this program brings.
pub const OWN: &str = "ocirun-default";

const PROFILE: &str = include_str!("apparmor.profile");
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
const PARSER: &str = "apparmor_parser";
const FIELD: &str = "config.linux.security_context.apparmor";

/// The profile of a container; none where it is not to be confined, or the machine has no AppArmor. One that names none
/// gets the default profile, as kubelet expects it.
///
/// # Errors
/// `Invalid` with the field's name; `Unsupported` where the machine has no AppArmor, `NotFound` for what is not loaded,
/// and those of loading the default profile.
pub fn profile(
    security: &LinuxContainerSecurityContext,
    default: &str,
    host: &Host,
) -> Result<Option<String>> {
    #[expect(deprecated, reason = "older clients send it")]
    let old = &security.apparmor_profile;
    let is_named = security.apparmor.is_some() || !old.is_empty();
    let name = match wanted(security.apparmor.as_ref(), old, FIELD)? {
        Wanted::Unconfined if is_named => return Ok(None),
        Wanted::Local(name) => name.to_string_lossy().into_owned(),
        _ if !host.has_apparmor || default.is_empty() || security.privileged => return Ok(None),
        _ => default.to_owned(),
    };
    if !host.has_apparmor {
        let text = format!("{FIELD}: this machine has no AppArmor");
        return Err(Error::new(Kind::Unsupported, text));
    }
    if is_loaded(&name)? {
        return Ok(Some(name));
    }
    if name != OWN {
        let text = format!("{FIELD}: profile {name:?} is not loaded");
        return Err(Error::new(Kind::NotFound, text));
    }
    match load() {
        // Nobody has asked for it.
        Err(error) if !is_named && error.kind() == Kind::Unsupported => Ok(None),
        loaded => loaded.map(|()| Some(name)).map_err(|error| error.at(FIELD)),
    }
}

fn is_loaded(name: &str) -> Result<bool> {
    let loaded = std::fs::read_to_string(LOADED).call(|| format!("read {LOADED:?}"))?;
    let is_it = |line: &str| {
        line.rsplit_once(" (")
            .is_some_and(|(loaded, _)| loaded == name)
    };
    Ok(loaded.lines().any(is_it))
}

/// Loads the profile of this program.
fn load() -> Result<()> {
    let mut command = Command::new(PARSER);
    command
        .args(["--replace", "--skip-cache"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text =
                format!("{PARSER} is not on this machine, and profile {OWN:?} is not loaded");
            return Err(Error::new(Kind::Unsupported, text));
        }
        child => child.call(|| format!("start {PARSER}"))?,
    };
    if let Some(mut input) = child.stdin.take() {
        // Where it does not take it, its words tell why.
        drop(input.write_all(PROFILE.as_bytes()));
    }
    let output = child
        .wait_with_output()
        .call(|| format!("wait for {PARSER}"))?;
    if output.status.success() {
        tracing::info!("AppArmor profile {OWN} is loaded");
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', "; ");
    Err(Error::new(Kind::Failed, format!("{PARSER}: {words}")))
}
