//! `process`: what is started, as whom, with which rights and limits.

use std::ffi::CString;

use caps::Capability as Cap;
use oci_spec::runtime::{Capabilities, IOPriorityClass, LinuxSchedulerPolicy, PosixRlimitType};
use ownproc::model::CpuSet;

use super::super::OciError;

/// The sets of linux/capability.h, one bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // capabilities(7)
pub struct Rights {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}

/// One resource limit, setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// Soft; `u64::MAX` is none.
    pub soft: u64,
    /// Hard.
    pub hard: u64,
}

/// A process to start.
#[derive(Clone, Debug)]
pub struct Process {
    /// With a terminal; rows and columns where given.
    pub terminal: bool,
    /// Rows and columns of the terminal.
    pub size: Option<(u16, u16)>,
    /// At least one.
    pub args: Vec<CString>,
    /// `K=V`, in the order given.
    pub env: Vec<CString>,
    /// Absolute.
    pub cwd: CString,
    /// User inside.
    pub uid: u32,
    /// Group inside.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// umask(2); the default is 022.
    pub umask: u32,
    /// `None`: none at all.
    pub rights: Option<Rights>,
    /// See [`Limit`].
    pub limits: Vec<Limit>,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// SELinux label.
    pub selinux: Option<String>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Class and level of ioprio_set(2).
    pub io_priority: Option<u32>,
    /// See [`Scheduling`].
    pub scheduler: Option<Scheduling>,
    /// See [`Affinity`].
    pub affinity: Affinity,
}

/// The CPUs of a process that `exec` starts; the container's first process has those of its groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// Until the container's groups hold it.
    pub initial: Option<CpuSet>,
    /// From then on; without it the kernel decides.
    pub last: Option<CpuSet>,
}

/// struct sched_attr of sched_setattr(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // sched_setattr(2)
pub struct Scheduling {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

fn text(field: &str, text: &str) -> Result<CString, OciError> {
    CString::new(text).map_err(|_| OciError::config(field, "holds a NUL byte"))
}

/// Checks the number of a user or a group. -1 stands for "as it is" in setresuid(2), setresgid(2)
/// and chown(2): it would leave the process root.
pub fn id(field: &str, number: u32) -> Result<u32, OciError> {
    if number == u32::MAX {
        return Err(OciError::config(
            field,
            format!("{number} is no user or group: the last one is 4294967294"),
        ));
    }
    Ok(number)
}

impl Process {
    /// Checks the object.
    pub fn new(process: &oci_spec::runtime::Process) -> Result<Self, OciError> {
        let args = process.args().as_deref().unwrap_or_default();
        if args.first().is_none_or(String::is_empty) {
            return Err(OciError::config("process.args", "empty: what is to be started?"));
        }
        let cwd = process.cwd();
        if !cwd.is_absolute() {
            return Err(OciError::config("process.cwd", format!("{:?} is not absolute", cwd)));
        }
        let env = process.env().as_deref().unwrap_or_default();
        if let Some(bad) = env.iter().find(|pair| pair.find('=').is_none_or(|at| at == 0)) {
            return Err(OciError::config("process.env", format!("{bad:?} is not NAME=VALUE")));
        }
        let oom = process.oom_score_adj();
        if oom.is_some_and(|score| !(-1000..=1000).contains(&score)) {
            return Err(OciError::config("process.oomScoreAdj", "is -1000 to 1000"));
        }
        let user = process.user();
        let label = |label: &Option<String>| label.clone().filter(|label| !label.is_empty());
        let side = |length: u64| u16::try_from(length).unwrap_or(u16::MAX);
        Ok(Self {
            terminal: process.terminal().unwrap_or(false),
            size: process.console_size().map(|size| (side(size.height()), side(size.width()))),
            args: args.iter().map(|arg| text("process.args", arg)).collect::<Result<_, _>>()?,
            env: env.iter().map(|pair| text("process.env", pair)).collect::<Result<_, _>>()?,
            cwd: text("process.cwd", &cwd.to_string_lossy())?,
            uid: id("process.user.uid", user.uid())?,
            gid: id("process.user.gid", user.gid())?,
            groups: user
                .additional_gids()
                .iter()
                .flatten()
                .map(|gid| id("process.user.additionalGids", *gid))
                .collect::<Result<_, _>>()?,
            umask: user.umask().unwrap_or(0o022) & 0o777,
            rights: process.capabilities().as_ref().map(rights),
            limits: limits(process)?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            apparmor: label(process.apparmor_profile()),
            selinux: label(process.selinux_label()),
            oom_score_adj: oom,
            io_priority: process.io_priority().as_ref().map(io_priority).transpose()?,
            scheduler: process.scheduler().as_ref().map(scheduling).transpose()?,
            affinity: process.exec_cpu_affinity().as_ref().map(affinity).transpose()?.unwrap_or_default(),
        })
    }
}

/// The bits of a set.
fn bits(set: &Option<Capabilities>) -> u64 {
    let number = |capability: &oci_spec::runtime::Capability| -> Option<u64> {
        let name = format!("CAP_{capability}");
        Some(1 << name.parse::<Cap>().ok()?.index())
    };
    set.iter().flatten().filter_map(number).fold(0, |bits, bit| bits | bit)
}

fn rights(sets: &oci_spec::runtime::LinuxCapabilities) -> Rights {
    Rights {
        bounding: bits(sets.bounding()),
        effective: bits(sets.effective()),
        inheritable: bits(sets.inheritable()),
        permitted: bits(sets.permitted()),
        ambient: bits(sets.ambient()),
    }
}

fn limits(process: &oci_spec::runtime::Process) -> Result<Vec<Limit>, OciError> {
    let mut found: Vec<Limit> = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let resource = resource(limit.typ());
        let (soft, hard) = (limit.soft(), limit.hard());
        if soft > hard {
            return Err(OciError::config("process.rlimits", format!("{}: soft is above hard", limit.typ())));
        }
        if found.iter().any(|other| other.resource == resource) {
            return Err(OciError::config("process.rlimits", format!("{} is there twice", limit.typ())));
        }
        found.push(Limit { resource, soft, hard });
    }
    Ok(found)
}

