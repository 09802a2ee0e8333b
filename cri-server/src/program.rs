//! The program that runs pods, opened once for all of them.

use crate::error::{Error, Kind, Result};
use crate::live::Live;
use rustix::fs::Access;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The name of the program.
const NAME: &str = "ocirun-shim";

/// The program that runs pods: the configured one, or that beside this program, or in PATH.
///
/// # Errors
/// `Unavailable` where there is none.
pub fn find(live: &Live) -> Result<PathBuf> {
    let configured = live.get().shim.clone();
    let own = std::env::current_exe().unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = if configured.as_os_str().is_empty() {
        let beside = own.parent().map(|dir| dir.join(NAME));
        let in_path = std::env::split_paths(&path).map(|dir| dir.join(NAME));
        beside.into_iter().chain(in_path).collect()
    } else {
        vec![configured]
    };
    let is_program = |file: &PathBuf| rustix::fs::access(file, Access::EXEC_OK).is_ok();
    candidates.into_iter().find(is_program).ok_or_else(|| {
        let text =
            "ocirun-shim is neither beside ocirun-cri nor in PATH; set `shim` in the configuration";
        Error::new(Kind::Unavailable, text)
    })
}

/// A view of the program that cannot be written: whoever starts from it need not make one, by a second execve(2).
#[derive(Debug, Default)]
pub(crate) struct View(Mutex<Option<Seen>>);

#[derive(Debug)]
struct Seen {
    program: PathBuf,
    /// Device, inode, and time of the last change: another file, or another content, is another program.
    identity: (u64, u64, i64, i64),
    file: Arc<OwnedFd>,
}

/// What is executed.
#[derive(Debug)]
pub(crate) struct Executable {
    pub(crate) path: PathBuf,
    /// What the path leads to, as long as it is needed.
    _view: Option<Arc<OwnedFd>>,
}

impl View {
    /// The path by which `program` is executed: of the view, or its own where there can be none.
    pub(crate) fn executable(&self, program: &Path) -> Executable {
        let view = self.of(program);
        let of_view = |file: &Arc<OwnedFd>| format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        Executable {
            path: view.as_ref().map_or_else(|| program.to_owned(), of_view),
            _view: view,
        }
    }

    fn of(&self, program: &Path) -> Option<Arc<OwnedFd>> {
        let found = std::fs::metadata(program).ok()?;
        let identity = (found.dev(), found.ino(), found.ctime(), found.ctime_nsec());
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = &*seen
            && seen.program == program
            && seen.identity == identity
        {
            return Some(seen.file.clone());
        }
        let file = Arc::new(runtime_core::seal::view_of(program).ok()?);
        *seen = Some(Seen {
            program: program.to_owned(),
            identity,
            file: file.clone(),
        });
        Some(file)
    }
}
