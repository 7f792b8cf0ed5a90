//! What outlives the process of a container: its counters, and how much it has open.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::lane::LaneNumber;
use crate::cgroup::GroupId;
use crate::cgroup::Membership;
use crate::model::Nsec;
use crate::model::saved::{Saved, put, put_bytes};
use crate::store::{Record, Store};

/// Whose limits count: those of one registered container, or of all that is in the same groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// By its slot.
    Registered(u32),
    /// By its groups.
    Groups(Membership),
}

/// What tells a container from every other one of this boot, for any process that serves: compared in full, since a container
/// chooses the names of its groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordKey {
    /// Whose limits count for it.
    pub owner: Owner,
    /// Its pid namespace; 0 where the slot says all.
    pub pidns: u64,
    /// The start of its init.
    pub start: Nsec,
    /// Its group: one that is made anew under the same name is another.
    pub group: GroupId,
}

impl RecordKey {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        for number in [self.pidns, self.start.0, self.group.0, self.group.1] {
            put(&mut out, number);
        }
        match &self.owner {
            Owner::Registered(slot) => {
                put(&mut out, 0);
                put(&mut out, u64::from(*slot));
            }
            Owner::Groups(groups) => {
                put(&mut out, 1);
                put(&mut out, groups.paths().len() as u64);
                groups.paths().iter().for_each(|path| put_bytes(&mut out, path.as_os_str().as_bytes()));
            }
        }
        out
    }

    /// From what [`Self::encode`] gave; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut saved = Saved(bytes);
        let (pidns, start) = (saved.number()?, Nsec(saved.number()?));
        let group = (saved.number()?, saved.number()?);
        let owner = match saved.number()? {
            0 => Owner::Registered(u32::try_from(saved.number()?).ok()?),
            1 => {
                let paths =
                    (0..saved.count(8)?).map(|_| Some(PathBuf::from(OsStr::from_bytes(saved.bytes()?))));
                Owner::Groups(Membership::of(paths.collect::<Option<_>>()?))
            }
            _ => return None,
        };
        saved.end(Self { owner, pidns, start, group })
    }
}

/// What one container may use of this process, and has in use.
#[derive(Debug, Default)]
pub struct Limits {
    /// Files that are open.
    pub open_files: AtomicUsize,
    /// Bytes of their snapshots.
    pub snapshots: AtomicUsize,
    /// Pressure triggers.
    pub triggers: Arc<AtomicUsize>,
    /// Where its requests queue.
    pub lane: LaneNumber,
    /// What all containers have in use together that nobody registered: whoever may make groups makes any number of them.
    pub crowd: Option<Arc<Crowd>>,
}

/// What all containers have in use that nobody registered.
#[derive(Debug, Default)]
pub struct Crowd {
    /// Files that are open.
    pub open_files: AtomicUsize,
    /// Bytes of their snapshots.
    pub snapshots: AtomicUsize,
}

impl Crowd {
    /// Files that they may have open: a quarter of all slots.
    pub const MOST_OPEN: usize = 1 << 18;
    /// Bytes that their snapshots may have: 1 GiB.
    pub const MOST_SNAPSHOTS: usize = 1 << 30;
}

/// The container that a file of the process before this one counts for.
#[derive(Clone, Debug)]
pub struct KeptOwner {
    /// Which.
    pub key: RecordKey,
    /// Its record.
    pub record: Arc<Record>,
    /// What it has in use.
    pub limits: Arc<Limits>,
}

/// The records and limits of all containers that are known or were.
#[derive(Debug)]
pub(super) struct Kept {
    store: Arc<Store>,
    /// Of the process before this one, whose containers nobody has read of since.
    unclaimed: Mutex<HashMap<RecordKey, Arc<Record>>>,
    limits: Mutex<HashMap<Owner, Weak<Limits>>>,
    /// What those together have that nobody registered.
    crowd: Arc<Crowd>,
    /// Of all that came when there were too many.
    late: Arc<Limits>,
}

/// Limits that nobody holds are looked for when there are more than so many.
const LIMITS: usize = 1024;
/// Containers that nobody registered and that have limits of their own at once; all others share one. Whoever may make groups
/// makes any number, with names of up to 4096 bytes in each hierarchy.
const MOST_LIMITS: usize = 4096;
/// Bytes of the longest key that a record has. The next worker must have room for all keys.
const LONGEST_KEY: usize = 4096;

impl Kept {
    /// Takes up what the process before this one left. `lives` tells whether a registered container is still there.
    pub(super) fn take_up(store: Arc<Store>, lives: impl Fn(u32) -> bool) -> Self {
        let mut unclaimed = HashMap::new();
        for (key, record) in store.take_records() {
            match RecordKey::decode(&key) {
                Some(RecordKey { owner: Owner::Registered(slot), .. }) if !lives(slot) => record.discard(),
                // Two of one container: it was let go of while its files were open, and read of again.
                Some(key) => {
                    if let Some(other) = unclaimed.insert(key, record) {
                        other.discard();
                    }
                }
                None => record.discard(),
            }
        }
        let crowd = Arc::<Crowd>::default();
        let late = Arc::new(Limits { crowd: Some(Arc::clone(&crowd)), ..Limits::default() });
        Self { store, unclaimed: Mutex::new(unclaimed), limits: Mutex::default(), crowd, late }
    }

