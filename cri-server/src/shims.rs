//! The shims of pods: started, connected to, listened to, and started again where one has died.

use crate::api::{ContainerEventType, ContainerState};
use crate::error::{Error, Kind, Result};
use crate::flight::Abandoned;
use crate::pods::{Container, Ending, Pod, Pods};
use crate::shim_client::{Messages, Shim};
use crate::{program, time};
use ocirun_shim::files::ExitFile;
use ocirun_shim::wire::{
    self, ContainerStatus, Empty, Event, EventKind, Exit, StateRequest, StateResponse,
};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a shim may take until its pod is ready, and to answer what is answered from memory.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest pause between two attempts to start a shim again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

type Listening = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Pods {
    /// The shim of a pod, started again if it has died.
    pub(crate) async fn shim_of(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<Arc<Shim>> {
        if let Some(shim) = pod.now().shim {
            return Ok(shim);
        }
        let key = Ending::Revive(pod.record.id.clone());
        let (this, revived) = (self.clone(), pod.clone());
        let work = || async move {
            if revived.now().shim.is_some() {
                return Ok(());
            }
            this.revive(&revived).await
        };
        self.ending.join(key, Abandoned::GoesOn, work).await?;
        pod.shim()
    }

    /// Connects to the shim that is there, or to a new one. One that somebody else has begun to start, such as a daemon
    /// that was killed since, is waited for.
    async fn revive(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<()> {
        let begun = Instant::now();
        loop {
            if self.connect(pod).await.is_ok() {
                return Ok(());
            }
            match self.start_shim(pod).await {
                Ok(()) => return self.connect(pod).await,
                Err(error) if !is_starting(pod) || begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Starts the shim of a pod; it is ready when this returns.
    pub(crate) async fn start_shim(&self, pod: &Pod) -> Result<()> {
        let program = program::find(&self.live)?;
        let executable = self.shim_program.executable(&program);
        let mut command = tokio::process::Command::new(&executable.path);
        command
            .arg0(&program)
            .arg(pod.dir.path())
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let failed =
            |text: String| Error::new(Kind::Failed, format!("start {}: {text}", program.display()));
        let done = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = done
            .map_err(|_| failed(format!("not ready within {PATIENCE:?}")))?
            .map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words
            .trim()
            .trim_start_matches("ocirun-shim: ")
            .replace('\n', "; ");
        Err(failed(words))
    }

    /// Connects to a pod's shim, takes over what it knows, and listens to it from then on.
    pub(crate) async fn connect(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<()> {
        let shim = Arc::new(Shim::connect(&pod.dir.socket()).await?);
        // Events first: what happens after the state was told comes as one.
        let events = shim.stream("Events", &Empty {}).await?;
        let state: StateResponse = shim.call("State", &StateRequest {}, Some(PATIENCE)).await?;
        let told = state.pod.unwrap_or_default();
        pod.change(|now| {
            now.namespaces = told.namespaces.unwrap_or_default();
            now.init_pid = told.init_pid;
            now.is_stopped |= told.stopped;
            now.shim = Some(shim.clone());
        });
        for container in self.containers_of(&pod.record.id) {
            match state.containers.iter().find(|c| c.id == container.id) {
                Some(told) => apply(&container, told),
                None => lose(&container),
            }
        }
        let (this, pod) = (self.clone(), pod.clone());
        tokio::spawn(this.listen(pod, shim, events));
        Ok(())
    }

    /// Boxed, because it goes round in a circle: who listens starts and connects again.
    fn listen(self: Arc<Self>, pod: Arc<Pod>, shim: Arc<Shim>, mut events: Messages) -> Listening {
        Box::pin(async move {
            while let Ok(Some(event)) = events.next::<Event>().await {
                self.heard(&event);
            }
            shim.closed().await;
            pod.change(|now| now.shim = None);
            let mut pause = Duration::from_millis(100);
            while !pod.now().is_leaving {
                tracing::warn!(
                    "pod {}: its shim is gone, and is started again",
                    pod.record.id
                );
                match self.shim_of(&pod).await {
                    Ok(_) => return,
                    Err(error) => tracing::error!("pod {}: {error}", pod.record.id),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        })
    }

    fn heard(&self, event: &Event) {
        let Ok(container) = self.container(&event.id, "id") else {
            // Not made whole yet, or removed already.
            return;
        };
        if let Some(state) = &event.container {
            apply(&container, state);
        }
        let kind = match EventKind::try_from(event.kind) {
            Ok(EventKind::Started) => ContainerEventType::ContainerStartedEvent,
            Ok(EventKind::Exited) => ContainerEventType::ContainerStoppedEvent,
            _ => return,
        };
        self.tell(kind, &container, event.timestamp);
    }
}

/// Whether the process that has said to be the pod's shim lives.
fn is_starting(pod: &Pod) -> bool {
    let pid = std::fs::read_to_string(pod.dir.pid_file()).unwrap_or_default();
    let line = std::fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(&*pod.dir.path().to_string_lossy())
}

/// Takes over what a shim says about a container.
pub(crate) fn apply(container: &Container, told: &wire::ContainerState) {
    let state = match ContainerStatus::try_from(told.status) {
        Ok(ContainerStatus::Created) => ContainerState::ContainerCreated,
        Ok(ContainerStatus::Running | ContainerStatus::Paused) => ContainerState::ContainerRunning,
        Ok(ContainerStatus::Exited) => ContainerState::ContainerExited,
        Ok(ContainerStatus::Unspecified) | Err(_) => ContainerState::ContainerUnknown,
    };
    container.change(|now| {
        // An ended container stays one, in whatever order words arrive.
        if now.state == ContainerState::ContainerExited {
            return;
        }
        now.state = state;
        now.pid = told.pid;
        now.started_at = told.started_at;
        if state == ContainerState::ContainerExited {
            now.pid = 0;
            now.exit = Some(told.exit.clone().unwrap_or_default());
        }
    });
}

/// A container that its shim does not know: how it ended stands on disk, or nobody can tell.
fn lose(container: &Container) {
    let exit = crate::record::read::<ExitFile>(&container.pod.dir.exit_file(&container.id));
    container.change(|now| {
        if now.state == ContainerState::ContainerExited {
            return;
        }
        now.state = ContainerState::ContainerExited;
        now.pid = 0;
        now.exit = Some(match exit {
            Ok(file) => {
                now.started_at = file.started_at;
                Exit {
                    code: file.code,
                    signal: file.signal,
                    oom: file.oom,
                    exited_at: file.exited_at,
                    unknown: file.unknown,
                    pid: file.pid,
                }
            }
            Err(_) => Exit {
                code: 255,
                unknown: true,
                exited_at: time::now(),
                ..Exit::default()
            },
        });
    });
}
