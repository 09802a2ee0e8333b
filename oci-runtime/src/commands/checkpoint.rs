//! `checkpoint`, and what `restore` reads of the command line as it does.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use runtime_core::kernel::fd::inherited;
use runtime_core::{
    CgroupsMode, CheckpointOptions, Container, CriuOptions, Dump, Network, PageServer, Switch,
};

use super::{Failure, Invocation, Outcome};

/// Where the images are unless the command line says otherwise.
const IMAGES: &str = "checkpoint";

/// Writes a container to files, and removes it unless it goes on.
pub(super) fn checkpoint(invocation: &Invocation<'_>) -> Outcome {
    let flags = invocation.flags;
    let container = invocation.locked_container()?;
    let criu = criu(invocation)?;
    let options = CheckpointOptions {
        parent: parent(invocation, &criu)?,
        page_server: flags.value("page-server").map(page_server).transpose()?,
        dump: if flags.on("pre-dump") {
            Dump::Memory
        } else {
            Dump::Whole
        },
        status: flags.value("status-fd").map_or(Ok(None), status)?,
        criu,
    };
    let goes_on = options.dump == Dump::Memory || flags.on("leave-running");
    container.checkpoint(options)?;
    drop(container);
    if !goes_on {
        Container::delete_by_force(&invocation.root()?, invocation.id())?;
    }
    Ok(0)
}

/// What goes for both commands.
pub(super) fn criu(invocation: &Invocation<'_>) -> Result<CriuOptions, Failure> {
    let flags = invocation.flags;
    let given = |name: &str| flags.value(name).filter(|value| !value.is_empty());
    let on = Switch::ALL.iter().filter(|(name, _)| flags.on(name));
    let mut network = Network::Whole;
    for namespace in flags.list("empty-ns") {
        if namespace != "network" {
            let text = format!("namespace {namespace:?} is not supported");
            return Err(Failure::Argument(text));
        }
        network = Network::Empty;
    }
    Ok(CriuOptions {
        images: absolute(given("image-path").unwrap_or(IMAGES))?,
        work: given("work-path").map(absolute).transpose()?,
        switches: on.map(|(_, switch)| *switch).collect(),
        cgroups: match given("manage-cgroups-mode") {
            None => CgroupsMode::Default,
            Some("soft") => CgroupsMode::Soft,
            Some("full") => CgroupsMode::Full,
            Some("strict") => CgroupsMode::Strict,
            Some("ignore") => CgroupsMode::Ignore,
            Some(_) => return Err(Failure::Argument("Invalid manage cgroups mode".to_owned())),
        },
        network,
    })
}

fn absolute(path: &str) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::Argument(format!("{path:?}: {}", crate::format::io(&error))))
}

/// The earlier image, which must be there.
fn parent(invocation: &Invocation<'_>, criu: &CriuOptions) -> Result<Option<PathBuf>, Failure> {
    let Some(written) = invocation
        .flags
        .value("parent-path")
        .filter(|path| !path.is_empty())
    else {
        return Ok(None);
    };
    let parent = PathBuf::from(written);
    if parent.is_absolute() {
        return Err(Failure::Argument(
            "--parent-path must be relative".to_owned(),
        ));
    }
    let whole = criu.images.join(&parent);
    let what = match std::fs::metadata(&whole) {
        Ok(found) if found.is_dir() => return Ok(Some(parent)),
        Ok(_) => "not a directory".to_owned(),
        Err(error) => crate::format::io(&error),
    };
    let text = format!("invalid --parent-path: stat({whole:?}): {what}");
    Err(Failure::Argument(text))
}

fn page_server(written: &str) -> Result<PageServer, Failure> {
    let Some((address, port)) = written.rsplit_once(':') else {
        let text = "Use --page-server ADDRESS:PORT to specify page server";
        return Err(Failure::Argument(text.to_owned()));
    };
    let port = port.parse().ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| Failure::Argument("Invalid port number".to_owned()))?;
    Ok(PageServer {
        address: address.trim_matches(['[', ']']).to_owned(),
        port,
    })
}

/// The descriptor of that number, which must be open for writing.
fn status(written: &str) -> Result<Option<OwnedFd>, Failure> {
    if written == "-1" {
        return Ok(None);
    }
    let invalid =
        |what: &str| Failure::Argument(format!("invalid --status-fd argument {written}: {what}"));
    let number = written.parse().ok().filter(|number| *number >= 0);
    let fd = number
        .and_then(inherited)
        .ok_or_else(|| invalid("bad file descriptor"))?;
    let mode = fcntl(fd, FcntlArg::F_GETFL).map(OFlag::from_bits_truncate);
    let is_writable = mode.is_ok_and(|mode| mode.intersects(OFlag::O_WRONLY | OFlag::O_RDWR));
    if !is_writable {
        return Err(invalid("not writable"));
    }
    let owned = fd.try_clone_to_owned();
    owned
        .map(Some)
        .map_err(|error| invalid(&crate::format::io(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_servers() {
        let server = |address: &str, port| PageServer {
            address: address.to_owned(),
            port,
        };
        assert_eq!(page_server("10.0.0.1:27").unwrap(), server("10.0.0.1", 27));
        assert_eq!(page_server("[::1]:27").unwrap(), server("::1", 27));
        for (written, text) in [
            ("x", "Use --page-server ADDRESS:PORT"),
            ("x:y", "Invalid port number"),
            ("x:0", "Invalid port number"),
            ("x:65536", "Invalid port number"),
        ] {
            let error = page_server(written).unwrap_err().to_string();
            assert!(error.starts_with(text), "{written}: {error}");
        }
    }
}
