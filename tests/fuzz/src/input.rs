//! From bytes to what a target needs beside text: numbers, CPU sets, readings. The same bytes give the same value, and
//! few bytes are enough: what is missing reads as zero.

use arbitrary::{Result, Unstructured};
use ownproc::model::{
    Bytes, CountersPolicy, CpuLevel, CpuReading, CpuSet, CpuUsage, CpusPolicy, HostMeminfo, HugetlbLevel,
    MemoryLevel, MemoryReading, MemoryStat, Nsec, Numbering, Policies, Quota, SwapLevel, SwapPolicy,
    TimeReading, TimensOffset, UptimePolicy, Usec,
};
use ownproc::view::ShownCpus;

/// Runs a check that takes its input piece by piece; it ends where the bytes do.
pub fn with(data: &[u8], check: impl FnOnce(&mut Unstructured<'_>) -> Result<()>) {
    // Err: the bytes ran out in the middle of the input, which says nothing about the program.
    let _ = check(&mut Unstructured::new(data));
}

/// A directory that goes with its value; in memory where that is possible.
#[must_use]
pub fn memory_dir() -> tempfile::TempDir {
    let memory = Some(std::path::Path::new("/dev/shm")).filter(|path| path.is_dir());
    memory.map_or_else(tempfile::tempdir, tempfile::tempdir_in).unwrap()
}

/// The first byte (0 where there is none) and the rest: an option, then a text.
#[must_use]
pub fn head(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// The bytes as text, where they are that.
#[must_use]
pub fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// CPU sets of one-digit options, and their numbering: '0' to '7' the kernel's numbers, '8' to '?' compact ones.
#[must_use]
pub fn shown_of(option: u8) -> ShownCpus {
    let lists = ["0", "0-1", "1", "0-3", "2,5", "0-255", "63-64", "3,8191"];
    let mask = CpuSet::parse(lists[usize::from(option & 7)]).unwrap();
    let numbering = if option & 8 == 0 { Numbering::Physical } else { Numbering::Compact };
    ShownCpus { physical: mask.clone(), mask, numbering }
}

/// Mostly of a size that is met in life, sometimes at the ends of the range.
pub fn number(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.int_in_range(0..=9u8)? {
        0 => 0,
        1 => u64::MAX,
        2 => u.arbitrary()?,
        3 => u64::MAX - u64::from(u.arbitrary::<u8>()?),
        4 | 5 => u64::from(u.arbitrary::<u8>()?),
        6 => u64::from(u.arbitrary::<u16>()?),
        7 => u64::from(u.arbitrary::<u32>()?),
        8 => u64::from(u.arbitrary::<u32>()?) << 8,
        _ => u64::from(u.arbitrary::<u16>()?) << 20,
    })
}

fn bytes(u: &mut Unstructured<'_>) -> Result<Bytes> {
    number(u).map(Bytes)
}

fn usec(u: &mut Unstructured<'_>) -> Result<Usec> {
    number(u).map(Usec)
}

/// `None` in one case of two.
pub fn option<T>(
    u: &mut Unstructured<'_>,
    value: impl FnOnce(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Option<T>> {
    if u.arbitrary()? { value(u).map(Some) } else { Ok(None) }
}

/// At most `most` values.
pub fn list<T>(
    u: &mut Unstructured<'_>,
    most: usize,
    mut value: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = u.int_in_range(0..=most)?;
    (0..count).map(|_| value(u)).collect()
}

/// Few CPUs, mostly low numbers.
pub fn cpu_set(u: &mut Unstructured<'_>) -> Result<CpuSet> {
    let cpus = list(u, 6, |u| {
        Ok(usize::from(match u.int_in_range(0..=7u8)? {
            0 => u.int_in_range(0..=8191u16)?,
            _ => u.int_in_range(0..=8u16)?,
        }))
    })?;
    Ok(cpus.into_iter().collect())
}

/// Any choices.
pub fn policies(u: &mut Unstructured<'_>) -> Result<Policies> {
    let bits: u8 = u.arbitrary()?;
    let mut policies = Policies::default();
    if bits & 1 != 0 {
        policies.cpus = CpusPolicy::Cpuset;
    }
    if bits & 2 != 0 {
        policies.numbering = Numbering::Compact;
    }
    if bits & 4 != 0 {
        policies.swap = SwapPolicy::Hide;
    }
    if bits & 8 != 0 {
        policies.uptime = UptimePolicy::Host;
    }
    if bits & 16 != 0 {
        policies.counters = CountersPolicy::Host;
    }
    Ok(policies)
}

fn swap(u: &mut Unstructured<'_>, v1: bool) -> Result<SwapLevel> {
    if !u.arbitrary::<bool>()? {
        return Ok(SwapLevel::Unknown);
    }
    let (max, usage) = (option(u, bytes)?, bytes(u)?);
    Ok(if v1 { SwapLevel::MemoryAndSwap { max, usage } } else { SwapLevel::Swap { max, usage } })
}

/// One level of memory limits.
pub fn memory_level(u: &mut Unstructured<'_>, v1: bool) -> Result<MemoryLevel> {
    Ok(MemoryLevel {
        max: option(u, bytes)?,
        high: if v1 { None } else { option(u, bytes)? },
        usage: bytes(u)?,
        reclaimable: bytes(u)?,
        swap: swap(u, v1)?,
    })
}

/// All that is read of a container's memory.
pub fn memory_reading(u: &mut Unstructured<'_>) -> Result<MemoryReading> {
    let v1 = u.arbitrary()?;
    let file = bytes(u)?;
    Ok(MemoryReading {
        levels: list(u, 4, |u| memory_level(u, v1))?,
        swappiness_zero: u.arbitrary()?,
        hugetlb: list(u, 3, |u| {
            let page_size = Bytes::from_kib(*u.choose(&[2048u64, 1 << 20, 0])?);
            Ok(HugetlbLevel { page_size, max: option(u, bytes)?, usage: bytes(u)? })
        })?,
        stat: MemoryStat {
            file,
            anon: bytes(u)?,
            active_anon: file,
            active_file: file,
            shmem: bytes(u)?,
            slab: bytes(u)?,
            ..Default::default()
        },
    })
}

/// A host's meminfo, its text included.
pub fn host_meminfo(u: &mut Unstructured<'_>) -> Result<HostMeminfo> {
    let (total, free, available) = (bytes(u)?, bytes(u)?, bytes(u)?);
    let (swap_total, swap_free, pages) = (bytes(u)?, bytes(u)?, number(u)?);
    let text = format!(
        "MemTotal:       {:>8} kB\nMemFree:        {:>8} kB\nMemAvailable:   {:>8} kB\nActive:  77777 kB\n\
         Novelty:           77777 kB\nSwapTotal:      {:>8} kB\nSwapFree:       {:>8} kB\n\
         HugePages_Total:   {pages:>5}\nHugePages_Free:    {pages:>5}\nHugepagesize:       2048 kB\n\
         Hugetlb:        {:>8} kB\nDirectMap4k:       77777 kB\n",
        total.kib(),
        free.kib(),
        available.kib(),
        swap_total.kib(),
        swap_free.kib(),
        pages.saturating_mul(2048)
    );
    Ok(HostMeminfo { text: text.into(), total, free, available, swap_total, swap_free })
}

fn quota(u: &mut Unstructured<'_>) -> Result<Option<Quota>> {
    let (quota, period) = match u.int_in_range(0..=3u8)? {
        0 => return Ok(None),
        1 => (u64::from(u.arbitrary::<u16>()?) * 10, 100_000),
        _ => (number(u)?, number(u)?),
    };
    Ok(Quota::new(Usec(quota), Usec(period)))
}

/// One level of CPU limits and counters.
pub fn cpu_level(u: &mut Unstructured<'_>) -> Result<CpuLevel> {
    Ok(CpuLevel {
        quota: quota(u)?,
        is_ancestor: u.arbitrary()?,
        nr_throttled: number(u)?,
        throttled: usec(u)?,
        usage: usec(u)?,
    })
}

/// All that is read of a container's CPUs.
pub fn cpu_reading(u: &mut Unstructured<'_>) -> Result<CpuReading> {
    Ok(CpuReading {
        levels: list(u, 3, cpu_level)?,
        throttled_local: option(u, usec)?,
        usage: match u.int_in_range(0..=4u8)? {
            0 => CpuUsage::Unknown,
            1 | 2 => CpuUsage::Total { user: usec(u)?, system: usec(u)?, nice: usec(u)? },
            _ => CpuUsage::PerCpu {
                percpu: list(u, 8, |u| number(u).map(Nsec))?,
                user: number(u).map(Nsec)?,
                system: number(u).map(Nsec)?,
            },
        },
        cpuset: option(u, cpu_set)?,
        online: cpu_set(u)?,
    })
}

/// All that is read of a container's clocks.
pub fn time_reading(u: &mut Unstructured<'_>) -> Result<TimeReading> {
    let mut time = || number(u).map(Nsec);
    let (boottime, monotonic, realtime, start) = (time()?, time()?, time()?, time()?);
    let timens = option(u, |u| {
        let nanos = if u.arbitrary()? { u.arbitrary::<i128>()? } else { u.arbitrary::<i64>()?.into() };
        Ok(TimensOffset { nanos })
    })?;
    Ok(TimeReading { boottime, monotonic, realtime, start, timens })
}
