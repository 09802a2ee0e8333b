//! One boot of the machine in qemu, followed line by line, with a limit on every wait.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ocirun_tests::machine::{Message, PORT};
use ocirun_tests::program_in_path;

const QEMU: &str = "qemu-system-x86_64";
const MEMORY: &str = "1536M";
/// Time for the kernel to find its disks.
const KVM_BOOT: Duration = Duration::from_secs(15);
const EMULATED_BOOT: Duration = Duration::from_secs(120);
/// Time from there to the first task, which begins when the machine's PID 1 has started all else.
const SETTLE: Duration = Duration::from_secs(240);
/// Time that the end of the machine may take, and what a task may take beyond its own limit.
const SLACK: Duration = Duration::from_secs(60);
/// How much of the console is shown of a machine that failed.
const CONSOLE_TAIL: u64 = 4096;

/// How the machine's processor is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's own.
    Kvm,
    /// In software.
    Emulation,
}

/// What is booted.
#[derive(Debug)]
pub struct Machine {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// Its command line.
    pub arguments: String,
    /// The initial RAM disk.
    pub ramdisk: PathBuf,
    /// The root disk, which is not changed.
    pub disk: PathBuf,
    /// The disk with the job.
    pub share: PathBuf,
    /// Where the console's output goes.
    pub console: PathBuf,
    /// Time that one task may take.
    pub task_limit: Duration,
}

/// The reason why no machine can be booted here.
#[must_use]
pub fn absent() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the test machine is an x86_64 one".to_owned());
    }
    [QEMU, "setpriv", "mke2fs"]
        .into_iter()
        .find(|name| program_in_path(name).is_none())
        .map(|name| format!("the test machine needs the program {name}"))
}

impl Machine {
    /// Boots the machine with whatever works here, and gives each line and message to `listener` until it is off.
    ///
    /// # Errors
    /// In words, with the end of the console's output.
    pub fn run(&self, mut listener: impl FnMut(Event<'_>)) -> Result<(), String> {
        if let Some(reason) = absent() {
            return Err(reason);
        }
        if kvm_may_work() {
            match self.boot(Accelerator::Kvm, &mut listener) {
                Err(Failure::NotBooted(_)) => {}
                other => return other.map_err(|failure| self.words(failure)),
            }
        }
        self.boot(Accelerator::Emulation, &mut listener)
            .map_err(|failure| self.words(failure))
    }

    fn boot(
        &self,
        accelerator: Accelerator,
        listener: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        let mut guard = Guard {
            child: self
                .command(accelerator)
                .spawn()
                .map_err(|error| Failure::NotBooted(format!("start {QEMU}: {error}")))?,
        };
        let lines = read_lines(&mut guard.child);
        let mut phase = Phase::Boot(accelerator);
        loop {
            let end = Instant::now() + phase.limit(self.task_limit);
            let message = loop {
                let left = end.saturating_duration_since(Instant::now());
                match lines.recv_timeout(left) {
                    Ok(line) => {
                        let (output, message) = Message::split(&line);
                        if !output.is_empty() {
                            listener(Event::Output(output));
                        }
                        if let Some(message) = message {
                            break message;
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        return Err(phase.failure("nothing more was heard"));
                    }
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(phase.failure("the machine ended"));
                    }
                }
            };
            phase = match &message {
                Message::Booted => Phase::Settle,
                Message::Started(_) => Phase::Task,
                Message::Ended(..) => Phase::Between,
                Message::Finished => {
                    return Ok(());
                }
                Message::Broken(words) => return Err(Failure::Later(words.clone())),
            };
            listener(Event::Message(accelerator, message));
        }
    }

    fn command(&self, accelerator: Accelerator) -> Command {
        // Ends the machine also when this program is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", QEMU]);
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        command.args(["-machine", "q35", "-smp", "2", "-m", MEMORY]);
        command.args(match accelerator {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // qemu 7.2 spoils the flags register in cmpxchg16b, which Linux uses from 6.10 on where it is there.
            Accelerator::Emulation => ["-accel", "tcg,thread=multi", "-cpu", "max,-cx16"],
        });
        command.arg("-kernel").arg(&self.kernel);
        command.arg("-initrd").arg(&self.ramdisk);
        command.arg("-append").arg(&self.arguments);
        // Writes go to a temporary file, which ends with the machine.
        command.arg("-drive").arg(drive(&self.disk, "snapshot=on"));
        command.arg("-drive").arg(drive(&self.share, "readonly=on"));
        command
            .arg("-serial")
            .arg(format!("file:{}", self.console.display()));
        command.args([
            "-chardev",
            "stdio,id=port,signal=off",
            "-device",
            "virtio-serial-pci",
        ]);
        command
            .arg("-device")
            .arg(format!("virtserialport,chardev=port,name={PORT}"));
        // An end of file would count as a host that hung up: the pipe stays open, unused.
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(match accelerator {
            // What it says before the machine is emulated instead is of no use.
            Accelerator::Kvm => Stdio::null(),
            Accelerator::Emulation => Stdio::inherit(),
        });
        command
    }

    fn words(&self, failure: Failure) -> String {
        let (Failure::NotBooted(words) | Failure::Later(words)) = failure;
        match tail(&self.console) {
            Ok(text) => format!("{words}\nits console, at the end:\n{}", text.trim_end()),
            Err(error) => format!("{words}\nread {}: {error}", self.console.display()),
        }
    }
}

/// What is heard of a machine.
#[derive(Debug)]
pub enum Event<'a> {
    /// A line of a task's output, with its end if it has one.
    Output(&'a str),
    /// A message of the guest, and what it runs on.
    Message(Accelerator, Message),
}

#[derive(Debug)]
enum Failure {
    /// Another accelerator may do better.
    NotBooted(String),
    Later(String),
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Boot(Accelerator),
    Settle,
    Task,
    Between,
}

impl Phase {
    fn limit(self, task: Duration) -> Duration {
        match self {
            Self::Boot(Accelerator::Kvm) => KVM_BOOT,
            Self::Boot(Accelerator::Emulation) => EMULATED_BOOT,
            Self::Settle => SETTLE,
            Self::Task => task + SLACK,
            Self::Between => SLACK,
        }
    }

    fn failure(self, what: &str) -> Failure {
        match self {
            Self::Boot(_) => {
                Failure::NotBooted(format!("{what} before the kernel found its disks"))
            }
            Self::Settle => Failure::Later(format!("{what} before the first task")),
            Self::Task => Failure::Later(format!("{what} during a task")),
            Self::Between => Failure::Later(format!("{what} between two tasks")),
        }
    }
}

/// Ends qemu, however this ends.
struct Guard {
    child: Child,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ended_by_itself = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn drive(file: &Path, option: &str) -> String {
    // A comma in a value is written twice.
    let file = file.display().to_string().replace(',', ",,");
    format!("if=virtio,format=raw,cache=unsafe,{option},file={file}")
}

fn kvm_may_work() -> bool {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok()
}

fn read_lines(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .is_ok_and(|count| count > 0)
            {
                let text = String::from_utf8_lossy(&line).into_owned();
                if sender.send(text).is_err() {
                    break;
                }
                line.clear();
            }
        });
    }
    receiver
}

fn tail(file: &Path) -> std::io::Result<String> {
    let mut file = File::open(file)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(CONSOLE_TAIL)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
