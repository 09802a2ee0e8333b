//! Id-mapped mounts: which owners a mount shows, see mount_setattr(2) and config.md "mounts".

use std::collections::BTreeMap;

use super::namespaces::Namespaces;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::kernel::mount::Scope;
use crate::spec::{IdMapping, NamespaceKind};

/// How the owners of files look through a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMap {
    pub(crate) ids: Ids,
    /// Whether for the mounts below too.
    pub(crate) scope: Scope,
}

/// Ids in the file system, and what they are on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// By these maps.
    Mapped {
        uids: Vec<IdMapping>,
        gids: Vec<IdMapping>,
    },
    /// By those of the user namespace that the container joins.
    Joined,
}

/// The maps as written; both or none, as the kernel has it.
pub(super) struct Written<'a> {
    pub(super) uids: Option<&'a [IdMapping]>,
    pub(super) gids: Option<&'a [IdMapping]>,
    /// What `idmap` or `ridmap` asks for.
    pub(super) option: Option<Scope>,
}

impl IdMap {
    /// Resolves what is written about the mount that `pointer` leads to.
    pub(super) fn compile(
        written: &Written<'_>,
        namespaces: &Namespaces,
        pointer: &str,
    ) -> Result<Option<Self>> {
        let given = |map: Option<&[IdMapping]>| map.is_some_and(|map| !map.is_empty());
        let ids = match (given(written.uids), given(written.gids), written.option) {
            (false, false, None) => return Ok(None),
            (false, false, Some(_)) => Ids::of_container(namespaces, pointer)?,
            (true, true, _) => {
                let maps = [(written.uids, "uidMappings"), (written.gids, "gidMappings")];
                let [uids, gids] = maps.map(|(map, name)| {
                    let map = map.unwrap_or_default();
                    check_map(map, &format!("{pointer}/{name}")).map(|()| map.to_vec())
                });
                Ids::Mapped {
                    uids: uids?,
                    gids: gids?,
                }
            }
            (has_uids, _, _) => {
                let missing = if has_uids {
                    "gidMappings"
                } else {
                    "uidMappings"
                };
                return Err(Error::invalid_spec(
                    &format!("{pointer}/{missing}"),
                    "missing: an id-mapped mount needs both maps or neither",
                ));
            }
        };
        Ok(Some(Self {
            ids,
            scope: written.option.unwrap_or(Scope::One),
        }))
    }
}

impl Ids {
    /// Those of the container's user namespace.
    pub(super) fn of_container(namespaces: &Namespaces, pointer: &str) -> Result<Self> {
        if namespaces.joins(NamespaceKind::User) {
            return Ok(Self::Joined);
        }
        if !namespaces.has(NamespaceKind::User) {
            return Err(Error::invalid_spec(
                pointer,
                "an id-mapped mount without mappings needs a user namespace to take them from",
            ));
        }
        Ok(Self::Mapped {
            uids: namespaces.uid_map.clone(),
            gids: namespaces.gid_map.clone(),
        })
    }
}

/// The annotation that shows the root file system by the container's own ids.
const ROOT_ANNOTATION: &str = "org.ocirun.root.idmap";

/// The ids through which the root is seen, where the annotation asks for it: an image then needs no copy with other
/// owners to run in a user namespace.
pub(super) fn of_root(
    annotations: Option<&BTreeMap<String, String>>,
    namespaces: &Namespaces,
    host: &Host,
) -> Result<Option<Ids>> {
    let pointer = format!("/annotations/{ROOT_ANNOTATION}");
    match annotations.and_then(|all| all.get(ROOT_ANNOTATION)) {
        None => Ok(None),
        Some(value) if value == "false" => Ok(None),
        Some(value) if value != "true" => Err(Error::invalid_spec(
            &pointer,
            &format!("{value:?} is neither true nor false"),
        )),
        Some(_) if !host.can_mount => Err(Error::unsupported(format!(
            "{pointer}: id-mapped mounts need CAP_SYS_ADMIN on the host"
        ))),
        Some(_) => Ids::of_container(namespaces, &pointer).map(Some),
    }
}

/// Ranges that are none, or go beyond the last id.
pub(super) fn check_map(map: &[IdMapping], pointer: &str) -> Result<()> {
    for (index, range) in map.iter().enumerate() {
        let fits = |first: u32| first.checked_add(range.size).is_some();
        if range.size == 0 || !fits(range.container_id) || !fits(range.host_id) {
            return Err(Error::invalid_spec(
                &format!("{pointer}/{index}/size"),
                &format!("{} cannot be", range.size),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Linux, Namespace};

    const fn range(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping {
            container_id,
            host_id,
            size,
        }
    }

    fn namespaces(path: Option<&str>) -> Namespaces {
        let maps = path.is_none().then(|| vec![range(0, 1000, 10)]);
        Namespaces::compile(&Linux {
            namespaces: Some(vec![Namespace {
                kind: NamespaceKind::User,
                path: path.map(str::to_owned),
            }]),
            uid_mappings: maps.clone(),
            gid_mappings: maps,
            ..Linux::default()
        })
        .unwrap()
    }

    #[test]
    fn maps_are_given_or_implied() {
        let (own, joined) = (namespaces(None), namespaces(Some("/proc/1/ns/user")));
        let none = Namespaces::compile(&Linux::default()).unwrap();
        let map = [range(0, 5, 1)];
        let bad = [range(0, u32::MAX, 2)];
        let mapped = |map: &[IdMapping]| Ids::Mapped {
            uids: map.to_vec(),
            gids: map.to_vec(),
        };
        type Maps<'a> = (Option<&'a [IdMapping]>, Option<&'a [IdMapping]>);
        let both: Maps<'_> = (Some(&map), Some(&map));
        let cases: [(Maps<'_>, Option<Scope>, &Namespaces, Option<IdMap>); 5] = [
            ((None, None), None, &own, None),
            ((Some(&[]), None), None, &own, None),
            (
                both,
                None,
                &none,
                Some(IdMap {
                    ids: mapped(&map),
                    scope: Scope::One,
                }),
            ),
            (
                (None, None),
                Some(Scope::Tree),
                &own,
                Some(IdMap {
                    ids: mapped(&own.uid_map),
                    scope: Scope::Tree,
                }),
            ),
            (
                (None, None),
                Some(Scope::One),
                &joined,
                Some(IdMap {
                    ids: Ids::Joined,
                    scope: Scope::One,
                }),
            ),
        ];
        for ((uids, gids), option, namespaces, expected) in cases {
            let written = Written { uids, gids, option };
            let found = IdMap::compile(&written, namespaces, "/mounts/0").unwrap();
            assert_eq!(found, expected);
        }
        let refused: [(Maps<'_>, Option<Scope>, &str); 4] = [
            ((None, None), Some(Scope::One), "/mounts/0"),
            ((Some(&map), None), None, "/mounts/0/gidMappings"),
            ((None, Some(&map)), None, "/mounts/0/uidMappings"),
            (
                (Some(&bad), Some(&map)),
                None,
                "/mounts/0/uidMappings/0/size",
            ),
        ];
        for ((uids, gids), option, pointer) in refused {
            let written = Written { uids, gids, option };
            let error = IdMap::compile(&written, &none, "/mounts/0").unwrap_err();
            assert_eq!(error.pointer(), Some(pointer));
        }
    }
}
