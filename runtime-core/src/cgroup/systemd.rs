//! The systemd driver: a transient scope or slice for each container, asked for over D-Bus.
//!
//! systemd is spoken to at its private socket, which is there without a bus; else on the bus. All properties go in one
//! call, and every conversation ends within [`LIMIT`]: a busy systemd delays a start, and never hangs it. See
//! systemd.scope(5), systemd.resource-control(5) and org.freedesktop.systemd1(5).

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Pid, geteuid};
use serde::{Deserialize, Serialize};

use super::dbus::{Connection, Message, Method, Value};
use crate::error::{Context, Error, ErrorKind, Result};

/// How long systemd is given for one verb.
const LIMIT: Duration = Duration::from_secs(25);

const MANAGER: Method<'static> = Method {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
};

const BUS: Method<'static> = Method {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
};

/// A unit, as `state.json` keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unit {
    /// With its suffix, `.scope` or `.slice`.
    pub(super) name: String,
    /// The slice that it is in.
    slice: String,
    /// Whether it is one of the user's manager and not of the system's.
    pub(super) of_user: bool,
}

impl Unit {
    /// Reads `linux.cgroupsPath`, `slice:prefix:name`, for the container `id`.
    ///
    /// # Errors
    /// `InvalidSpec` for a path of another form.
    pub(super) fn parse(path: Option<&str>, id: &str, of_user: bool) -> Result<Self> {
        let invalid = |text: &str| Error::invalid_spec("/linux/cgroupsPath", text);
        let (slice, prefix, name) = match path {
            None => ("", "ocirun", id),
            Some(path) => {
                let mut parts = path.split(':');
                match (parts.next(), parts.next(), parts.next(), parts.next()) {
                    (Some(slice), Some(prefix), Some(name), None) => (slice, prefix, name),
                    _ => {
                        return Err(invalid(&format!(
                            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \
                             {path:?} instead"
                        )));
                    }
                }
            }
        };
        let slice = match slice {
            "" if of_user => "user.slice",
            "" => "system.slice",
            slice => slice,
        };
        let name = match (prefix, name) {
            (_, slice) if slice.ends_with(".slice") => slice.to_owned(),
            ("", name) => format!("{name}.scope"),
            (prefix, name) => format!("{prefix}-{name}.scope"),
        };
        let unit = Self {
            name,
            slice: slice.to_owned(),
            of_user,
        };
        unit.directory()
            .ok_or_else(|| invalid(&format!("{slice:?} is no name of a slice")))?;
        if unit.name.contains('/') || unit.name.len() > 255 {
            return Err(invalid(&format!("{:?} is no name of a unit", unit.name)));
        }
        Ok(unit)
    }

    /// The cgroup of the unit below that of its manager: each `-` in a slice's name is a slice above it.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        let stem = self.slice.strip_suffix(".slice")?;
        let mut path = PathBuf::new();
        if stem != "-" {
            if stem.is_empty() || stem.contains('/') || stem.split('-').any(str::is_empty) {
                return None;
            }
            for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
                path.push(format!("{}.slice", &stem[..at]));
            }
        }
        path.push(&self.name);
        Some(path)
    }

    fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }
}

/// Properties of a unit, in the order of asking.
pub(super) type Properties = Vec<(String, Value)>;

/// Whether systemd runs this host; see sd_booted(3).
pub(super) fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// A conversation with the system's or the user's manager.
#[derive(Debug)]
pub(super) struct Manager {
    connection: Connection,
}

impl Manager {
    /// Connects to the manager.
    ///
    /// # Errors
    /// Those of connecting, all in one; `ETIMEDOUT`.
    pub(super) fn connect(of_user: bool) -> Result<Self> {
        let mut first = None;
        for (socket, is_bus) in sockets(of_user) {
            match Self::connect_to(&socket, is_bus) {
                // Another way to the same manager would be waited for as long.
                Err(error) if error.errno() != Some(Errno::ETIMEDOUT) => {
                    first = first.or(Some(error));
                }
                connected => return connected,
            }
        }
        let none = || {
            Error::unsupported(
                "no systemd of the user: neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS leads to one",
            )
        };
        Err(first.unwrap_or_else(none))
    }

