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
