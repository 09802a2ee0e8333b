//! Requests: decoded, begun, and answered at once where nothing has to be waited for.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ocirun_shim::wire::{
    CloseStdinRequest, Code, ContainerStats, CreateRequest, DeleteRequest, ExecRequest,
    KillRequest, Request, ResizePtyRequest, Rootfs, SERVICE, StartRequest, StateResponse,
    StatsRequest, StatsResponse, StopRequest, UpdateRequest,
};
use prost::Message;
use runtime_core::kernel::tty::{Size, set_size};
use runtime_core::spec::Resources;
use runtime_core::{Container as Runtime, Root};

use super::{Shim, Task};
use crate::connection::CallId;
use crate::container::{Container, Phase};
use crate::disk::now;
use crate::failure::{Call, Failure, Result};
use crate::job::{Answer, Job};
use crate::reactor::Timer;

impl Shim {
    /// Begins a call.
    pub(super) fn serve(&mut self, call: CallId, request: &Request) {
        if let Ok(limit) = u64::try_from(request.timeout_nano)
            && limit > 0
        {
            self.reactor
                .after(Duration::from_nanos(limit), Timer::Call(call));
        }
        if let Err(failure) = self.dispatch(call, request) {
            self.answer(call, Err(failure));
        }
    }

    fn dispatch(&mut self, call: CallId, request: &Request) -> Result<()> {
        if request.service != SERVICE {
            let text = format!("no service {:?}: this is {SERVICE}", request.service);
            return Err(Failure::new(Code::Unimplemented, text));
        }
        let payload = request.payload.as_slice();
        match request.method.as_str() {
            "State" => {
                let state = self.state().encode_to_vec();
                self.answer(call, Ok(state));
                Ok(())
            }
            "Create" => self.take_create(call, payload),
            "Start" => self.start(call, &decode::<StartRequest>(payload)?.id),
            "Kill" => {
                let KillRequest { id, signal, all } = decode(payload)?;
                self.kill(call, &id, signal, all)
            }
            "Stop" => {
                let request: StopRequest = decode(payload)?;
                let deadline = Duration::from_millis(request.deadline_ms);
                self.stop(call, &request.id, request.signal, deadline)
            }
            "Delete" => {
                let DeleteRequest { id, force } = decode(payload)?;
                self.delete(call, &id, force)
            }
            "Exec" => self.exec(call, decode::<ExecRequest>(payload)?),
            "ExecStream" => {
                let socket = self.take_fd(call, "the socket")?;
                self.exec_stream(call, decode(payload)?, socket)
            }
            "Attach" => {
                let socket = self.take_fd(call, "the socket")?;
                self.attach(call, &decode(payload)?, socket)
            }
            "CloseStdin" => {
                let request: CloseStdinRequest = decode(payload)?;
                self.close_stdin(call, &request.id)
            }
            "ResizePty" => self.resize(call, &decode(payload)?),
            "ReopenLog" => {
                let request: ocirun_shim::wire::ReopenLogRequest = decode(payload)?;
                self.reopen(call, &request.id)
            }
            "Update" => self.update(call, &decode(payload)?),
            "Stats" => {
                let stats = self.stats(&decode(payload)?).encode_to_vec();
                self.answer(call, Ok(stats));
                Ok(())
            }
            "Events" => {
                self.subscribers.push(call);
                Ok(())
            }
            "StopPod" => self.stop_pod(call),
            "Shutdown" => self.shut_down(call),
            other => {
                let text = format!("no method {other:?} of {SERVICE}");
                Err(Failure::new(Code::Unimplemented, text))
            }
        }
    }

    /// The container `id`.
    pub(super) fn container(&mut self, id: &str) -> Result<&mut Container> {
        self.containers
            .get_mut(id)
            .ok_or_else(|| Failure::new(Code::NotFound, format!("container {id:?} does not exist")))
    }

    fn state(&self) -> StateResponse {
        let containers = self.containers.iter();
        StateResponse {
            pod: Some(self.pod.state()),
            containers: containers
                .map(|(id, container)| container.state(id))
                .collect(),
        }
    }

    fn take_create(&mut self, call: CallId, payload: &[u8]) -> Result<()> {
        let request: CreateRequest = decode(payload)?;
        let root = match request.rootfs {
            Some(Rootfs::Descriptor(true)) => Some(self.take_fd(call, "rootfs")?),
            _ => None,
        };
        self.create(call, &request, root)
    }

    /// The descriptor that came with a request.
    fn take_fd(&mut self, call: CallId, what: &str) -> Result<OwnedFd> {
        let connection = self.connections.get_mut(&call.connection);
        let none = || Failure::argument(what, "no descriptor came with the request");
        connection
            .and_then(super::Connection::take_fd)
            .ok_or_else(none)
    }

    fn resize(&mut self, call: CallId, request: &ResizePtyRequest) -> Result<()> {
        let number = |field: &str, value: u32| {
            u16::try_from(value).map_err(|_| Failure::argument(field, "more than 65535"))
        };
        let size = Size {
            rows: number("height", request.height)?,
            columns: number("width", request.width)?,
        };
        let master = self.master(&request.id)?;
        set_size(master.as_fd(), size).call(|| "ioctl(TIOCSWINSZ)")?;
        self.answer(call, Ok(Vec::new()));
        Ok(())
    }

    fn update(&mut self, call: CallId, request: &UpdateRequest) -> Result<()> {
        let resources: Resources = serde_json::from_slice(&request.resources)
            .map_err(|error| Failure::argument("resources", error))?;
        let root = self.root.path().to_owned();
        let container = self.container(&request.id)?;
        if !container.has_process() || container.phase == Phase::Creating {
            return Err(Failure::new(
                Code::FailedPrecondition,
                "container not running",
            ));
        }
        let id = request.id.clone();
        let job = Job::start([], || {
            Runtime::open_exclusive(&Root::new(root), &id)?.update(&resources)?;
            Ok(Answer::default())
        });
        self.begin(job, Task::Update(call));
        Ok(())
    }

    fn stats(&self, request: &StatsRequest) -> StatsResponse {
        let is_asked = |id: &&String| request.ids.is_empty() || request.ids.contains(id);
        let living = self
            .containers
            .iter()
            .filter(|(_, container)| container.has_process());
        let stats = living.map(|(id, _)| id).filter(is_asked).filter_map(|id| {
            let stats = Runtime::open(&self.root, id).ok()?.stats();
            Some(ContainerStats {
                id: id.clone(),
                timestamp: now(),
                stats: serde_json::to_vec(&stats).ok()?,
            })
        });
        StatsResponse {
            containers: stats.collect(),
        }
    }
}

fn decode<M: Message + Default>(payload: &[u8]) -> Result<M> {
    M::decode(payload).map_err(|error| Failure::argument("payload", error))
}