fn resource(typ: PosixRlimitType) -> u32 {
    match typ {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

/// The number that ioprio_set(2) takes: class in the bits from 13 on.
fn io_priority(priority: &oci_spec::runtime::LinuxIOPriority) -> Result<u32, OciError> {
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = u32::try_from(priority.priority()).ok().filter(|level| *level < 8);
    let level = level.ok_or_else(|| OciError::config("process.ioPriority.priority", "is 0 to 7"))?;
    Ok(class << 13 | level)
}

fn affinity(affinity: &oci_spec::runtime::ExecCPUAffinity) -> Result<Affinity, OciError> {
    let cpus = |field: &str, list: &Option<String>| {
        let list = list.as_deref().filter(|list| !list.is_empty());
        let parse = |list| CpuSet::parse(list).map_err(|error| OciError::config(field, error.to_string()));
        list.map(parse).transpose()
    };
    Ok(Affinity {
        initial: cpus("process.execCPUAffinity.initial", affinity.initial())?,
        last: cpus("process.execCPUAffinity.final", affinity.cpu_affinity_final())?,
    })
}

fn scheduling(scheduler: &oci_spec::runtime::Scheduler) -> Result<Scheduling, OciError> {
    use oci_spec::runtime::LinuxSchedulerFlag as Flag;
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    // linux/sched.h, SCHED_FLAG_*
    let flag = |flag: &Flag| match flag {
        Flag::SchedResetOnFork => 0x01,
        Flag::SchedFlagReclaim => 0x02,
        Flag::SchedFlagDLOverrun => 0x04,
        Flag::SchedFlagKeepPolicy => 0x08,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    };
    let priority = scheduler.priority().unwrap_or(0);
    Ok(Scheduling {
        policy,
        flags: scheduler.flags().iter().flatten().map(flag).fold(0, |bits, bit| bits | bit),
        nice: scheduler.nice().unwrap_or(0),
        priority: u32::try_from(priority)
            .map_err(|_| OciError::config("process.scheduler.priority", "is negative"))?,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    })
}
