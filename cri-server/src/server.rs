//! The socket, and what is served on it.

use crate::api::image_service_server::ImageServiceServer;
use crate::api::runtime_service_server::RuntimeServiceServer;
use crate::error::{Context, Error, Kind, Result};
use crate::images::Images;
use crate::live::Live;
use crate::pods::Pods;
use crate::rpc::Service;
use crate::streaming::Streaming;
use crate::{metrics, notify, rootfs};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

/// Largest request: kubelet's own limit is 16 MiB.
const MAX_REQUEST: usize = 32 << 20;

/// Serves until `shutdown`, and then until the running calls have ended.
///
/// # Errors
/// What keeps it from starting: another daemon on the same state, a socket that cannot be made, a broken store.
pub async fn serve(live: Arc<Live>, shutdown: impl Future<Output = ()>) -> Result<()> {
    let config = live.get();
    let _alone = alone(&config.state)?;
    raise_descriptors();
    make_dir(&rootfs::place(&config.state), 0o711)?;
    // kubelet measures the file system of both, before there is anything on it.
    make_dir(&config.root.join("containers"), 0o700)?;
    let images = Arc::new(Images::open(live.clone())?);
    let pods = Arc::new(Pods::new(live.clone(), images.clone()));
    pods.recover().await?;
    tokio::spawn(pods.networks.clone().tend());
    if let Some(address) = config.metrics_address() {
        metrics::serve(address, pods.clone())?;
    }
    let streaming = Streaming::start(pods.clone()).await?;
    let service = Service::new(live, images, pods, streaming);
    let listener = listen(&config.listen)?;
    notify::tell("READY=1");
    tracing::info!("serving on {}", config.listen.display());
    let served = tonic::transport::Server::builder()
        .add_service(
            RuntimeServiceServer::new(service.clone()).max_decoding_message_size(MAX_REQUEST),
        )
        .add_service(ImageServiceServer::new(service).max_decoding_message_size(MAX_REQUEST))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown)
        .await;
    // The next start makes it anew; whoever connects meanwhile is told at once.
    drop(std::fs::remove_file(&config.listen));
    served.map_err(|error| Error::new(Kind::Failed, format!("serve: {error}")))
}

/// Takes the state directory for this process alone, as long as the descriptor is open. A lock of flock(2) would be held
/// past its end by a child that has not come to its execve(2) yet.
fn alone(state: &Path) -> Result<OwnedFd> {
    make_dir(state, 0o711)?;
    let path = state.join("cri.lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
        .call(|| format!("open {path:?}"))?;
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
            let text = format!("{}: another ocirun-cri is running", state.display());
            Err(Error::new(Kind::WrongState, text))
        }
        done => done
            .call(|| format!("fcntl({path:?}, F_SETLK)"))
            .map(|()| file),
    }
}

/// Makes a directory with those above it.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(mode);
    builder.create(path).call(|| format!("mkdir {path:?}"))
}

/// A socket for its owner alone. A stale one is replaced: who holds the lock of the state is the only daemon.
fn listen(path: &Path) -> Result<UnixListener> {
    if let Some(parent) = path.parent() {
        make_dir(parent, 0o711)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => {
            std::fs::remove_file(path).call(|| format!("remove {path:?}"))?;
        }
        Ok(_) => {
            let text = format!("{path:?} is there and is not a socket");
            return Err(Error::new(Kind::AlreadyExists, text));
        }
        Err(_) => {}
    }
    let old = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(old);
    bound.call(|| format!("bind {path:?}"))
}

/// Many layers need many descriptors; the soft limit is often only a habit.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("limit of open files stays {:?}: {error}", limit.current);
    }
}
