//! What went through the interfaces of pods: read in their namespaces, where the kernel shows it.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;

/// An interface and its counters since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the pod.
    pub name: String,
    /// What came in.
    pub received: Counters,
    /// What went out.
    pub sent: Counters,
}

/// Counters of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were not what they should be.
    pub errors: u64,
    /// Packets that there was no room for.
    pub dropped: u64,
}

/// The interfaces of each namespace but its loopback device; none of one that cannot be reached any more.
pub async fn of(namespaces: Vec<PathBuf>) -> Vec<Vec<Interface>> {
    let count = namespaces.len();
    let (tell, told) = oneshot::channel();
    // A thread of its own, which ends in the last of them.
    let thread = std::thread::Builder::new().name("counters".to_owned());
    let spawned = thread.spawn(move || {
        let all = namespaces.iter().map(|path| read(path).unwrap_or_default());
        // Who asked may be gone.
        drop(tell.send(all.collect::<Vec<_>>()));
    });
    match spawned {
        Ok(_) => told.await.unwrap_or_else(|_| vec![Vec::new(); count]),
        Err(error) => {
            tracing::warn!("counters of pods' networks: {error}");
            vec![Vec::new(); count]
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<Interface>> {
    let file = std::fs::File::open(path)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(parse(&std::fs::read_to_string(
        "/proc/thread-self/net/dev",
    )?))
}

/// The table of proc_net(5): names, and sixteen numbers each.
fn parse(table: &str) -> Vec<Interface> {
    let lines = table.lines().skip(2).filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers = numbers.split_whitespace().map(str::parse::<u64>);
        let numbers = numbers.collect::<Result<Vec<_>, _>>().ok()?;
        let counters = |from: usize| {
            let four = numbers.get(from..from + 4)?;
            Some(Counters {
                bytes: four[0],
                packets: four[1],
                errors: four[2],
                dropped: four[3],
            })
        };
        Some(Interface {
            name: name.trim().to_owned(),
            received: counters(0)?,
            sent: counters(8)?,
        })
    });
    lines.filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table() {
        let table = "Inter-|   Receive    |  Transmit\n face |bytes packets errs drop ...\n\
            \u{20}   lo:   10 1 0 0 0 0 0 0   10 1 0 0 0 0 0 0\n\
            \u{20} eth0: 1500 12 1 2 0 0 0 3 700 8 4 5 0 0 0 0\n\
            \u{20} cut: 1 2\n";
        let found = parse(table);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "eth0");
        let counters = |bytes, packets, errors, dropped| Counters {
            bytes,
            packets,
            errors,
            dropped,
        };
        assert_eq!(found[0].received, counters(1500, 12, 1, 2));
        assert_eq!(found[0].sent, counters(700, 8, 4, 5));
    }
}
