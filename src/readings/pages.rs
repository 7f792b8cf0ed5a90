//! What its memory and swap look like to the page allocator: `swaps`, `vmstat`, `zoneinfo`, `buddyinfo`, `slabinfo`.

use super::files::{cpus, memory};
use super::subject::Subject;
use crate::host::{Host, HostError};
use crate::model::Policies;
use crate::render;
use crate::view::{self, PagesView};

/// `/proc/swaps`.
pub(super) fn swaps(
    subject: &Subject,
    host: &Host,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), HostError> {
    let (reading, meminfo) = memory(subject, host)?;
    render::swaps(&view::memory::memory(&reading, &meminfo, policies), out);
    Ok(())
}

/// `/proc/vmstat`.
pub(super) fn vmstat(
    subject: &Subject,
    host: &Host,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), HostError> {
    let template = host.template("vmstat")?;
    render::vmstat(&template, &counted(subject, host, policies)?, out);
    Ok(())
}

/// `/proc/zoneinfo`.
pub(super) fn zoneinfo(
    subject: &Subject,
    host: &Host,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), HostError> {
    let template = host.template("zoneinfo")?;
    let (_, shown) = cpus(subject, host, policies)?;
    let view = PagesView { node: node(subject, host, policies), ..counted(subject, host, policies)? };
    render::zoneinfo(&template, &view, &shown.numbers(), out);
    Ok(())
}

/// `/proc/buddyinfo`.
pub(super) fn buddyinfo(
    subject: &Subject,
    host: &Host,
    policies: &Policies,
    out: &mut Vec<u8>,
) -> Result<(), HostError> {
    let template = host.template("buddyinfo")?;
    let (reading, meminfo) = memory(subject, host)?;
    let memory = view::memory::memory(&reading, &meminfo, policies);
    let view = PagesView {
        node: node(subject, host, policies),
        ..PagesView::new(memory, host.page_sizes(), policies)
    };
    render::buddyinfo(&template, &view, out);
    Ok(())
}

/// `/proc/slabinfo`.
pub(super) fn slabinfo(host: &Host, out: &mut Vec<u8>) -> Result<(), HostError> {
    render::slabinfo(&host.template("slabinfo")?, out);
    Ok(())
}

/// Sizes and counters from one reading of `memory.stat`.
pub(super) fn counted(subject: &Subject, host: &Host, policies: &Policies) -> Result<PagesView, HostError> {
    let meminfo = host.meminfo()?;
    let (reading, counters) = subject.groups.memory_and_counters(meminfo.swap_total.0 > 0);
    let memory = view::memory::memory(&reading, &meminfo, policies);
    let counters = subject.counters().advance(counters.as_ref());
    Ok(PagesView { counters, ..PagesView::new(memory, host.page_sizes(), policies) })
}

/// The first NUMA node that it may take memory from, in the number under which it is shown (N9).
fn node(subject: &Subject, host: &Host, policies: &Policies) -> usize {
    match super::shown_nodes(subject, host, policies) {
        Ok(nodes) => nodes.with_memory.iter().find_map(|node| nodes.displayed(node)).unwrap_or_default(),
        // a kernel that does not say which nodes it has
        Err(_) => subject.groups.mems().and_then(|nodes| nodes.iter().next()).unwrap_or_default(),
    }
}
