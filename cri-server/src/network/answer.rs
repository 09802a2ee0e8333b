//! What plugins answer.

use super::conf::Version;
use crate::error::{Error, Kind, Result};
use serde_json::Value;
use std::net::IpAddr;

/// Most addresses of one pod.
const MAX_ADDRESSES: usize = 256;

/// A result of ADD, in the version that it was asked for in.
///
/// # Errors
/// `Failed` for what is no result.
pub fn result(output: &[u8], version: Version) -> Result<Value> {
    let wrong = |text: String| Error::new(Kind::Failed, format!("answers with no result: {text}"));
    let mut value: Value = serde_json::from_slice(output).map_err(|e| wrong(e.to_string()))?;
    let Some(object) = value.as_object_mut() else {
        return Err(wrong("not a JSON object".to_owned()));
    };
    for key in ["ips", "interfaces", "routes"] {
        if object
            .get(key)
            .is_some_and(|part| !part.is_array() && !part.is_null())
        {
            return Err(wrong(format!("{key} is not an array")));
        }
    }
    // The form has been the same since 0.3.
    object.insert("cniVersion".to_owned(), version.text().into());
    addresses(&value, "")?;
    Ok(value)
}

/// The addresses of an interface in the pod: version 4 first, otherwise in the order of the result. One that names no
/// interface is the pod's.
///
/// # Errors
/// `Failed` for what is no address.
pub fn addresses(result: &Value, interface: &str) -> Result<Vec<IpAddr>> {
    let empty = Vec::new();
    let list = |key: &str| result[key].as_array().unwrap_or(&empty);
    let interfaces = list("interfaces");
    let is_its = |entry: &Value| match entry["interface"].as_u64() {
        None => true,
        Some(index) => {
            let named = usize::try_from(index)
                .ok()
                .and_then(|index| interfaces.get(index));
            named.is_some_and(|found| {
                let inside = found["sandbox"]
                    .as_str()
                    .is_some_and(|path| !path.is_empty());
                inside && (interface.is_empty() || found["name"] == interface)
            })
        }
    };
    let entries = list("ips");
    if entries.len() > MAX_ADDRESSES {
        let text = format!("answers with more than {MAX_ADDRESSES} addresses");
        return Err(Error::new(Kind::Failed, text));
    }
    let mut all = Vec::new();
    for entry in entries {
        let text = entry["address"].as_str().unwrap_or_default();
        let address = text.split_once('/').and_then(|(address, bits)| {
            let address = address.parse::<IpAddr>().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            (bits.parse::<u8>().ok()? <= most).then_some(address)
        });
        let wrong = || {
            let text = format!("answers with an address that is none: {text:?}");
            Error::new(Kind::Failed, text)
        };
        let address = address.ok_or_else(wrong)?;
        if is_its(entry) && !all.contains(&address) {
            all.push(address);
        }
    }
    all.sort_by_key(IpAddr::is_ipv6);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_of_the_pod() {
        let result = json!({
            "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/n"}, {"name": "net1", "sandbox": "/n"}],
            "ips": [
                {"address": "fd00::2/64", "interface": 1},
                {"address": "10.0.0.1/24", "interface": 0},
                {"address": "10.0.0.9/24", "interface": 2},
                {"address": "10.0.0.2/24", "interface": 1},
                {"address": "10.0.0.3/24"},
                {"address": "10.0.0.2/24", "interface": 1},
            ],
        });
        let found = addresses(&result, "eth0").unwrap();
        let found = found.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found, ["10.0.0.2", "10.0.0.3", "fd00::2"]);
        assert!(addresses(&json!({}), "eth0").unwrap().is_empty());
    }

    #[test]
    fn rubbish() {
        let version = Version::STATUS;
        for text in [
            "",
            "hello",
            "3",
            "{\"ips\": 3}",
            "{\"ips\": [3]}",
            "{\"ips\": [{\"address\": \"10.0.0.1\"}]}",
            "{\"ips\": [{\"address\": \"10.0.0.1/33\"}]}",
            "{} {}",
        ] {
            let error = result(text.as_bytes(), version).unwrap_err().to_string();
            assert!(error.starts_with("answers with"), "{text}: {error}");
        }
        let good = result(b"{\"cniVersion\": \"0.3.1\", \"ips\": null}", version).unwrap();
        assert_eq!(good["cniVersion"], "1.1.0");
    }
}