    pub(super) const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The limits of all that has this owner.
    pub(super) fn limits(&self, owner: &Owner) -> Arc<Limits> {
        let mut limits = self.limits.lock();
        if let Some(known) = limits.get(owner).and_then(Weak::upgrade) {
            return known;
        }
        if limits.len() >= LIMITS {
            limits.retain(|_, limits| limits.strong_count() > 0);
        }
        if limits.len() >= MOST_LIMITS && matches!(owner, Owner::Groups(_)) {
            return Arc::clone(&self.late);
        }
        let crowd = matches!(owner, Owner::Groups(_)).then(|| Arc::clone(&self.crowd));
        let new = Arc::new(Limits { crowd, ..Limits::default() });
        limits.insert(owner.clone(), Arc::downgrade(&new));
        new
    }

    /// The record of a container: the one that a process before this one kept, or a new one. `None` where the store is full.
    pub(super) fn record(&self, key: &RecordKey) -> Option<Arc<Record>> {
        if let Some(record) = self.unclaimed.lock().remove(key) {
            return Some(record);
        }
        Some(key.encode()).filter(|key| key.len() <= LONGEST_KEY).and_then(|key| self.store.new_record(&key))
    }

    /// The records that were taken up, by their numbers: what the files that are open count for.
    pub(super) fn owners(&self) -> HashMap<u32, KeptOwner> {
        let unclaimed = self.unclaimed.lock();
        let owner = |(key, record): (&RecordKey, &Arc<Record>)| {
            let (key, record, limits) = (key.clone(), Arc::clone(record), self.limits(&key.owner));
            (record.index(), KeptOwner { key, record, limits })
        };
        unclaimed.iter().map(owner).collect()
    }

    /// The keys of those that no container has claimed.
    pub(super) fn unclaimed(&self) -> Vec<RecordKey> {
        self.unclaimed.lock().keys().cloned().collect()
    }

    /// Lets go of what no container has claimed: of those that `gone` says of, or if there are more than `most` of any.
    pub(super) fn forget(&self, most: usize, gone: impl Fn(&RecordKey) -> bool) {
        let mut kept = 0;
        self.unclaimed.lock().retain(|key, record| {
            let keep = !gone(key) && kept < most;
            if keep {
                kept += 1;
            } else {
                record.discard();
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(paths: &[&str]) -> RecordKey {
        let owner = Owner::Groups(Membership::of(paths.iter().map(PathBuf::from).collect()));
        RecordKey { owner, pidns: 7, start: Nsec(9), group: (1, 2) }
    }

    #[test]
    fn keys_come_back() {
        let registered = RecordKey { owner: Owner::Registered(3), pidns: 0, start: Nsec(1), group: (0, 0) };
        for key in [key(&["/", "/a/b", "/a b\n"]), key(&[]), registered] {
            let bytes = key.encode();
            assert_eq!(RecordKey::decode(&bytes), Some(key));
            assert!((0..bytes.len()).all(|len| RecordKey::decode(&bytes[..len]).is_none()));
            assert_eq!(RecordKey::decode(&[bytes, vec![0]].concat()), None);
        }
        assert_ne!(key(&["/a", "/b"]).encode(), key(&["/a/b", ""]).encode());
    }

    #[test]
    fn a_record_is_found_again_by_its_whole_key() {
        let store = Store::private().unwrap();
        let kept = Kept::take_up(Arc::clone(&store), |_| true);
        let first = kept.record(&key(&["/a"])).unwrap();
        let others = [
            key(&["/b"]),
            RecordKey { pidns: 8, ..key(&["/a"]) },
            RecordKey { start: Nsec(8), ..key(&["/a"]) },
            RecordKey { group: (1, 3), ..key(&["/a"]) },
        ];
        for other in others {
            assert_ne!(kept.record(&other).unwrap().index(), first.index());
        }
    }

    #[test]
    fn any_number_of_groups_takes_little() {
        let kept = Kept::take_up(Store::private().unwrap(), |_| true);
        let owner = |n: usize| key(&[&format!("/{n}")]).owner;
        let held: Vec<_> = (0..MOST_LIMITS + 2).map(|n| kept.limits(&owner(n))).collect();
        assert!(Arc::ptr_eq(&held[MOST_LIMITS], &held[MOST_LIMITS + 1]), "all others share one");
        assert!(!Arc::ptr_eq(&held[0], &held[1]) && Arc::ptr_eq(&held[0], &kept.limits(&owner(0))));
        let registered = kept.limits(&Owner::Registered(7));
        assert!(!Arc::ptr_eq(&registered, &held[MOST_LIMITS]));
        assert!(kept.record(&key(&[&"/x".repeat(1500)])).is_some());
        assert!(kept.record(&key(&[&"/x".repeat(2048)])).is_none());
    }

    #[test]
    fn limits_go_by_groups() {
        let kept = Kept::take_up(Store::private().unwrap(), |_| true);
        let one = kept.limits(&key(&["/a"]).owner);
        assert!(Arc::ptr_eq(&one, &kept.limits(&RecordKey { pidns: 8, ..key(&["/a"]) }.owner)));
        assert!(!Arc::ptr_eq(&one, &kept.limits(&key(&["/b"]).owner)));
    }
}
