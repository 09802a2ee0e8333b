//! Streams of Exec, Attach and PortForward: an address each, with a token for one use, at a HTTP server that speaks
//! SPDY/3.1 and WebSocket from there on.
//!
//! ```text
//!  http ─ agrees ─▶ spdy or websocket ─ Session ─▶ process ── pipes ── (container)
//!                                    └─ pairs ──▶ forward ── TCP ──── (pod's network)
//! ```
//! [`spdy_frame`] and [`ws_frame`] are pure; [`wire`] bounds what waits. A client that does not read makes the program
//! wait that it asked for, and nobody else.

pub mod encoded;
pub mod forward;
mod http;
pub mod outcome;
mod process;
pub mod session;
pub mod spdy;
pub mod spdy_frame;
mod tls;
pub mod tokens;
pub mod websocket;
pub mod wire;
pub mod ws_frame;

use crate::api::{AttachRequest, ContainerState, ExecRequest, PortForwardRequest};
use crate::container::word;
use crate::error::{Context, Error, Kind, Result, invalid};
use crate::images::blocking;
use crate::pods::{Container, Pods};
use crate::spec::exec_process;
use forward::Place;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use session::Wanted;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tls::Tls;
use tokens::Tokens;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// How long a client may take to say what it wants.
const HEADERS: Duration = Duration::from_secs(10);
/// Longest beginning of a request, in bytes.
const MAX_HEADERS: usize = 64 << 10;
/// Most connections at a time.
const MOST: usize = 4096;
/// After an error of accept(2).
const PAUSE: Duration = Duration::from_millis(100);

/// The server of streams.
#[derive(Debug)]
pub struct Streaming {
    base: String,
    tokens: Tokens<Asked>,
    pods: Arc<Pods>,
    tls: Option<Tls>,
}

/// What a token stands for.
#[derive(Debug)]
enum Asked {
    Exec {
        container: Arc<Container>,
        process: Vec<u8>,
        wanted: Wanted,
    },
    Attach {
        container: Arc<Container>,
        wanted: Wanted,
    },
    PortForward(Place),
}

impl Asked {
    fn verb(&self) -> &'static str {
        match self {
            Self::Exec { .. } => "exec",
            Self::Attach { .. } => "attach",
            Self::PortForward(_) => "portforward",
        }
    }
}

