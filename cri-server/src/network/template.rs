//! A network made from a template when kubelet tells the pods' addresses, for clusters without a network add-on.

use super::Networks;
use super::conf::Network;
use crate::error::{Context, Result, invalid};
use crate::images::blocking;
use crate::record;
use crate::server::make_dir;
use serde_json::json;
use std::net::IpAddr;

/// The file that is made.
const NAME: &str = "10-ocirun.conflist";

impl Networks {
    /// Makes the configuration for the pods' addresses, if there is a template and nobody else's configuration.
    ///
    /// # Errors
    /// `Invalid` for what are no ranges of addresses, and for a template that makes no configuration.
    pub async fn update(&self, pod_cidr: &str) -> Result<()> {
        let config = self.live.get();
        let (template, dir) = (&config.network.template, config.network.conf_dir.clone());
        if pod_cidr.is_empty() || template.as_os_str().is_empty() || dir.as_os_str().is_empty() {
            return Ok(());
        }
        let ranges = ranges(pod_cidr)?;
        let path = dir.join(NAME);
        let theirs = super::conf::first(&dir).is_ok();
        if theirs && !path.exists() {
            tracing::info!("network: the configuration in {} stays", dir.display());
            return Ok(());
        }
        let template = template.clone();
        blocking(move || {
            let text = std::fs::read_to_string(&template);
            let text = filled(&text.call(|| format!("read {template:?}"))?, &ranges);
            Network::parse(text.as_bytes()).map_err(|e| e.at(template.display()))?;
            make_dir(&dir, 0o755)?;
            record::write_file(&path, text.as_bytes())
        })
        .await
    }
}

/// The ranges of a list with commas.
fn ranges(text: &str) -> Result<Vec<(IpAddr, String)>> {
    let wrong = || {
        invalid(
            "runtime_config.network_config.pod_cidr",
            format!("{text:?} is not a list of ranges of addresses"),
        )
    };
    let range = |word: &str| {
        let (address, bits) = word.trim().split_once('/')?;
        let address = address.parse::<IpAddr>().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let is_right = bits.parse::<u8>().is_ok_and(|bits| bits <= most);
        is_right.then(|| (address, word.trim().to_owned()))
    };
    let all = text.split(',').map(range).collect::<Option<Vec<_>>>();
    all.ok_or_else(wrong)
}

fn filled(template: &str, ranges: &[(IpAddr, String)]) -> String {
    let first = ranges.first().map_or("", |(_, range)| range);
    let subnets = ranges.iter().map(|(_, range)| json!([{"subnet": range}]));
    let all = |address: &IpAddr| {
        if address.is_ipv4() {
            "0.0.0.0/0"
        } else {
            "::/0"
        }
    };
    let mut routes = ranges
        .iter()
        .map(|(address, _)| all(address))
        .collect::<Vec<_>>();
    routes.dedup();
    let routes = routes.iter().map(|all| json!({"dst": all}));
    template
        .replace("{{.PodCIDR}}", first)
        .replace(
            "{{.Ranges}}",
            &serde_json::Value::from_iter(subnets).to_string(),
        )
        .replace(
            "{{.Routes}}",
            &serde_json::Value::from_iter(routes).to_string(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families() {
        let template = r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "bridge", "first": "{{.PodCIDR}}",
            "ipam": {"ranges": {{.Ranges}}, "routes": {{.Routes}}}}]}"#;
        let text = filled(template, &ranges("10.1.0.0/24, fd00::/64").unwrap());
        let network = Network::parse(text.as_bytes()).unwrap();
        let config = &network.plugins[0].config;
        assert_eq!(config["first"], "10.1.0.0/24");
        assert_eq!(
            config["ipam"]["ranges"],
            json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]])
        );
        assert_eq!(
            config["ipam"]["routes"],
            json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}])
        );
    }

    #[test]
    fn no_ranges() {
        for text in ["x", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/8,", "\"/8"] {
            assert!(ranges(text).is_err(), "{text}");
        }
    }
}
