//! `process.execCPUAffinity`: the CPUs of a process that `exec` starts, before it is in the container's groups and then.

use std::io;

use ownproc::model::CpuSet;

/// Lets the calling thread run on these CPUs alone; refused where none of them is there or in its cpuset.
pub fn set(cpus: &CpuSet) -> io::Result<()> {
    let mut words = vec![0 as libc::c_ulong; cpus.last().map_or(0, |last| last / BITS + 1)];
    for cpu in cpus.iter() {
        if let Some(word) = words.get_mut(cpu / BITS) {
            *word |= 1 << (cpu % BITS);
        }
    }
    let size = size_of_val(words.as_slice());
    // SAFETY: the kernel reads `size` bytes of words, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, words.as_ptr()) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const BITS: usize = libc::c_ulong::BITS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_owned()
    }

    #[test]
    fn one_thread_on_one_cpu() {
        std::thread::spawn(|| {
            let all = CpuSet::parse(&allowed()).unwrap();
            let last = all.last().unwrap().to_string();
            set(&CpuSet::parse(&last).unwrap()).unwrap();
            assert_eq!(allowed(), last);
            set(&CpuSet::parse("8191").unwrap()).unwrap_err();
            set(&CpuSet::EMPTY).unwrap_err();
            assert_eq!(allowed(), last);
            set(&all).unwrap();
        })
        .join()
        .unwrap();
    }
}
