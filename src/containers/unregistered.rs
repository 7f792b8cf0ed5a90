//! Containers that nobody registered, as long as their counters are remembered.
//!
//! Whoever may make groups makes any number of them, as deep as he likes, and each costs descriptors. What all of them hold is
//! bounded, and where it is too much those are forgotten first that cost the most below one group: one tenant's.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::resolve::Contained;
use crate::cgroup::Membership;
use crate::model::Nsec;

/// Containers that are remembered at most.
pub(super) const MOST: usize = 1024;
/// Levels below the root at which a group has a view of its own. Those below see that of their ancestor there: each level costs some ten
/// descriptors, and a group may lie two thousand deep.
const DEEPEST: usize = 64;
/// Levels by which tenants are told apart.
const TENANT_LEVELS: usize = 16;
/// So many, and a quarter of all, may come before it is looked who has gone: nobody tells, and a group whose descriptors are held is
/// not freed by the kernel.
const FEW_GONE: usize = 16;

/// Pid namespace and groups.
pub(super) type Key = (u64, Membership);

#[derive(Debug, Default)]
struct Known {
    containers: HashMap<Key, Arc<Contained>>,
    /// That came since it was looked who has gone.
    came: usize,
}

/// Those that are remembered.
#[derive(Debug, Default)]
pub(super) struct Unregistered {
    known: Mutex<Known>,
}

/// What adding one has done to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// Nothing.
    Stay,
    /// Those that are gone were forgotten.
    GoneForgotten,
    /// There was too little room: living ones were forgotten too.
    Forgotten,
}

/// The groups whose view is shown to a process in these: they themselves, unless they lie very deep.
pub(super) fn shown_groups(groups: &Membership) -> Membership {
    groups.map(|_, path| path.components().take(1 + DEEPEST).collect())
}

impl Unregistered {
    /// The container of these groups whose init started then, if it is remembered and its groups live.
    pub(super) fn find(&self, key: &Key, start: Nsec) -> Option<Arc<Contained>> {
        self.known.lock().find(key, start)
    }

    /// Adds one that was not found, whose groups hold so many descriptors; another thread may have been faster. `make` is called under
    /// the lock, since a second one would have counters of its own.
    pub(super) fn add(
        &self,
        key: Key,
        start: Nsec,
        descriptors: usize,
        make: impl FnOnce() -> Arc<Contained>,
    ) -> (Arc<Contained>, Others) {
        let mut known = self.known.lock();
        if let Some(found) = known.find(&key, start) {
            return (found, Others::Stay);
        }
        let others = known.make_room(descriptors);
        let new = make();
        if let Some(gone) = known.containers.insert(key, Arc::clone(&new)) {
            gone.discard();
        }
        (new, others)
    }
}

impl Unregistered {
    /// Forgets those whose groups were removed; the groups of those that are left, where there was any.
    pub(super) fn forget_gone(&self) -> Option<Vec<Membership>> {
        let mut known = self.known.lock();
        let before = known.containers.len();
        known.forget_gone();
        let left = || known.containers.keys().map(|(_, groups)| groups.clone()).collect();
        (known.containers.len() != before).then(left)
    }
}

impl Known {
    fn find(&self, key: &Key, start: Nsec) -> Option<Arc<Contained>> {
        let known = self.containers.get(key)?;
        (!known.subject.groups.is_gone() && known.subject.start == start).then(|| Arc::clone(known))
    }

    /// All of them may hold half of the descriptors that this process can have.
    fn make_room(&mut self, more: usize) -> Others {
        let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
        let budget = limit.map_or(512, |(soft, _)| usize::try_from(soft / 2).unwrap_or(usize::MAX));
        self.came += 1;
        if self.containers.len() < MOST && self.held().saturating_add(more) <= budget {
            if self.came <= FEW_GONE + self.containers.len() / 4 {
                return Others::Stay;
            }
            self.forget_gone();
            return Others::GoneForgotten;
        }
        self.forget_gone();
        // A quarter less than there may be, so that this need not be done for each that comes.
        let mut left = self.held().saturating_add(more);
        let mut tenants = Tenants::default();
        let mut keys = Vec::with_capacity(self.containers.len());
        for (index, (key, contained)) in self.containers.iter().enumerate() {
            tenants.add(&key.1, index, cost(contained));
            keys.push(key.clone());
        }
        while left > budget / 4 * 3 || self.containers.len() > MOST / 4 * 3 {
            let Some(key) = tenants.take_dearest().and_then(|index| keys.get(index)) else { break };
            if let Some(forgotten) = self.containers.remove(key) {
                left = left.saturating_sub(cost(&forgotten));
                forgotten.discard();
            }
        }
        Others::Forgotten
    }