    fn connect_to(socket: &Path, is_bus: bool) -> Result<Self> {
        let connection = Connection::open(socket, LIMIT)
            .map_err(explain)
            .context(|| format!("systemd: {socket:?}"))?;
        let mut manager = Self { connection };
        if is_bus {
            manager.call(
                Method {
                    member: "Hello",
                    ..BUS
                },
                &[],
            )?;
            let rule =
                "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
            manager.call(
                Method {
                    member: "AddMatch",
                    ..BUS
                },
                &[Value::text(rule)],
            )?;
            manager.ask("Subscribe", &[])?;
        }
        Ok(manager)
    }

    fn call(&mut self, method: Method<'_>, arguments: &[Value]) -> Result<Message> {
        let shown = |name: &str| format!("systemd: {}({name})", method.member);
        let first = match arguments.first() {
            Some(Value::Str(text)) => format!("{text:?}"),
            _ => String::new(),
        };
        match self
            .connection
            .call(method, arguments)
            .map_err(explain)
            .context(|| shown(&first))?
        {
            Ok(reply) => Ok(reply),
            Err(refusal) => {
                let errno = match refusal.name.rsplit('.').next() {
                    Some("UnitExists") => Errno::EEXIST,
                    Some("NoSuchUnit") => Errno::ENOENT,
                    Some("AccessDenied" | "InteractiveAuthorizationRequired") => Errno::EACCES,
                    _ => Errno::EIO,
                };
                let text = format!("{}: {} ({})", shown(&first), refusal.text, refusal.name);
                Err(Error::new(ErrorKind::Os(errno), text))
            }
        }
    }

    /// Calls a method of the manager.
    fn ask(&mut self, member: &'static str, arguments: &[Value]) -> Result<Message> {
        self.call(Method { member, ..MANAGER }, arguments)
    }

    /// The cgroup of the manager itself, from the root of the hierarchy.
    ///
    /// # Errors
    /// As for all calls.
    pub(super) fn control_group(&mut self) -> Result<String> {
        let method = Method {
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            ..MANAGER
        };
        let arguments = [Value::text(MANAGER.interface), Value::text("ControlGroup")];
        let reply = self.call(method, &arguments)?;
        Ok(reply.texts.into_iter().next().unwrap_or_default())
    }

    /// Starts `unit` as a transient one with `process` in it, and waits until it is up. A slice has no processes of its
    /// own.
    ///
    /// # Errors
    /// As for all calls; `EIO` where the job did not succeed.
    pub(super) fn start(
        &mut self,
        unit: &Unit,
        process: Pid,
        properties: &[(String, Value)],
    ) -> Result<()> {
        let mut all: Properties = Vec::with_capacity(properties.len() + 4);
        if unit.is_slice() {
            all.push((
                "Wants".to_owned(),
                Value::Array("s", vec![Value::text(&unit.slice)]),
            ));
        } else {
            all.push(("Slice".to_owned(), Value::text(&unit.slice)));
            all.push(("Delegate".to_owned(), Value::Bool(true)));
            let pids = vec![Value::U32(process.as_raw().cast_unsigned())];
            all.push(("PIDs".to_owned(), Value::Array("u", pids)));
        }
        all.extend_from_slice(properties);
        let arguments = [
            Value::text(&unit.name),
            Value::text("replace"),
            Value::properties(&all),
            Value::Array("(sa(sv))", Vec::new()),
        ];
        let job = match self.ask("StartTransientUnit", &arguments) {
            // One that failed and was not looked at since is in the way.
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                drop(self.ask("ResetFailedUnit", &arguments[..1]));
                self.ask("StartTransientUnit", &arguments)?
            }
            other => other?,
        };
        self.finish(&job, &format!("start {:?}", unit.name))
    }

    /// Stops `unit`, which ends its processes. One that does not exist has stopped.
    ///
    /// # Errors
    /// As for all calls.
    pub(super) fn stop(&mut self, unit: &Unit) -> Result<()> {
        let name = [Value::text(&unit.name), Value::text("replace")];
        let stopped = match self.ask("StopUnit", &name) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error),
            Ok(job) => self.finish(&job, &format!("stop {:?}", unit.name)),
        };
        // What failed keeps its name until somebody has looked at it.
        drop(self.ask("ResetFailedUnit", &name[..1]));
        stopped
    }

    /// Moves `process` into the cgroup of `unit`.
    ///
    /// # Errors
    /// As for all calls.
    pub(super) fn attach(&mut self, unit: &Unit, process: Pid) -> Result<()> {
        let arguments = [
            Value::text(&unit.name),
            Value::text(""),
            Value::Array("u", vec![Value::U32(process.as_raw().cast_unsigned())]),
        ];
        self.ask("AttachProcessesToUnit", &arguments).map(drop)
    }

    /// Changes properties of `unit` until it ends.
    ///
    /// # Errors
    /// As for all calls.
    pub(super) fn set(&mut self, unit: &Unit, properties: &[(String, Value)]) -> Result<()> {
        let arguments = [
            Value::text(&unit.name),
            Value::Bool(true),
            Value::properties(properties),
        ];
        self.ask("SetUnitProperties", &arguments).map(drop)
    }

    /// Waits for the end of the job that `reply` names.
    fn finish(&mut self, reply: &Message, what: &str) -> Result<()> {
        let job = reply.texts.first().map_or("", String::as_str);
        loop {
            let signal = self
                .connection
                .signal()
                .map_err(explain)
                .context(|| format!("systemd: job {what}"))?;
            // Of an id, the job, its unit and its result.
            if !signal.is_signal("JobRemoved")
                || signal.texts.first().is_none_or(|path| path != job)
            {
                continue;
            }
            return match signal.texts.get(2).map_or("", String::as_str) {
                "done" | "skipped" => Ok(()),
                result => Err(Error::os(
                    format!("systemd: job {what} ended as {result:?}"),
                    Errno::EIO,
                )),
            };
        }
    }
}

