//! sysinfo(2): the same readings as those of `meminfo`, `uptime` and `loadavg`.

use super::files::{accounted, is_hosts, memory};
use super::load;
use super::reader::ReaderTime;
use super::subject::Subject;
use crate::host::{Host, HostError};
use crate::model::Policies;
use crate::render::ProcFile;
use crate::view::{self, SysinfoView};

/// What a thread of the container is told (rule A7); `None` where one of the three files is the host's, so that the kernel's own
/// answer is the right one.
pub fn sysinfo(
    reader: ReaderTime,
    subject: &Subject,
    host: &Host,
    policies: &Policies,
) -> Result<Option<SysinfoView>, HostError> {
    if [ProcFile::Meminfo, ProcFile::Uptime, ProcFile::Loadavg]
        .into_iter()
        .any(|file| is_hosts(file, subject))
    {
        return Ok(None);
    }
    let (reading, meminfo) = memory(subject, host)?;
    let memory = view::memory::memory(&reading, &meminfo, policies);
    let load = load::view(subject, host)?;
    let (time, _, account) = accounted(reader, subject, host, policies)?;
    let uptime = view::uptime(&time, account.idle(), policies);
    drop(account);
    Ok(Some(view::sysinfo(&memory, &uptime, &load)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cgroup::{GroupSet, Layout, Membership};
    use crate::fixture::{Arch, Fixture, Flavour, Group};
    use crate::model::{Bytes, HostPid, Nsec, SwapPolicy};
    use crate::readings::render_to;

    /// A host, and what is in its group `/web` or in its root.
    fn world(flavour: Flavour, group: &str, init: Option<i32>) -> (Fixture, Host, Subject) {
        let fixture = Fixture::new(flavour, 2, Arch::X86);
        let limits = Group { memory: Some(64 << 20), usage: 1 << 20, cpus: "0".into(), ..Group::default() };
        fixture.group("/web", &limits);
        fixture.process(4000, &[1], "init", 'S', 890_000, None);
        let host = Host::open(fixture.root()).unwrap();
        let layout = Layout::discover(fixture.root()).unwrap();
        let membership = Membership::parse("", &layout).map(|_, _| group.into());
        let groups = Arc::new(GroupSet::open(&layout, &membership).unwrap());
        let subject = Subject::new(groups, Nsec::ZERO, None, init.and_then(HostPid::new));
        (fixture, host, subject)
    }

    #[test]
    fn a7_all_or_nothing() {
        for flavour in [Flavour::V1, Flavour::Hybrid, Flavour::V2] {
            let policies = Policies { swap: SwapPolicy::Hide, ..Policies::default() };
            let (_fixture, host, web) = world(flavour, "/web", Some(4000));
            let view = sysinfo(ReaderTime::Init, &web, &host, &policies).unwrap().unwrap();
            let mut text = Vec::new();
            render_to(ReaderTime::Init, ProcFile::Meminfo, &web, &host, &policies, &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            let line = |key: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
                Bytes::from_kib(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap())
            };
            assert_eq!((view.total, view.free), (line("MemTotal"), line("MemFree")), "{flavour:?}");
            assert_eq!((view.total, view.swap_total), (Bytes(64 << 20), Bytes::ZERO), "{flavour:?}");
            // the host itself: not one of the three files is a container's
            let (_fixture, host, root) = world(flavour, "/", None);
            assert_eq!(sysinfo(ReaderTime::Init, &root, &host, &policies).unwrap(), None, "{flavour:?}");
        }
        // One of a single hierarchy: its memory is limited, its CPUs and time are the host's.
        let (fixture, host, _) = world(Flavour::V1, "/web", None);
        let layout = Layout::discover(fixture.root()).unwrap();
        let membership = Membership::parse("7:memory:/web\n", &layout);
        let groups = Arc::new(GroupSet::open(&layout, &membership).unwrap());
        let half = Subject::new(groups, Nsec::ZERO, None, None);
        assert!(!is_hosts(ProcFile::Meminfo, &half) && is_hosts(ProcFile::Uptime, &half));
        assert_eq!(sysinfo(ReaderTime::Init, &half, &host, &Policies::default()).unwrap(), None);
    }
}
