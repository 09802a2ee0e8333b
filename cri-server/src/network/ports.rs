//! Ports of the host that lead to pods. Plugins write rules and look at no others': two pods with the same port would
//! be no error, and one of them never reached.

use super::arguments::HostPort;
use crate::error::{Error, Kind, Result};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The ports that are taken, by pod.
#[derive(Debug, Default)]
pub struct Ports(Mutex<HashMap<String, Vec<HostPort>>>);

impl Ports {
    /// Takes all ports of a pod, or none.
    ///
    /// # Errors
    /// `AlreadyExists` with the port and the pod that has it.
    pub fn take(&self, pod: &str, ports: Vec<HostPort>) -> Result<()> {
        let mut taken = self.lock();
        for port in &ports {
            let others = taken.iter().filter(|(other, _)| *other != pod);
            for (other, theirs) in others {
                if theirs.iter().any(|their| is_same(their, port)) {
                    let HostPort {
                        protocol, number, ..
                    } = port;
                    let text = format!(
                        "config.port_mappings: port {number}/{protocol} of the host leads to pod {other}"
                    );
                    return Err(Error::new(Kind::AlreadyExists, text));
                }
            }
        }
        if !ports.is_empty() {
            taken.insert(pod.to_owned(), ports);
        }
        Ok(())
    }

    /// Gives back the ports of a pod.
    pub fn give_back(&self, pod: &str) {
        self.lock().remove(pod);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<HostPort>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same(a: &HostPort, b: &HostPort) -> bool {
    let address = |port: &HostPort| port.address.parse::<IpAddr>().ok();
    let meet = match (address(a), address(b)) {
        (Some(a), Some(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
        _ => true,
    };
    (a.protocol, a.number) == (b.protocol, b.number) && meet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: &'static str, number: u16, address: &str) -> HostPort {
        HostPort {
            protocol,
            number,
            inside: 1,
            address: address.to_owned(),
        }
    }

    #[test]
    fn the_same_port_leads_to_one_pod() {
        let ports = Ports::default();
        ports
            .take("a", vec![port("tcp", 80, ""), port("tcp", 81, "10.0.0.1")])
            .unwrap();
        for (taken, pod, wanted) in [
            (true, "b", port("tcp", 80, "")),
            (true, "b", port("tcp", 80, "10.0.0.1")),
            (true, "b", port("tcp", 81, "0.0.0.0")),
            (false, "b", port("tcp", 81, "10.0.0.2")),
            (false, "b", port("udp", 80, "")),
            (false, "a", port("tcp", 80, "")),
        ] {
            let done = ports.take(pod, vec![wanted.clone()]);
            assert_eq!(done.is_err(), taken, "{wanted:?}");
            if pod != "a" {
                ports.give_back(pod);
            }
        }
        ports.give_back("a");
        ports.take("b", vec![port("tcp", 80, "")]).unwrap();
    }
}
