//! Everything that is opened and made before the clone: what can fail for a dull reason fails here.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::create::{CreateOptions, InitProgram, Terminal};
use super::idmap::UserNamespaces;
use super::net_devices;
use crate::bundle::Bundle;
use crate::cgroup::Cgroup;
use crate::error::{Call, Context, Error, Result};
use crate::files;
use crate::hooks::HookState;
use crate::init::{BindSource, Pivot, Prepared, TerminalTo, Wait};
use crate::kernel::mount::{self, Propagation, Scope};
use crate::plan::Plan;
use crate::plan::devices::Device;
use crate::plan::mounts::{Kind, Mount};
use crate::plan::namespaces::Joined;
use crate::seal;
use crate::spec::NamespaceKind;

/// First descriptor that programs do not inherit by themselves.
const FIRST: i32 = 3;

/// Opens what the child of `plan` needs.
pub(super) fn prepare(
    plan: &Plan,
    bundle: &Bundle,
    cgroup: &Cgroup,
    options: &CreateOptions,
    hook_state: HookState,
) -> Result<Prepared> {
    let can_mount = plan.can_mount;
    if options.root.is_some() && !can_mount {
        return Err(Error::unsupported(
            "a detached root needs the right to mount (CAP_SYS_ADMIN)",
        ));
    }
    let root = bundle.open_root()?;
    let joined = joined(plan)?;
    let mut users = UserNamespaces::new(joined_user(plan, &joined));
    let root_tree = can_mount
        .then(|| root_tree(root.dir.as_fd(), options.root.as_ref(), plan, &mut users))
        .transpose()
        .context(|| "root")?;
    let mut binds = Vec::with_capacity(plan.mounts.len());
    for (index, mount) in plan.mounts.iter().enumerate() {
        let source = bind(mount, index, bundle, plan)?;
        map_owners((mount, index), source.as_ref(), &mut users)?;
        binds.push(source);
    }
    let views = cgroup.views().map(|(name, path)| {
        let name = name.strip_prefix("name=").unwrap_or(name);
        (
            CString::new(name).unwrap_or_default(),
            CString::new(path.as_os_str().as_bytes()).unwrap_or_default(),
        )
    });
    Ok(Prepared {
        root,
        root_tree,
        binds,
        device_trees: plan
            .devices
            .iter()
            .map(|device| bound_device(device, can_mount))
            .collect::<Result<_>>()?,
        joined,
        links: net_devices::look_at(&plan.net_devices)?,
        cgroup_views: views.collect(),
        unified_view: None,
        terminal: match &options.terminal {
            Terminal::Caller => TerminalTo::Caller,
            Terminal::Socket(path) => {
                TerminalTo::Socket(files::connect_to(path).context(|| "console socket")?)
            }
        },
        keyring: options
            .keyring
            .then(|| CString::new(format!("_ses.{}", hook_state.id)).unwrap_or_default()),
        pivot: if options.pivot {
            Pivot::PivotRoot
        } else {
            Pivot::MoveRoot
        },
        first_closed: FIRST + options.preserved_fds,
        wait: Wait::Leave,
        hook_state,
        init: options.init.as_ref().map(sealed).transpose()?,
    })
}

fn sealed(init: &InitProgram) -> Result<OwnedFd> {
    seal::sealed_memory(c"ocirun-init", &mut &*init.bytes).context(|| "init program")
}

