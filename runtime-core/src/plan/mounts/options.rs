//! The options of a mount, in the words of fstab(5).

use crate::kernel::mount::{Attributes, Change, Propagation, Scope};

/// What an option does.
#[derive(Clone, Copy)]
enum Effect {
    Set(Attributes),
    Clear(Attributes),
    /// One of the three policies for access times.
    AccessTime(Attributes),
    SetAll(Attributes),
    ClearAll(Attributes),
    AccessTimeAll(Attributes),
    Propagation(Propagation, Scope),
    Bind(Scope),
    /// A parameter of the file system, by the same name.
    Parameter,
    Remount,
    CopyUp,
    IdMap(Scope),
    Nothing,
}

use Attributes as A;
use Effect::{
    AccessTime, AccessTimeAll, Bind, Clear, ClearAll, CopyUp, IdMap, Nothing, Parameter, Remount,
    Set, SetAll,
};
use Propagation::{Private, Shared, Slave, Unbindable};
use Scope::{One, Tree};

/// Every option that is not the file system's own.
const OPTIONS: [(&str, Effect); 65] = [
    ("acl", Parameter),
    ("async", Nothing),
    ("atime", AccessTime(A(0))),
    ("bind", Bind(One)),
    ("defaults", Nothing),
    ("dev", Clear(A::NODEV)),
    ("diratime", Clear(A::NODIRATIME)),
    ("dirsync", Parameter),
    ("exec", Clear(A::NOEXEC)),
    ("idmap", IdMap(One)),
    ("iversion", Parameter),
    ("lazytime", Parameter),
    ("loud", Nothing),
    ("mand", Parameter),
    ("noacl", Parameter),
    ("noatime", AccessTime(A::NOATIME)),
    ("nodev", Set(A::NODEV)),
    ("nodiratime", Set(A::NODIRATIME)),
    ("noexec", Set(A::NOEXEC)),
    ("noiversion", Nothing),
    ("nolazytime", Nothing),
    ("nomand", Nothing),
    ("norelatime", Nothing),
    ("nostrictatime", AccessTime(A(0))),
    ("nosuid", Set(A::NOSUID)),
    ("nosymfollow", Set(A::NOSYMFOLLOW)),
    ("private", Effect::Propagation(Private, One)),
    ("ratime", AccessTimeAll(A(0))),
    ("rbind", Bind(Tree)),
    ("rdev", ClearAll(A::NODEV)),
    ("rdiratime", ClearAll(A::NODIRATIME)),
    ("relatime", AccessTime(A(0))),
    ("remount", Remount),
    ("rexec", ClearAll(A::NOEXEC)),
    ("ridmap", IdMap(Tree)),
    ("rnoatime", AccessTimeAll(A::NOATIME)),
    ("rnodev", SetAll(A::NODEV)),
    ("rnodiratime", SetAll(A::NODIRATIME)),
    ("rnoexec", SetAll(A::NOEXEC)),
    ("rnorelatime", Nothing),
    ("rnostrictatime", AccessTimeAll(A(0))),
    ("rnosuid", SetAll(A::NOSUID)),
    ("rnosymfollow", SetAll(A::NOSYMFOLLOW)),
    ("ro", Set(A::RDONLY)),
    ("rprivate", Effect::Propagation(Private, Tree)),
    ("rrelatime", AccessTimeAll(A(0))),
    ("rro", SetAll(A::RDONLY)),
    ("rrw", ClearAll(A::RDONLY)),
    ("rshared", Effect::Propagation(Shared, Tree)),
    ("rslave", Effect::Propagation(Slave, Tree)),
    ("rstrictatime", AccessTimeAll(A::STRICTATIME)),
    ("rsuid", ClearAll(A::NOSUID)),
    ("rsymfollow", ClearAll(A::NOSYMFOLLOW)),
    ("runbindable", Effect::Propagation(Unbindable, Tree)),
    ("rw", Clear(A::RDONLY)),
    ("shared", Effect::Propagation(Shared, One)),
    ("silent", Nothing),
    ("slave", Effect::Propagation(Slave, One)),
    ("strictatime", AccessTime(A::STRICTATIME)),
    ("suid", Clear(A::NOSUID)),
    ("symfollow", Clear(A::NOSYMFOLLOW)),
    ("sync", Parameter),
    ("tmpcopyup", CopyUp),
    ("unbindable", Effect::Propagation(Unbindable, One)),
    ("userxattr", Parameter),
];

/// Names of the options, for `features`.
pub fn names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, _)| *name)
}

/// The propagation that the option `name` means, if it is one of those.
pub(super) fn propagation(name: &str) -> Option<(Propagation, Scope)> {
    match OPTIONS.iter().find(|(known, _)| *known == name) {
        Some((_, Effect::Propagation(kind, scope))) => Some((*kind, *scope)),
        _ => None,
    }
}

impl Change {
    fn set(&mut self, attributes: Attributes) {
        self.set = self.set.with(attributes);
        self.clear = self.clear.without(attributes);
    }

    fn clear(&mut self, attributes: Attributes) {
        self.clear = self.clear.with(attributes);
        self.set = self.set.without(attributes);
    }

    /// The kernel wants all bits of the policy cleared whenever one is set.
    fn access_time(&mut self, policy: Attributes) {
        self.set = self.set.without(A::ATIME).with(policy);
        self.clear = self.clear.with(A::ATIME);
    }
}

/// What the options of one mount add up to.
#[derive(Default)]
pub(super) struct Options {
    pub(super) change: Change,
    pub(super) recursive: Change,
    pub(super) propagation: Vec<(Propagation, Scope)>,
    pub(super) bind: Option<Scope>,
    pub(super) idmap: Option<Scope>,
    pub(super) remount: bool,
    /// Its place in `options`.
    pub(super) copy_up: Option<usize>,
    /// With the place of each in `options`.
    pub(super) parameters: Vec<(usize, String)>,
}

impl Options {
    pub(super) fn compile(written: &[String]) -> Self {
        let mut options = Self::default();
        for (index, option) in written.iter().enumerate() {
            let Ok(known) = OPTIONS.binary_search_by_key(&option.as_str(), |(name, _)| name) else {
                // A caller may give several at once, as in the fourth field of fstab(5).
                let single = option.split(',').filter(|option| !option.is_empty());
                options
                    .parameters
                    .extend(single.map(|option| (index, option.to_owned())));
                continue;
            };
            match OPTIONS[known].1 {
                Set(attributes) => options.change.set(attributes),
                Clear(attributes) => options.change.clear(attributes),
                AccessTime(policy) => options.change.access_time(policy),
                SetAll(attributes) => options.recursive.set(attributes),
                ClearAll(attributes) => options.recursive.clear(attributes),
                AccessTimeAll(policy) => options.recursive.access_time(policy),
                Effect::Propagation(kind, scope) => options.propagation.push((kind, scope)),
                Bind(scope) => options.bind = Some(scope),
                IdMap(scope) => options.idmap = Some(scope),
                Remount => options.remount = true,
                CopyUp => options.copy_up = Some(index),
                Parameter => options.parameters.push((index, option.clone())),
                Nothing => {}
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted() {
        assert!(OPTIONS.is_sorted_by_key(|(name, _)| *name));
    }
}
