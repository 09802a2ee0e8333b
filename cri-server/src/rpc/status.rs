//! What the server says of itself.

use super::Service;
use crate::api::{
    CgroupDriver, LinuxRuntimeConfiguration, RuntimeCondition, RuntimeConfigRequest,
    RuntimeConfigResponse, RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures, RuntimeStatus,
    StatusRequest, StatusResponse, UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse,
    VersionRequest, VersionResponse,
};
use crate::config;
use crate::error::{Result, invalid};
use serde_json::json;
use std::collections::HashMap;

/// The version of kubelet's side of the interface, which never changed.
const KUBELET_API: &str = "0.1.0";
/// The longest version that a client may say it has, in bytes.
const MAX_VERSION: usize = 256;

pub(super) async fn version(_: &Service, request: VersionRequest) -> Result<VersionResponse> {
    if request.version.len() > MAX_VERSION {
        return Err(invalid(
            "version",
            format!("is longer than {MAX_VERSION} bytes"),
        ));
    }
    Ok(VersionResponse {
        version: KUBELET_API.to_owned(),
        runtime_name: "ocirun".to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: "v1".to_owned(),
    })
}

pub(super) async fn status(service: &Service, request: StatusRequest) -> Result<StatusResponse> {
    let mut info = HashMap::new();
    if request.verbose {
        info.insert("config".to_owned(), shown(service));
        let network = crate::network::shown(&service.pods.networks).to_string();
        info.insert("cniconfig".to_owned(), network);
    }
    let runtime = match service.shim() {
        Ok(_) => condition("RuntimeReady", true, "", ""),
        Err(error) => condition("RuntimeReady", false, "ShimNotFound", &error.to_string()),
    };
    let networks = &service.pods.networks;
    let network = match networks.ready().await {
        Ok(()) => condition("NetworkReady", true, "", ""),
        Err(error) => {
            let text = error.to_string();
            condition("NetworkReady", false, "NetworkPluginNotReady", &text)
        }
    };
    Ok(StatusResponse {
        status: Some(RuntimeStatus {
            conditions: vec![runtime, network],
        }),
        info,
        runtime_handlers: std::iter::once(String::new())
            .chain(service.live.get().handlers.keys().cloned())
            .map(|name| RuntimeHandler {
                name,
                features: Some(RuntimeHandlerFeatures {
                    recursive_read_only_mounts: true,
                    user_namespaces: service.has_user_namespaces(),
                }),
            })
            .collect(),
        features: Some(RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: service.has_user_namespaces(),
        }),
    })
}

fn condition(kind: &str, status: bool, reason: &str, message: &str) -> RuntimeCondition {
    RuntimeCondition {
        r#type: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// What kubeadm (`sandboxImage`) and people look for.
fn shown(service: &Service) -> String {
    let config = service.live.get();
    json!({
        "sandboxImage": config.sandbox_image,
        "rootDir": config.root,
        "stateDir": config.state,
        "listen": config.listen,
        "cgroupDriver": match config.cgroup_driver.resolved() {
            config::CgroupDriver::Systemd => "systemd",
            _ => "cgroupfs",
        },
        "capabilities": config.container.capabilities,
        "hostsDirs": config.registry.hosts_dirs,
    })
    .to_string()
}

pub(super) async fn runtime_config(
    service: &Service,
    _: RuntimeConfigRequest,
) -> Result<RuntimeConfigResponse> {
    let driver = match service.live.get().cgroup_driver.resolved() {
        config::CgroupDriver::Systemd => CgroupDriver::Systemd,
        _ => CgroupDriver::Cgroupfs,
    };
    Ok(RuntimeConfigResponse {
        linux: Some(LinuxRuntimeConfiguration {
            cgroup_driver: driver.into(),
        }),
    })
}

/// kubelet tells the ranges of the pods' addresses: nothing follows from it where there is no template of a network, for
/// they then belong to whoever sets that up.
pub(super) async fn update_runtime_config(
    service: &Service,
    request: UpdateRuntimeConfigRequest,
) -> Result<UpdateRuntimeConfigResponse> {
    let network = request
        .runtime_config
        .and_then(|config| config.network_config);
    let ranges = network.unwrap_or_default().pod_cidr;
    service.pods.networks.update(&ranges).await?;
    Ok(UpdateRuntimeConfigResponse {})
}