/// The root as a detached mount: a clone of what is at `at`, or the one that was given. The root mount itself is shared
/// only once it is the root, for pivot_root wants it otherwise.
fn root_tree<'a>(
    at: BorrowedFd<'_>,
    given: Option<&OwnedFd>,
    plan: &'a Plan,
    users: &mut UserNamespaces<'a>,
) -> Result<OwnedFd> {
    let tree = match given {
        // A mount that is not attached anywhere cannot be cloned before Linux 6.15; nor need it be.
        Some(given) => {
            let tree = given.try_clone().call(|| "fcntl(root, F_DUPFD_CLOEXEC)")?;
            let (propagation, scope) = plan.root.propagation;
            mount::set_propagation(tree.as_fd(), scope, propagation)
                .call(|| format!("mount_setattr({propagation:?})"))?;
            tree
        }
        None => clone_tree(at, Scope::Tree, plan)?,
    };
    if let Some(ids) = &plan.root.ids {
        mount::set_id_map(tree.as_fd(), Scope::One, users.of(ids)?)
            .call(|| "mount_setattr(MOUNT_ATTR_IDMAP)")?;
    }
    if matches!(
        plan.root.propagation.0,
        Propagation::Shared | Propagation::Unbindable
    ) {
        let private = mount::set_propagation(tree.as_fd(), Scope::One, Propagation::Private);
        private.call(|| "mount_setattr(MS_PRIVATE)")?;
    }
    Ok(tree)
}

/// A detached clone that travels between namespaces as all of the container's mounts do.
fn clone_tree(at: BorrowedFd<'_>, scope: Scope, plan: &Plan) -> Result<OwnedFd> {
    let tree = mount::clone_of(at, scope).call(|| "open_tree(OPEN_TREE_CLONE)")?;
    let (propagation, scope) = plan.root.propagation;
    mount::set_propagation(tree.as_fd(), scope, propagation)
        .call(|| format!("mount_setattr({propagation:?})"))?;
    Ok(tree)
}

fn bind(mount: &Mount, index: usize, bundle: &Bundle, plan: &Plan) -> Result<Option<BindSource>> {
    let Kind::Bind { source, scope, .. } = &mount.kind else {
        return Ok(None);
    };
    // Joining drops the bundle where the source is absolute.
    let path = bundle.path().join(source);
    let path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    if !plan.can_mount {
        return Ok(Some(BindSource::Path(path)));
    }
    let element = || format!("mounts[{index}] {:?}", mount.destination);
    let open = || -> Result<OwnedFd> {
        let at = open(
            path.as_c_str(),
            OFlag::O_PATH | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .call(|| format!("open({path:?}, O_PATH)"))?;
        clone_tree(at.as_fd(), *scope, plan)
    };
    open()
        .map(|tree| Some(BindSource::Tree(tree)))
        .context(element)
}

/// The user namespace that the container joins, if it joins one.
fn joined_user<'a>(plan: &Plan, joined: &'a [OwnedFd]) -> Option<&'a OwnedFd> {
    let is_user = |joined: &Joined| joined.kind == NamespaceKind::User;
    let place = plan.namespaces.joined.iter().position(is_user)?;
    joined.get(place)
}

/// Maps the owners of a bind mount that asks for it.
fn map_owners<'a>(
    which: (&'a Mount, usize),
    source: Option<&BindSource>,
    users: &mut UserNamespaces<'a>,
) -> Result<()> {
    let (mount, index) = which;
    let Kind::Bind {
        idmap: Some(map), ..
    } = &mount.kind
    else {
        return Ok(());
    };
    let Some(BindSource::Tree(tree)) = source else {
        return Ok(());
    };
    users
        .map(tree.as_fd(), map)
        .context(|| format!("mounts[{index}] {:?}", mount.destination))
}

fn bound_device(device: &Device, can_mount: bool) -> Result<Option<OwnedFd>> {
    if !device.bind || !can_mount {
        return Ok(None);
    }
    let path = &device.path;
    let tree = mount::clone_of_path(path, Scope::One).call(|| format!("open_tree({path:?})"));
    tree.map(Some).context(|| format!("device {path:?}"))
}

fn joined(plan: &Plan) -> Result<Vec<OwnedFd>> {
    let open = |joined: &crate::plan::namespaces::Joined| {
        let path = Path::new(&joined.path);
        open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .call(|| format!("open({path:?})"))
            .context(|| format!("linux.namespaces[{}] {}", joined.index, joined.kind.name()))
    };
    plan.namespaces.joined.iter().map(open).collect()
}
