//! Kills for lack of memory, told also where the container's cgroup is gone before anybody could look.
//!
//! systemd removes the cgroup of a scope as soon as nothing runs in it any more. The cgroup above goes on counting what
//! happened in all below it: what it counts beyond those that live, and more than when the last one ended, happened in
//! the one that has ended now.

use runtime_core::Container as Runtime;

use super::Shim;

impl Shim {
    /// Whether the kernel has killed for lack of memory in a container that has ended.
    pub(super) fn lacked_memory(&mut self, id: &str) -> bool {
        let own = self.kills(id);
        let before = self.kills_of_ended;
        self.count_kills(id);
        let around = self.kills_of_ended.zip(before);
        own.map_or_else(
            || around.is_some_and(|(now, before)| now > before),
            |kills| kills > 0,
        )
    }

    /// Counts from now on, where systemd makes the cgroups, by the one that is above that of the container `id`.
    pub(super) fn count_kills(&mut self, id: &str) {
        if !self.pod.has_systemd() {
            return;
        }
        let runtime = Runtime::open(&self.root, id);
        let around = runtime.ok().and_then(|runtime| runtime.oom_kills_around());
        let living = self
            .containers
            .iter()
            .filter(|(_, other)| other.has_process());
        let of_living: u64 = living.filter_map(|(other, _)| self.kills(other)).sum();
        self.kills_of_ended = around.map(|around| around.saturating_sub(of_living));
    }

    fn kills(&self, id: &str) -> Option<u64> {
        Runtime::open(&self.root, id).ok()?.oom_kills()
    }
}
