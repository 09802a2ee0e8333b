//! Creating a container.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};
use ocirun_shim::wire::{Code, CreateRequest, CreateResponse, EventKind, Rootfs};
use prost::Message;
use runtime_core::kernel::mount::{Scope, clone_of_path};
use runtime_core::{Bundle, Container as Runtime, CreateOptions, Host, Plan};
use serde::{Deserialize, Serialize};

use super::{Shim, Task};
use crate::connection::CallId;
use crate::container::{Container, ContainerFile, Phase, Stage};
use crate::disk::{self, now};
use crate::failure::{Call, Failure, Result};
use crate::job::{Answer, Job};
use crate::keeper::{Keeper, Streams};

/// Bytes of a record of the log, where the request says nothing.
const LINE: u32 = 16 << 10;

/// What a job that created a container tells, beside the descriptors of its first process and its terminal's master.
#[derive(Debug, Serialize, Deserialize)]
struct Created {
    pid: i32,
    own_pids: bool,
    warnings: Vec<String>,
}

/// The ends of a container's streams.
struct Ends {
    /// For the container: input, output, errors.
    inside: [OwnedFd; 3],
    /// For the keeper: output, errors.
    outputs: Vec<OwnedFd>,
    /// For the keeper: where the input is written to.
    input: Option<OwnedFd>,
}

impl Shim {
    /// Begins to create what `request` asks for. A second request for a container on its way waits for the same end.
    pub(super) fn create(
        &mut self,
        call: CallId,
        request: &CreateRequest,
        root: Option<OwnedFd>,
    ) -> Result<()> {
        runtime_core::check_id(&request.id).map_err(|error| Failure::from(error).context("id"))?;
        if self.pod.is_stopped() {
            let text = "the pod was stopped: nothing is created in it any more";
            return Err(Failure::new(Code::FailedPrecondition, text));
        }
        if let Some(container) = self.containers.get_mut(&request.id) {
            if container.phase == Phase::Creating && container.failed.is_none() {
                container.waiting.create.push(call);
                return Ok(());
            }
            let text = format!("container {:?} exists already", request.id);
            return Err(Failure::new(Code::AlreadyExists, text));
        }
        let file = file_of(request)?;
        let root_path = match &request.rootfs {
            Some(Rootfs::Path(path)) => Some(absolute("rootfs", path)?),
            _ => None,
        };
        let ends = self.make_files(&request.id, &file).inspect_err(|_| {
            let _ = self.remove_files(&request.id);
        })?;
        let mut container = Container::new(file, Phase::Creating);
        container.waiting.create.push(call);
        container.outputs = ends.outputs;
        container.input = ends.input;
        let work = Work {
            root: self.root.path().to_owned(),
            id: request.id.clone(),
            bundle: container.file.bundle.clone(),
            host: self.pod.host(),
            rootfs: root,
            rootfs_path: root_path,
            streams: ends.inside,
        };
        let fd = work.rootfs.as_ref().unwrap_or(&work.streams[0]);
        let kept = [
            work.streams[0].as_raw_fd(),
            work.streams[1].as_raw_fd(),
            work.streams[2].as_raw_fd(),
            fd.as_raw_fd(),
        ];
        let job = Job::start(kept, || work.run());
        self.containers.insert(request.id.clone(), container);
        self.begin(job, Task::Create(request.id.clone()));
        Ok(())
    }

    /// Makes the directory of a container, so that whoever comes after a killed shim knows that one was begun.
    fn make_files(&self, id: &str, file: &ContainerFile) -> Result<Ends> {
        let directory = self.pod.directory().container(id);
        disk::make_directory(&directory)?;
        disk::write_json(&self.pod.directory().shim_file(id), file)?;
        open_streams(&directory, file.stdin)
    }

    /// The job has ended: the keeper is started, and the container exists when that has opened the log.
    pub(super) fn created(&mut self, id: &str, answer: Result<Answer>) {
        let kept = answer.and_then(|(bytes, fds)| self.take_created(id, &bytes, fds));
        if let Err(failure) = kept {
            self.undo_creation(id, failure);
        }
    }