fn explain(error: Error) -> Error {
    if error.errno() == Some(Errno::ETIMEDOUT) {
        let text = format!("systemd did not answer within {} s", LIMIT.as_secs());
        return error.also(&text);
    }
    error
}

/// Where the manager listens, and whether it is a bus that does: the first that answers is taken.
fn sockets(of_user: bool) -> Vec<(PathBuf, bool)> {
    if !of_user {
        return vec![
            ("/run/systemd/private".into(), false),
            ("/run/dbus/system_bus_socket".into(), true),
        ];
    }
    let mut sockets = Vec::new();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(format!("/run/user/{}", geteuid()).into()));
    if let Some(runtime) = &runtime {
        sockets.push((runtime.join("systemd/private"), false));
    }
    let bus = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let paths = bus.split(';').filter_map(|address| {
        let address = address.strip_prefix("unix:")?;
        address
            .split(',')
            .find_map(|pair| pair.strip_prefix("path="))
    });
    sockets.extend(paths.map(|path| (path.into(), true)));
    sockets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (path, of_user, name, directory) in [
            (
                None,
                false,
                "ocirun-c1.scope",
                "system.slice/ocirun-c1.scope",
            ),
            (None, true, "ocirun-c1.scope", "user.slice/ocirun-c1.scope"),
            (
                Some("a-b.slice:cri:x"),
                false,
                "cri-x.scope",
                "a.slice/a-b.slice/cri-x.scope",
            ),
            (Some("-.slice:p:x"), false, "p-x.scope", "p-x.scope"),
            (Some(":p:x.slice"), false, "x.slice", "system.slice/x.slice"),
            (Some("::x"), false, "x.scope", "system.slice/x.scope"),
        ] {
            let unit = Unit::parse(path, "c1", of_user).unwrap();
            assert_eq!(unit.name, name, "{path:?}");
            assert_eq!(unit.directory().unwrap(), Path::new(directory), "{path:?}");
        }
    }

    #[test]
    fn no_units() {
        for path in [
            "/a/b",
            "a:b",
            "a:b:c:d",
            "a:b:c",
            "/x.slice:b:c",
            "a--b.slice:b:c",
            ".slice:b:c",
            ":b:c/d",
        ] {
            let error = Unit::parse(Some(path), "c1", false).unwrap_err();
            assert_eq!(error.pointer(), Some("/linux/cgroupsPath"), "{path}");
        }
    }
}
