//! Cgroups below a container's own.

use std::path::{Path, PathBuf};

use super::Cgroup;
use super::directory::{below, make_directories, sub_directories};
use crate::error::{Call, Error, Result};

/// A cgroup below the container's, for `exec --cgroup`.
#[derive(Clone, Debug, Default)]
pub(crate) struct SubCgroup {
    /// Paths by controller; the one without a controller is for all others.
    paths: Vec<(Option<String>, String)>,
}

impl Cgroup {
    /// The cgroup `name` below this one, in the hierarchy by which processes are best found and killed, and the word
    /// for [`SubCgroup::parse`] that leads there.
    pub(crate) fn group(&self, name: &str) -> Option<(Self, String)> {
        let (controller, directory) = self.group_parent()?;
        if controller.is_empty() {
            let group = Self {
                unified: Some(directory.join(name)),
                ..Self::default()
            };
            return Some((group, name.to_owned()));
        }
        let group = Self {
            v1: vec![super::Directory {
                controllers: controller.to_owned(),
                path: directory.join(name),
            }],
            ..Self::default()
        };
        Some((group, format!("{controller}:{name}")))
    }

    /// The names of such cgroups that there are.
    pub(crate) fn groups(&self) -> Vec<String> {
        let parent = self.group_parent();
        let below = parent.map_or_else(Vec::new, |(_, directory)| sub_directories(directory));
        let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        below.iter().filter_map(name).collect()
    }

    /// What they are below, and the controller of that hierarchy; empty for version 2.
    fn group_parent(&self) -> Option<(&'static str, &Path)> {
        if let Some(directory) = self.v2() {
            return Some(("", directory));
        }
        ["freezer", "pids", "devices", "memory"]
            .into_iter()
            .find_map(|controller| Some((controller, self.directory(controller)?)))
    }

    /// Makes its directories, without limits.
    ///
    /// # Errors
    /// The errno of mkdir(2).
    pub(crate) fn make_directories(&self) -> Result<()> {
        self.directories().try_for_each(make_directories)
    }

    /// Removes its directories where nothing is in them.
    ///
    /// # Errors
    /// `EBUSY` where processes or cgroups are.
    pub(crate) fn remove_empty(&self) -> Result<()> {
        self.directories()
            .try_for_each(|path| match std::fs::remove_dir(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other.call(|| format!("rmdir({path:?})")),
            })
    }
}

impl SubCgroup {
    /// Reads the values of `--cgroup`: `PATH`, or `CONTROLLER[,CONTROLLER…]:PATH`.
    ///
    /// # Errors
    /// `InvalidArgument` for a path that would leave the container's cgroup.
    pub(crate) fn parse(values: &[String]) -> Result<Self> {
        let mut sub = Self::default();
        for value in values {
            let (controllers, path) = match value.split_once(':') {
                Some((controllers, path)) => (Some(controllers), path),
                None => (None, value.as_str()),
            };
            if path.split('/').any(|part| part == "..") || path.contains('\0') {
                return Err(Error::argument(format!("bad sub cgroup path: {path}")));
            }
            match controllers {
                None => sub.paths.push((None, path.to_owned())),
                Some(names) => sub.paths.extend(
                    names
                        .split(',')
                        .map(|name| (Some(name.to_owned()), path.to_owned())),
                ),
            }
        }
        Ok(sub)
    }

    /// Says of an error of entering that it may be for this cgroup.
    pub(super) fn explain(&self, error: Error) -> Error {
        if self.paths.is_empty() {
            error
        } else {
            error.context("unknown sub-cgroup")
        }
    }

    /// The cgroup below `directory`, which is that of `controllers`.
    pub(crate) fn below(&self, directory: &Path, controllers: &str) -> PathBuf {
        let names: Vec<&str> = controllers
            .split(',')
            .map(|name| name.strip_prefix("name=").unwrap_or(name))
            .collect();
        let named = self
            .paths
            .iter()
            .find(|(name, _)| name.as_deref().is_some_and(|name| names.contains(&name)));
        let any = || self.paths.iter().find(|(name, _)| name.is_none());
        named.or_else(any).map_or_else(
            || directory.to_owned(),
            |(_, path)| below(directory, &[path]),
        )
    }

    /// Refuses controllers that the container has no cgroup of.
    ///
    /// # Errors
    /// `InvalidArgument` that names the controller.
    pub(crate) fn check(&self, cgroup: &Cgroup) -> Result<()> {
        for (name, _) in &self.paths {
            if let Some(name) = name
                && cgroup.directory(name).is_none()
                && cgroup.directory(&format!("name={name}")).is_none()
            {
                return Err(Error::argument(format!(
                    "unknown controller {name} in SubCgroupPaths"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_cgroups() {
        let memory = Path::new("/c");
        for (values, controllers, expected) in [
            (vec![], "memory", "/c"),
            (vec!["/s"], "memory", "/c/s"),
            (vec!["memory,pids:a/b"], "memory", "/c/a/b"),
            (vec!["pids:a", "b"], "memory", "/c/b"),
            (vec!["systemd:s"], "name=systemd", "/c/s"),
        ] {
            let values: Vec<String> = values.into_iter().map(str::to_owned).collect();
            let sub = SubCgroup::parse(&values).unwrap();
            assert_eq!(
                sub.below(memory, controllers),
                Path::new(expected),
                "{values:?}"
            );
        }
        assert!(
            SubCgroup::parse(&["a/../../b".to_owned()])
                .unwrap_err()
                .to_string()
                .starts_with("bad sub cgroup path")
        );
    }
}
