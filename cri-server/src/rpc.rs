//! The calls: decode, call, encode. What they do is elsewhere.

mod containers;
mod image;
mod pods;
mod runtime;
mod status;

use crate::error::{Error, Kind, Result};
use crate::images::Images;
use crate::live::Live;
use crate::metrics;
use crate::pods::Pods;
use crate::stats::Layers;
use crate::streaming::Streaming;
use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tokio_stream::Stream;
use tonic::{Code, Response, Status};

/// The longest list in one message of a stream.
const CHUNK: usize = 1000;

/// Both services.
#[derive(Debug, Clone)]
pub struct Service {
    live: Arc<Live>,
    images: Arc<Images>,
    pods: Arc<Pods>,
    layers: Arc<Layers>,
    streaming: Arc<Streaming>,
}

impl Service {
    /// The services on these.
    #[must_use]
    pub fn new(
        live: Arc<Live>,
        images: Arc<Images>,
        pods: Arc<Pods>,
        streaming: Arc<Streaming>,
    ) -> Self {
        Self {
            live,
            images,
            pods,
            layers: Arc::default(),
            streaming,
        }
    }
}

impl Service {
    /// The program that runs pods.
    fn shim(&self) -> Result<PathBuf> {
        crate::program::find(&self.live)
    }

    /// Whether pods can have user namespaces here.
    fn has_user_namespaces(&self) -> bool {
        let limit = std::fs::read_to_string("/proc/sys/user/max_user_namespaces");
        limit.is_ok_and(|limit| limit.trim() != "0")
    }
}

/// Whether labels have all that a selector wants.
fn labels_match(labels: &HashMap<String, String>, selector: &HashMap<String, String>) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// The answer to calls that this server does not know yet.
async fn not_here<T>(call: &str) -> Result<T> {
    Err(Error::new(
        Kind::Unsupported,
        format!("{call} is not implemented"),
    ))
}

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Runs a call, and logs how it ended: here and nowhere else.
async fn answer<T>(
    call: &'static str,
    work: impl Future<Output = Result<T>>,
) -> Result<Response<T>, Status> {
    let begun = Instant::now();
    let done = work.await;
    let took = begun.elapsed();
    match done {
        Ok(answer) => {
            metrics::call(call, Code::Ok, took);
            tracing::debug!("{call}: {took:.1?}");
            Ok(Response::new(answer))
        }
        Err(error) => {
            tracing::warn!("{call}: {error} ({took:.1?})");
            let status = Status::from(error);
            metrics::call(call, status.code(), took);
            Err(status)
        }
    }
}

/// Cuts a list into messages of a stream: none is empty, nothing comes twice.
fn chunks<T, M, W>(items: Vec<T>, wrap: W) -> Answers<M>
where
    T: Send + 'static,
    M: Send + 'static,
    W: Fn(Vec<T>) -> M + Send + 'static,
{
    let mut items = items.into_iter();
    let pieces = std::iter::from_fn(move || {
        let piece = items.by_ref().take(CHUNK).collect::<Vec<_>>();
        (!piece.is_empty()).then(|| Ok(wrap(piece)))
    });
    Box::pin(tokio_stream::iter(pieces))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt as _;

    #[tokio::test]
    async fn lists_are_cut_without_rest_or_repetition() {
        for count in [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let all = (0..count).collect::<Vec<_>>();
            let pieces = chunks(all.clone(), |piece| piece).collect::<Vec<_>>().await;
            let pieces = pieces.into_iter().map(Result::unwrap).collect::<Vec<_>>();
            assert!(pieces.iter().all(|p| !p.is_empty() && p.len() <= CHUNK));
            assert_eq!(pieces.concat(), all);
        }
    }
}
