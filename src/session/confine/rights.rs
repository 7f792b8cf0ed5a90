//! Capabilities and identity: who needs which, and how the rest is given up for good.

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::{ConfineError, Step, WorkerNeeds};

/// User and group of a worker. Nobody else's: systemd, which has a use for most numbers below 65536, leaves 65520 to 65533
/// alone (its UIDS-GIDS), 65534 is `nobody`. As root a worker without any capability could still write what root owns.
pub const WORKER_ID: u32 = 65533;

/// A capability, and who needs it.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// Its name in capabilities(7).
    pub name: &'static str,
    /// The capability.
    pub capability: CapabilitySet,
    /// Whether a worker with these needs has it.
    pub worker: fn(&WorkerNeeds) -> bool,
    /// Whether a scribe has it.
    pub scribe: bool,
}

macro_rules! right {
    ($name:ident, $worker:expr, $scribe:expr) => {
        Right {
            name: concat!("CAP_", stringify!($name)),
            capability: CapabilitySet::$name,
            worker: $worker,
            scribe: $scribe,
        }
    };
}

/// What a holder keeps: what its workers need, since theirs come out of its own, and what is its own alone.
pub const RIGHTS: &[Right] = &[
    right!(SYS_PTRACE, |_| true, true),
    right!(DAC_READ_SEARCH, |_| true, false),
    right!(DAC_OVERRIDE, |needs| needs.psi_triggers, true),
    right!(SYS_RESOURCE, |needs| needs.psi_triggers, false),
    right!(SYS_ADMIN, |_| false, false),
    right!(KILL, |_| false, false),
    right!(SETUID, |_| false, false),
    right!(SETGID, |_| false, false),
    right!(SETPCAP, |_| false, false),
];

/// Those of [`RIGHTS`] that a process with `permitted` keeps.
fn kept(permitted: CapabilitySet, needed: impl Fn(&Right) -> bool) -> CapabilitySet {
    let wanted: CapabilitySet =
        RIGHTS.iter().filter(|right| needed(right)).map(|right| right.capability).collect();
    // Where the smaller right was not given (containers of docker), the larger stands in for it.
    let stand_in = match permitted.contains(CapabilitySet::DAC_READ_SEARCH) {
        true => CapabilitySet::empty(),
        false => CapabilitySet::DAC_OVERRIDE,
    };
    (wanted | stand_in) & permitted
}

/// What a worker keeps.
pub(super) fn of_worker(needs: &WorkerNeeds, permitted: CapabilitySet) -> CapabilitySet {
    kept(permitted, |right| (right.worker)(needs))
}

/// What a scribe keeps.
pub(super) fn of_scribe(permitted: CapabilitySet) -> CapabilitySet {
    RIGHTS.iter().filter(|right| right.scribe).map(|right| right.capability).collect::<CapabilitySet>()
        & permitted
}

/// What a holder keeps. SYS_RESOURCE only where its workers need it.
pub(super) fn of_holder(needs: &WorkerNeeds, permitted: CapabilitySet) -> CapabilitySet {
    let all = WorkerNeeds { psi_triggers: true };
    kept(permitted, |right| (right.worker)(needs) || right.scribe || !(right.worker)(&all))
}

/// The capabilities that this thread may use.
pub(super) fn permitted() -> Result<CapabilitySet, ConfineError> {
    Ok(capabilities(None).step("capget")?.permitted)
}

/// Nothing but `kept` in any set, the bounding set included, for this thread and all that it starts.
pub(super) fn reduce(kept: CapabilitySet) -> Result<(), ConfineError> {
    // By number, not by the library's list: a newer kernel may have more.
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(Errno::INVAL) => break, // beyond the kernel's last
            Err(Errno::PERM) => {
                log::warn!("no CAP_SETPCAP: the bounding set stays as it is");
                break;
            }
            Err(errno) => return Err(errno).step("cutting the bounding set"),
        }
    }
    match clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {} // EINVAL before Linux 4.3
        Err(errno) => return Err(errno).step("clearing the ambient set"),
    }
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).step("capset")
}

/// Whether a worker with `permitted` can become [`WORKER_ID`] and still do its work. DAC_READ_SEARCH: the registrations are
/// below a directory of root's.
fn can_leave_root(permitted: CapabilitySet) -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::DAC_READ_SEARCH;
    permitted.contains(needed | CapabilitySet::SETPCAP)
}

/// The user that a holder's workers will be.
pub(super) fn future_user(permitted: CapabilitySet) -> u32 {
    match can_leave_root(permitted) && is_mapped(WORKER_ID) {
        true => WORKER_ID,
        false => 0,
    }
}

/// Whether a number means a user here: in a small user namespace it may not.
fn is_mapped(id: u32) -> bool {
    let has = |map: &str| {
        let text = std::fs::read_to_string(map).unwrap_or_default();
        text.lines().any(|line| {
            let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().unwrap_or(0));
            let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
            first.zip(count).is_some_and(|(first, count)| id >= first && id - first < count)
        })
    };
    has("/proc/self/uid_map") && has("/proc/self/gid_map")
}

/// No capabilities by being root, by changing one's identity, or by exec: once and for all.
fn lock_secure_bits() -> Result<(), Errno> {
    set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )
}

/// Becomes [`WORKER_ID`], keeping the capabilities. Where the rights for that were not given, or the number is not mapped
/// (a small user namespace), this stays root, with a word in the log. Must come before [`reduce`].
pub(super) fn leave_root(permitted: CapabilitySet) -> Result<(), ConfineError> {
    match lock_secure_bits() {
        Ok(()) | Err(Errno::PERM) => {} // without CAP_SETPCAP
        Err(errno) => return Err(errno).step("locking the securebits"),
    }
    if future_user(permitted) != WORKER_ID {
        log::warn!(
            "the worker stays root, since CAP_SETUID, CAP_SETGID, CAP_SETPCAP or CAP_DAC_READ_SEARCH was not given, or \
             user {WORKER_ID} is not mapped"
        );
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(WORKER_ID), Gid::from_raw(WORKER_ID));
    match set_thread_groups(&[]) {
        // Where an unprivileged user made the namespace, groups can only be kept (user_namespaces(7)).
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno).step("setgroups"),
    }
    set_thread_res_gid(group, group, group).step("setresgid")?;
    set_thread_res_uid(user, user, user).step("setresuid")
}