    fn take_created(&mut self, id: &str, bytes: &[u8], fds: Vec<OwnedFd>) -> Result<()> {
        let created: Created = serde_json::from_slice(bytes)
            .map_err(|error| Failure::new(Code::Internal, format!("answer of a job: {error}")))?;
        for warning in &created.warnings {
            self.log(&format!("create {id:?}: {warning}"));
        }
        let stray = self.stray(Pid::from_raw(created.pid));
        let Some(container) = self.containers.get_mut(id) else {
            return Ok(());
        };
        let mut fds = fds.into_iter();
        container.pidfd = fds.next();
        container.master = fds.next();
        container.file.pid = created.pid;
        container.file.own_pids = created.own_pids;
        container.file.terminal = container.master.is_some();
        container.ended = stray.map(|ended| (ended, now()));
        self.keep_streams(id)
    }

    /// Starts the keeper of a container, the first or another.
    pub(super) fn keep_streams(&mut self, id: &str) -> Result<()> {
        let directory = self.pod.directory().clone();
        let Some(container) = self.containers.get_mut(id) else {
            return Ok(());
        };
        let Some(pidfd) = &container.pidfd else {
            return Ok(());
        };
        let copy = |fd: &OwnedFd| fd.try_clone().call(|| "fcntl(F_DUPFD_CLOEXEC)");
        let outputs = match &container.master {
            Some(master) => vec![copy(master)?],
            None => container.outputs.iter().map(copy).collect::<Result<_>>()?,
        };
        let streams = Streams {
            outputs,
            input: container.input.take(),
            pidfd: copy(pidfd)?,
            is_terminal: container.master.is_some(),
            log: container.file.log.clone(),
            limit: container.file.log_line_limit,
            socket: directory.keeper_socket(id),
        };
        let keeper = Keeper::start(streams)?;
        self.take_keeper(id, keeper)
    }

    /// The log is open: the container exists.
    pub(super) fn creation_is_whole(&mut self, id: &str) {
        let directory = self.pod.directory().clone();
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        container.file.stage = Stage::Created;
        container.file.created_at = now();
        if let Err(failure) = disk::write_json(&directory.shim_file(id), &container.file) {
            self.undo_creation(id, failure);
            return;
        }
        container.phase = Phase::Created;
        let answer = CreateResponse {
            pid: container.file.pid,
            created_at: container.file.created_at,
        };
        let calls = std::mem::take(&mut container.waiting.create);
        if self.kills_of_ended.is_none() {
            self.count_kills(id);
        }
        self.tell(EventKind::Created, id);
        self.answer_all(calls, &Ok(answer.encode_to_vec()));
        self.settle(id);
        if self.pod.is_stopped() {
            self.kill_whole(id);
        }
    }

    /// Takes back what there is of a container, and answers with `failure` when that is done.
    pub(super) fn undo_creation(&mut self, id: &str, failure: Failure) {
        if let Some(container) = self.containers.get_mut(id) {
            container.failed.get_or_insert(failure);
            self.begin_delete(id);
        }
    }
}

fn file_of(request: &CreateRequest) -> Result<ContainerFile> {
    if request.rootfs == Some(Rootfs::Descriptor(false)) {
        return Err(Failure::argument(
            "rootfs",
            "neither a path nor a descriptor",
        ));
    }
    let log = match request.log_path.as_str() {
        "" => None,
        path => Some(absolute("log_path", path)?),
    };
    let limit = match request.log_line_limit {
        0 => LINE,
        limit => limit,
    };
    if limit > 1 << 20 {
        return Err(Failure::argument("log_line_limit", "more than 1 MiB"));
    }
    Ok(ContainerFile {
        stage: Stage::Creating,
        bundle: absolute("bundle", &request.bundle)?,
        log,
        stdin: request.stdin,
        log_line_limit: limit as usize,
        terminal: false,
        own_pids: false,
        pid: 0,
        created_at: 0,
        started_at: 0,
        left: Vec::new(),
    })
}