    fn held(&self) -> usize {
        self.containers.values().map(|contained| cost(contained)).sum()
    }

    fn forget_gone(&mut self) {
        self.came = 0;
        self.containers.retain(|_, contained| {
            contained.subject.groups.check_gone();
            let gone = contained.subject.groups.is_gone();
            if gone {
                contained.discard();
            }
            !gone
        });
    }
}

fn cost(contained: &Contained) -> usize {
    contained.subject.groups.descriptors()
}

/// A tree of groups, with what is held below each.
#[derive(Debug, Default)]
struct Tenants {
    cost: usize,
    below: BTreeMap<PathBuf, Tenants>,
    /// Index and cost of those that end here.
    here: Vec<(usize, usize)>,
}

impl Tenants {
    fn add(&mut self, groups: &Membership, index: usize, cost: usize) {
        let deepest = groups.paths().iter().max_by_key(|path| path.components().count());
        let mut at = self;
        for name in deepest.into_iter().flat_map(|path| components(path)).take(TENANT_LEVELS) {
            at.cost = at.cost.saturating_add(cost);
            at = at.below.entry(PathBuf::from(name)).or_default();
        }
        at.cost = at.cost.saturating_add(cost);
        at.here.push((index, cost));
    }

    /// Takes out one of those below the dearest group of the dearest group and so on.
    fn take_dearest(&mut self) -> Option<usize> {
        let own = self.here.iter().enumerate().max_by_key(|(_, (_, cost))| *cost);
        let own = own.map(|(at, (_, cost))| (at, *cost));
        let child = self
            .below
            .iter()
            .max_by_key(|(_, child)| child.cost)
            .map(|(name, child)| (name.clone(), child.cost));
        match (own, child) {
            (Some((at, cost)), child) if child.as_ref().is_none_or(|(_, of_child)| cost >= *of_child) => {
                self.cost = self.cost.saturating_sub(cost);
                Some(self.here.swap_remove(at).0)
            }
            (_, Some((name, _))) => {
                let child = self.below.get_mut(&name)?;
                let before = child.cost;
                let taken = child.take_dearest();
                let after = child.cost;
                if taken.is_none() || (child.here.is_empty() && child.below.is_empty()) {
                    self.below.remove(&name);
                }
                self.cost = self.cost.saturating_sub(before.saturating_sub(after));
                taken
            }
            _ => None,
        }
    }
}

fn components(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().skip(1).map(|part| part.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(paths: &[&str]) -> Membership {
        Membership::of(paths.iter().map(PathBuf::from).collect())
    }

    fn order(costs: &[(&str, usize)]) -> Vec<usize> {
        let mut tenants = Tenants::default();
        for (index, (path, cost)) in costs.iter().enumerate() {
            tenants.add(&groups(&["/", path]), index, *cost);
        }
        std::iter::from_fn(|| tenants.take_dearest()).collect()
    }

    #[test]
    fn the_tenant_that_holds_most_is_forgotten_first() {
        // many cheap ones of one tenant, against two that are dearer each
        let costs = [("/slice/a", 20), ("/slice/evil/1", 15), ("/slice/evil/2", 15), ("/slice/b", 21)];

        let first = order(&costs)[0];
        assert!(first == 1 || first == 2, "the first is one of the tenant's own: {first}");
        // one very deep one
        let deep = format!("/t{}", "/x".repeat(60));
        assert_eq!(order(&[("/a", 20), (&deep, 700), ("/b", 20)])[0], 1);
    }

    #[test]
    fn all_are_found_and_each_once() {
        let mut all = order(&[("/a", 1), ("/a", 0), ("/a/b", 5), ("/a/b/c", 5), ("/", 2), ("/d", 0)]);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn very_deep_groups_show_their_ancestor() {
        let (deep, shown) = ("/x".repeat(1000), "/x".repeat(DEEPEST));
        assert_eq!(shown_groups(&groups(&["/", &deep, "/a/b"])), groups(&["/", &shown, "/a/b"]));
        assert_eq!(shown_groups(&groups(&[&shown])), groups(&[&shown]));
    }
}
