//! One container under measurement, and its end.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::lab::Lab;
use crate::sys;

/// A container that `create` made. Dropped, it is killed and deleted.
#[derive(Debug)]
pub struct Created<'a> {
    lab: &'a Lab,
    program: &'a Path,
    id: String,
    /// The container's process, an adopted orphan of ours; 0 if it never came to be.
    pub pid: libc::pid_t,
    /// How long `create` took.
    pub took: Duration,
}

impl<'a> Created<'a> {
    /// Creates the container `id` from a bundle.
    ///
    /// # Errors
    /// The runtime's.
    pub fn new(lab: &'a Lab, program: &'a Path, bundle: &Path, id: &str) -> Result<Self, String> {
        let mut command = lab.command(program);
        command
            .args(["create", "--bundle"])
            .arg(bundle)
            .arg("--pid-file")
            .arg(lab.pid_file(id))
            .arg(id);
        let took = lab.timed(command)?;
        let mut container = Self::adopt(lab, program, id);
        container.took = took;
        Ok(container)
    }

    /// A container that is there already, if its start went that far.
    pub fn adopt(lab: &'a Lab, program: &'a Path, id: &str) -> Self {
        let pid = fs::read_to_string(lab.pid_file(id))
            .ok()
            .and_then(|text| text.trim().parse().ok());
        Self {
            lab,
            program,
            id: id.to_owned(),
            pid: pid.unwrap_or(0),
            took: Duration::ZERO,
        }
    }

    /// Runs a command of its runtime and returns how long that took.
    ///
    /// # Errors
    /// The runtime's.
    pub fn verb<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Duration, String> {
        let mut command = self.lab.command(self.program);
        command.args(arguments);
        self.lab.timed(command)
    }

    /// To be called once `delete` has succeeded: nothing is left to remove.
    pub fn deleted(mut self) {
        self.pid = 0;
        self.id.clear();
    }
}

impl Drop for Created<'_> {
    fn drop(&mut self) {
        if self.id.is_empty() {
            return;
        }
        sys::kill(self.pid);
        sys::reap(self.pid);
        let mut command = self.lab.command(self.program);
        // A failure shows in the next container of that name, and the lab kills and removes what is left.
        drop(command.args(["delete", "--force", &self.id]).status());
        drop(fs::remove_file(self.lab.pid_file(&self.id)));
    }
}
