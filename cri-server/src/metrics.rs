//! What Prometheus may ask for, over HTTP at the address of `metrics_listen`; nothing is counted without one.
//!
//! | name | labels | what |
//! |---|---|---|
//! | `ocirun_cri_call_seconds` | `call`, `code` | how long calls took, by their gRPC code |
//! | `ocirun_cri_pod_start_seconds` | `phase` | how long the parts of a pod's start took |
//! | `ocirun_cri_pods` | `state` | pods, `ready` and `stopped` |
//! | `ocirun_cri_containers` | `state` | containers |

use crate::api::ContainerState;
use crate::container::word;
use crate::error::{Error, Kind, Result};
use crate::pods::Pods;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

/// Upper bounds of the histograms, in seconds.
const BUCKETS: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0, 60.0,
];

/// How often what is there is counted.
const PAUSE: Duration = Duration::from_secs(5);

/// Serves the metrics, for as long as the program runs.
///
/// # Errors
/// `Failed` where nobody can listen at the address.
pub fn serve(address: SocketAddr, pods: Arc<Pods>) -> Result<()> {
    let failed = |error: metrics_exporter_prometheus::BuildError| {
        Error::new(Kind::Failed, format!("metrics at {address}: {error}"))
    };
    PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets(&BUCKETS)
        .and_then(PrometheusBuilder::install)
        .map_err(failed)?;
    tokio::spawn(async move {
        loop {
            count(&pods);
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "no count comes near 2^52")]
fn count(pods: &Pods) {
    let all = pods.pods();
    let stopped = all.iter().filter(|pod| pod.now().is_stopped).count();
    for (state, count) in [("ready", all.len() - stopped), ("stopped", stopped)] {
        metrics::gauge!("ocirun_cri_pods", "state" => state).set(count as f64);
    }
    let containers = pods.containers();
    for state in [
        ContainerState::ContainerCreated,
        ContainerState::ContainerRunning,
        ContainerState::ContainerExited,
        ContainerState::ContainerUnknown,
    ] {
        let of_state = containers.iter().filter(|c| c.now().state == state);
        let count = of_state.count() as f64;
        metrics::gauge!("ocirun_cri_containers", "state" => word(state)).set(count);
    }
}

/// A call has ended.
pub(crate) fn call(call: &'static str, code: Code, took: Duration) {
    let code = format!("{code:?}");
    metrics::histogram!("ocirun_cri_call_seconds", "call" => call, "code" => code).record(took);
}

/// A part of a pod's start has ended.
pub(crate) fn pod_phase(phase: &'static str, took: Duration) {
    metrics::histogram!("ocirun_cri_pod_start_seconds", "phase" => phase).record(took);
}
