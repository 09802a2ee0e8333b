//! From a failure of the child to an error in the words of the configuration.

use nix::errno::Errno;

use crate::error::{Error, ErrorKind, describe};
use crate::init::Step;
use crate::plan::Plan;
use crate::plan::process::Process;
use crate::sync::Failure;

/// What every error of a start begins with. Callers search for it.
pub(super) const START: &str = "unable to start container process";

/// The error of a container's first process.
pub(super) fn of_init(failure: &Failure, plan: &Plan) -> Error {
    if let Some(error) = of_program(failure, &plan.process) {
        return error.context(START);
    }
    let index = usize::from(failure.element);
    let element = match failure.step {
        Step::Mount => plan
            .mounts
            .get(index)
            .map(|mount| format!("mounts[{index}] {:?}", mount.destination)),
        Step::Device => {
            let device = plan
                .devices
                .iter()
                .find(|device| device.index == Some(index));
            Some(device.map_or_else(
                || "default devices".to_owned(),
                |device| format!("linux.devices[{index}] {:?}", device.path),
            ))
        }
        Step::MaskedPath => plan
            .masked_paths
            .get(index)
            .map(|path| format!("linux.maskedPaths[{index}] {path:?}")),
        Step::ReadonlyPath => plan
            .readonly_paths
            .get(index)
            .map(|path| format!("linux.readonlyPaths[{index}] {path:?}")),
        Step::Sysctl => plan
            .sysctls
            .get(index)
            .map(|sysctl| format!("linux.sysctl {:?}", sysctl.key)),
        Step::NetDevice => plan
            .net_devices
            .get(index)
            .map(|device| format!("linux.netDevices {:?}", device.outside)),
        Step::JoinNamespace => {
            let joined = plan
                .namespaces
                .joined
                .iter()
                .find(|joined| joined.index == index);
            joined.map(|joined| format!("linux.namespaces[{index}] {}", joined.kind.name()))
        }
        _ => None,
    };
    general(failure, element)
        .context("error during container init")
        .context(START)
}

/// The error of a process that `exec` was to start.
pub(super) fn of_exec(failure: &Failure, process: &Process) -> Error {
    of_program(failure, process)
        .unwrap_or_else(|| general(failure, None))
        .context(START)
}

/// Callers tell a missing program from all else by the words of these.
fn of_program(failure: &Failure, process: &Process) -> Option<Error> {
    if !matches!(failure.step, Step::Program | Step::Exec) {
        return None;
    }
    let name = &process.program.name;
    let what = match failure.errno {
        Errno::ENOENT if failure.step == Step::Exec => return Some(late(failure, name)),
        Errno::ENOENT if name.contains('/') => format!("stat {name}: no such file or directory"),
        Errno::ENOENT => "executable file not found in $PATH".to_owned(),
        errno if failure.step == Step::Exec => return Some(late_with(failure, name, errno)),
        // As execve(2) has it too: older callers know the code 126 by these words alone.
        Errno::EISDIR => "is a directory: permission denied".to_owned(),
        errno => errno.desc().to_lowercase(),
    };
    Some(Error::new(
        ErrorKind::Executable(failure.errno),
        format!("exec: {name:?}: {what}"),
    ))
}

fn late(failure: &Failure, name: &str) -> Error {
    late_with(failure, name, failure.errno)
}

/// The program is there, and the kernel would not run it: its interpreter is missing, or it is no program.
fn late_with(failure: &Failure, name: &str, errno: Errno) -> Error {
    let text = format!(
        "exec {name}: {}: {}",
        errno.desc().to_lowercase(),
        failure.call()
    );
    Error::new(ErrorKind::Executable(errno), text)
}

fn general(failure: &Failure, element: Option<String>) -> Error {
    let number = u32::from(failure.element) + 1;
    let element = element.unwrap_or_else(|| match failure.step {
        Step::Cgroup => "unable to apply cgroup configuration".to_owned(),
        Step::CreateContainerHook => format!("error running createContainer hook #{number}"),
        Step::StartContainerHook => format!("error running startContainer hook #{number}"),
        Step::UserNamespace => "user namespace".to_owned(),
        Step::JoinNamespace => "namespaces".to_owned(),
        Step::Session => "session".to_owned(),
        Step::OomScore => "process.oomScoreAdj".to_owned(),
        Step::Keyring => "session keyring".to_owned(),
        Step::AppArmor => "process.apparmorProfile".to_owned(),
        Step::SeLinux => "process.selinuxLabel".to_owned(),
        Step::Network => "network namespace".to_owned(),
        Step::Propagation => "linux.rootfsPropagation".to_owned(),
        Step::Root => "root.path".to_owned(),
        Step::Dev => "/dev".to_owned(),
        Step::Terminal => "process.terminal".to_owned(),
        Step::Hostname => "hostname".to_owned(),
        Step::Domainname => "domainname".to_owned(),
        Step::Pivot => "root".to_owned(),
        Step::Personality => "linux.personality".to_owned(),
        Step::MemoryPolicy => "linux.memoryPolicy".to_owned(),
        Step::Affinity => "process.execCPUAffinity".to_owned(),
        Step::Scheduler => "process.scheduler".to_owned(),
        Step::IoPriority => "process.ioPriority".to_owned(),
        Step::Rlimit => format!("process.rlimits[{}]", failure.element),
        Step::Stdio => "standard streams".to_owned(),
        Step::Bounding | Step::Capabilities => "process.capabilities".to_owned(),
        Step::User => "process.user".to_owned(),
        Step::Cwd => "process.cwd".to_owned(),
        Step::NoNewPrivileges => "process.noNewPrivileges".to_owned(),
        Step::Seccomp => "linux.seccomp".to_owned(),
        Step::Landlock => "annotations org.ocirun.landlock".to_owned(),
        step => format!("{step:?}"),
    });
    let is_hook = matches!(
        failure.step,
        Step::CreateContainerHook | Step::StartContainerHook
    );
    if is_hook {
        return Error::new(ErrorKind::Hook, format!("{element}: {}", failure.call()));
    }
    let text = format!("{element}: {}: {}", failure.call(), describe(failure.errno));
    let error = Error::new(ErrorKind::Os(failure.errno), text);
    if (failure.step, failure.errno) == (Step::Scheduler, Errno::EPERM) {
        return error.also("a real-time policy may need linux.resources.cpu.realtimeRuntime");
    }
    error
}