fn absolute(field: &str, path: &str) -> Result<PathBuf> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Failure::argument(
            field,
            format!("{path:?} is no absolute path"),
        ));
    }
    Ok(PathBuf::from(path))
}

/// Makes the FIFOs. The container's side of the output is opened for reading and writing: a write then outlives whoever
/// reads. Its input is opened for reading only, for it must be able to end.
fn open_streams(directory: &Path, has_input: bool) -> Result<Ends> {
    let fifo = |name: &str| {
        let path = directory.join(name);
        disk::make_fifo(&path).map(|()| path)
    };
    let (stdout, stderr) = (fifo("stdout")?, fifo("stderr")?);
    let read = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let (reader, writer) = if has_input {
        let stdin = fifo("stdin")?;
        let reader = open_at(&stdin, read)?;
        // The container's program is to wait for its input.
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::empty())).call(|| "fcntl(F_SETFL)")?;
        (
            reader,
            Some(open_at(&stdin, OFlag::O_WRONLY | OFlag::O_NONBLOCK)?),
        )
    } else {
        (open_at(Path::new("/dev/null"), OFlag::O_RDONLY)?, None)
    };
    Ok(Ends {
        outputs: vec![open_at(&stdout, read)?, open_at(&stderr, read)?],
        inside: [
            reader,
            open_at(&stdout, OFlag::O_RDWR)?,
            open_at(&stderr, OFlag::O_RDWR)?,
        ],
        input: writer,
    })
}

/// Opens the outputs of a container that exists, to go on reading them.
pub(super) fn open_outputs(directory: &Path) -> Result<Vec<OwnedFd>> {
    let read = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    ["stdout", "stderr"]
        .iter()
        .map(|name| open_at(&directory.join(name), read))
        .collect()
}

fn open_at(path: &Path, flags: OFlag) -> Result<OwnedFd> {
    open(path, flags | OFlag::O_CLOEXEC, Mode::empty())
        .call(|| format!("open({path:?}, {flags:?})"))
}

/// What the job does.
struct Work {
    root: PathBuf,
    id: String,
    bundle: PathBuf,
    host: runtime_core::host::Driver,
    rootfs: Option<OwnedFd>,
    rootfs_path: Option<PathBuf>,
    streams: [OwnedFd; 3],
}

impl Work {
    fn run(self) -> Result<Answer> {
        let [stdin, stdout, stderr] = &self.streams;
        dup2_stdin(stdin).call(|| "dup2(0)")?;
        dup2_stdout(stdout).call(|| "dup2(1)")?;
        dup2_stderr(stderr).call(|| "dup2(2)")?;
        let bundle = Bundle::open(&self.bundle)?;
        let mut host = Host::probe()?;
        host.cgroup_driver = self.host;
        let plan = Plan::compile(bundle.spec(), &host)?;
        let warnings = plan.warnings().to_vec();
        let root = match (self.rootfs, &self.rootfs_path) {
            (Some(root), _) => Some(root),
            (None, Some(path)) => {
                let name = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
                let tree = clone_of_path(&name, Scope::Tree);
                Some(tree.call(|| format!("open_tree({path:?}, OPEN_TREE_CLONE)"))?)
            }
            (None, None) => None,
        };
        let options = CreateOptions {
            init: crate::init::of_spec(bundle.spec())?,
            root,
            ..CreateOptions::default()
        };
        let states = runtime_core::Root::new(self.root);
        let created = Runtime::create(&states, &self.id, &bundle, plan, options)?;
        let answer = Created {
            pid: created.init.pid.as_raw(),
            own_pids: created.container.has_own_pids(),
            warnings,
        };
        let bytes = serde_json::to_vec(&answer).unwrap_or_default();
        let fds = std::iter::once(created.init.pidfd).chain(created.master);
        Ok((bytes, fds.collect()))
    }
}
