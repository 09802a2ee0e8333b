//! The few modules of a kernel that the machine needs, with those that they depend on.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What reaches the disks and the port: loaded from the initial RAM disk.
pub const TO_BOOT: &[&str] = &["virtio_pci", "virtio_blk", "virtio_console"];
/// What tests use: on the machine's disk, loaded when the kernel asks.
pub const ON_DISK: &[&str] = &[
    "overlay",
    "fuse",
    "dummy",
    "veth",
    "bridge",
    "tun",
    "br_netfilter",
    "nft_chain_nat",
    "nft_compat",
    "xt_MASQUERADE",
    "xt_addrtype",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_multiport",
    "xt_nat",
    "xt_tcpudp",
    "cls_cgroup",
    "autofs4",
    "binfmt_misc",
];

/// `modules.dep`: each module's path, with the paths of all that it depends on.
type Dependencies = BTreeMap<String, Vec<String>>;

/// Takes the kernel that was unpacked below `kernel/` of the tree: the file to boot and the modules to boot with go to
/// `directory`, the others to the tree's /lib/modules.
///
/// # Errors
/// In words, with what is missing in the kernel.
pub fn install(tree: &Path, directory: &Path) -> Result<(), String> {
    install_files(tree, directory)
        .map_err(|error| format!("install the kernel for {}: {error}", directory.display()))
}

fn install_files(tree: &Path, directory: &Path) -> io::Result<()> {
    let unpacked = tree.join("kernel");
    fs::create_dir_all(directory.join("modules"))?;
    let image = only_entry(&unpacked.join("boot"), "vmlinuz-")?;
    fs::copy(image, directory.join("vmlinuz"))?;
    let from = only_entry(&unpacked.join("lib/modules"), "")?;
    let dependencies = read_dependencies(&from)?;
    for (number, path) in in_order(&dependencies, TO_BOOT)?.iter().enumerate() {
        let name = path.rsplit('/').next().unwrap_or_default();
        let to = directory
            .join("modules")
            .join(format!("{number:02}-{name}"));
        fs::copy(from.join(path), to)?;
    }
    let version = from.file_name().unwrap_or_default();
    let on_disk = tree.join("lib/modules").join(version);
    for path in in_order(&dependencies, &[TO_BOOT, ON_DISK].concat())? {
        let to = on_disk.join(path);
        fs::create_dir_all(to.parent().unwrap_or(&on_disk))?;
        fs::copy(from.join(path), to)?;
    }
    for name in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        fs::copy(from.join(name), on_disk.join(name))?;
    }
    Ok(())
}

fn only_entry(directory: &Path, prefix: &str) -> io::Result<PathBuf> {
    let begins = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with(prefix)
    };
    let mut entries = fs::read_dir(directory)?.flatten().map(|entry| entry.path());
    entries.find(begins).ok_or_else(|| {
        io::Error::other(format!("nothing like {prefix}* in {}", directory.display()))
    })
}

fn read_dependencies(modules: &Path) -> io::Result<Dependencies> {
    let text = fs::read_to_string(modules.join("modules.dep"))?;
    let parse = |line: &str| {
        let (path, others) = line.split_once(':')?;
        Some((
            path.to_owned(),
            others.split_whitespace().map(str::to_owned).collect(),
        ))
    };
    Ok(text.lines().filter_map(parse).collect())
}

/// The paths of these modules, each after those it depends on. What is built into the kernel is in no list and not
/// needed.
fn in_order<'a>(dependencies: &'a Dependencies, names: &[&str]) -> io::Result<Vec<&'a str>> {
    let mut ordered: Vec<&str> = Vec::new();
    for name in names {
        let is = |path: &str| {
            let file = path.rsplit('/').next().unwrap_or_default();
            file.split('.')
                .next()
                .is_some_and(|stem| stem.replace('-', "_") == *name)
        };
        let Some((path, others)) = dependencies.iter().find(|(path, _)| is(path)) else {
            continue;
        };
        // modules.dep names the nearest first.
        let chain = others.iter().rev().chain([path]).map(String::as_str);
        for path in chain {
            if !ordered.contains(&path) {
                ordered.push(path);
            }
        }
    }
    Ok(ordered)
}