impl Streaming {
    /// Listens, and serves for as long as the program runs.
    ///
    /// # Errors
    /// What keeps it from listening, and certificates that are none.
    pub async fn start(pods: Arc<Pods>) -> Result<Arc<Self>> {
        let config = pods.live.get();
        let address = &config.streaming.listen;
        let listener = TcpListener::bind(address).await;
        let listener = listener.call(|| format!("bind {address} (streaming.listen)"))?;
        let local = listener.local_addr().call(|| "getsockname")?;
        let tls = Tls::load(&config.streaming)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let this = Arc::new(Self {
            base: format!("{scheme}://{}", reachable(local)),
            tokens: Tokens::default(),
            pods,
            tls,
        });
        tokio::spawn(this.clone().accept(listener));
        Ok(this)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(MOST));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("streams: accept: {error}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let this = self.clone();
            tokio::spawn(async move {
                if let Err(error) = this.serve_http(stream).await {
                    tracing::debug!("stream: {error}");
                }
                drop(place);
            });
        }
    }

    async fn serve_http(self: Arc<Self>, stream: TcpStream) -> Result<()> {
        keep_alive(&stream);
        // Without it, a window's every key waits for the answer to the one before.
        stream
            .set_nodelay(true)
            .call(|| "setsockopt(TCP_NODELAY)")?;
        let socket = stream.as_fd().try_clone_to_owned();
        let socket = Arc::new(socket.call(|| "fcntl(F_DUPFD_CLOEXEC)")?);
        match &self.tls {
            None => self.clone().serve_on(stream, socket).await,
            Some(tls) => {
                let accepted = tokio::time::timeout(HEADERS, tls.accept(stream)).await;
                let late = |_| Error::new(Kind::Deadline, "TLS: no handshake in time");
                let stream = accepted.map_err(late)?.call(|| "TLS")?;
                self.clone().serve_on(stream, socket).await
            }
        }
    }

    async fn serve_on<I>(self: Arc<Self>, io: I, socket: Arc<OwnedFd>) -> Result<()>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = hyper::service::service_fn(move |request| {
            http::answer(self.clone(), socket.clone(), request)
        });
        let served = protocol()
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades()
            .await;
        served.map_err(|error| Error::new(Kind::Failed, error.to_string()))
    }

    fn idle(&self) -> Duration {
        Duration::from_secs(self.pods.live.get().streaming.idle_seconds)
    }

    fn url(&self, asked: Asked) -> Result<String> {
        let verb = asked.verb();
        Ok(format!("{}/{verb}/{}", self.base, self.tokens.put(asked)?))
    }

    /// The address at which a program is run.
    ///
    /// # Errors
    /// `Invalid` with the field's name; `NotFound` and `WrongState` for the container.
    pub async fn exec(&self, request: ExecRequest) -> Result<String> {
        let wanted = Wanted {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        };
        check(wanted)?;
        crate::exec::check_command(&request.cmd)?;
        let container = self.running(&request.container_id)?;
        let path = container.dir().join("config.json");
        let process = blocking(move || {
            let config = std::fs::read(&path).call(|| format!("read {path:?}"))?;
            exec_process(&config, &request.cmd, wanted.tty)
        });
        self.url(Asked::Exec {
            process: process.await?,
            container,
            wanted,
        })
    }

    /// The address at which a container is attached to.
    ///
    /// # Errors
    /// As for [`Self::exec`].
    pub fn attach(&self, request: &AttachRequest) -> Result<String> {
        let wanted = Wanted {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        };
        check(wanted)?;
        let container = self.running(&request.container_id)?;
        let (has_stdin, has_tty) = container.change(|now| {
            let config = &now.record.config;
            (config.stdin, config.tty)
        });
        if wanted.tty != has_tty {
            let text = if has_tty {
                "is at a terminal"
            } else {
                "is at no terminal"
            };
            return Err(invalid("tty", format!("container {} {text}", container.id)));
        }
        if wanted.stdin && !has_stdin {
            let text = format!("container {} has no standard input", container.id);
            return Err(Error::new(Kind::WrongState, text));
        }
        self.url(Asked::Attach { container, wanted })
    }

    /// The address at which ports of a pod are reached.
    ///
    /// # Errors
    /// `Invalid` with the field's name; `NotFound` and `WrongState` for the pod.
    pub fn port_forward(&self, request: &PortForwardRequest) -> Result<String> {
        let pod = self.pods.pod(&request.pod_sandbox_id, "pod_sandbox_id")?;
        if pod.now().is_stopped {
            let text = format!("pod {} was stopped", pod.record.id);
            return Err(Error::new(Kind::WrongState, text));
        }
        let mut ports = Vec::new();
        for (index, port) in request.port.iter().enumerate() {
            let number = u16::try_from(*port).ok().filter(|port| *port > 0);
            let wrong = || invalid(format!("port[{index}]"), format!("{port} is not a port"));
            ports.push(number.ok_or_else(wrong)?);
        }
        let netns = pod
            .has_network()
            .then(|| self.pods.network_path(&pod.record.id));
        self.url(Asked::PortForward(Place { netns, ports }))
    }

    fn running(&self, id: &str) -> Result<Arc<Container>> {
        let container = self.pods.container(id, "container_id")?;
        let state = container.now().state;
        if state != ContainerState::ContainerRunning {
            let text = format!("container {} is not running: {}", container.id, word(state));
            return Err(Error::new(Kind::WrongState, text));
        }
        Ok(container)
    }
}

/// HTTP, as it is spoken here.
fn protocol() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(MAX_HEADERS);
    builder
}

/// Serves a client whom every token is good for, until it has its upgrade.
#[cfg(any(test, fuzzing))]
pub(crate) async fn fuzz(io: tokio::io::DuplexStream) {
    let service = hyper::service::service_fn(http::agreed);
    let connection = protocol().serve_connection(TokioIo::new(io), service);
    // What is no HTTP is an error of the connection alone.
    let _ = connection.with_upgrades().await;
}

fn check(wanted: Wanted) -> Result<()> {
    if wanted.tty && wanted.stderr {
        return Err(invalid("stderr", "a terminal has one output"));
    }
    if !wanted.stdin && !wanted.stdout && !wanted.stderr {
        return Err(invalid(
            "stdin",
            "neither it nor stdout nor stderr is asked for",
        ));
    }
    Ok(())
}

/// The address by which kubelet, which is on the same machine, reaches what listens here.
fn reachable(local: SocketAddr) -> SocketAddr {
    let ip = match local.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, local.port())
}

/// A client whose machine is gone is noticed in a minute or two.
fn keep_alive(stream: &TcpStream) {
    use rustix::net::sockopt;
    let seconds = Duration::from_secs;
    let done = sockopt::set_socket_keepalive(stream, true)
        .and_then(|()| sockopt::set_tcp_keepidle(stream, seconds(30)))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, seconds(10)))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, 3));
    if let Err(error) = done {
        tracing::debug!("streams: setsockopt: {error}");
    }
}
