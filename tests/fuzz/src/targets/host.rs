//! What the host says, and what is made of it for a container.

use std::collections::BTreeMap;

use ownproc::host::parse;
use ownproc::host::parse::process;
use ownproc::model::{
    Bytes, CpuSet, DiskId, DiskUse, MemoryLevel, MemoryReading, MemoryStat, Policies, SwapLevel, TaskCounts,
    TimeReading, TimensOffset, Transfer,
};
use ownproc::render;
use ownproc::view::{self, CpuAccount, DiskAccount};

use crate::input::{head, shown_of};

/// `key: number unit` of every line; the last one counts where a key stands twice.
fn values(text: &str) -> BTreeMap<&str, u64> {
    text.lines()
        .map(|line| {
            let (key, value) = line.split_once(':').expect("a key");
            let number = value.split_whitespace().next().expect("a value");
            assert!(number.bytes().all(|b| b.is_ascii_digit()), "{line}");
            // Only a line that stays the host's may have a number that no kernel has.
            (key, number.parse().unwrap_or(u64::MAX))
        })
        .collect()
}

/// A meminfo of the host, and the container's that is laid out like it.
pub fn host_meminfo(data: &[u8]) {
    let Ok(host) = parse::meminfo::meminfo(data) else { return };
    let reading = MemoryReading {
        levels: vec![MemoryLevel {
            max: Some(Bytes(300 << 20)),
            usage: Bytes(100 << 20),
            reclaimable: Bytes(10 << 20),
            swap: SwapLevel::Swap { max: Some(Bytes(50 << 20)), usage: Bytes(5 << 20) },
            ..MemoryLevel::default()
        }],
        stat: MemoryStat { file: Bytes(3 << 20), ..MemoryStat::default() },
        ..MemoryReading::default()
    };
    let view = view::memory(&reading, &host, &Policies::default());
    assert!(view.free <= view.available && view.available <= view.total && view.swap_free <= view.swap_total);
    let mut out = Vec::new();
    render::meminfo(&host, &view, &mut out);
    let text = std::str::from_utf8(&out).expect("text");
    assert!(text.lines().count() <= host.text.lines().count());
    let shown = values(text);
    for (key, value) in &shown {
        match *key {
            "MemTotal" => assert_eq!(*value, view.total.whole_pages().kib()),
            "MemFree" => assert_eq!(*value, view.free.whole_pages().kib()),
            "MemAvailable" => assert_eq!(*value, view.available.whole_pages().kib()),
            "Cached" => assert_eq!(*value, 3 << 10),
            key if !render::MEMINFO_LINES.iter().any(|line| line.key == key) => {
                assert_eq!(*value, 0, "{key} is not known, and shown");
            }
            _ => {}
        }
    }
    if let Ok(again) = parse::meminfo::meminfo(&out) {
        assert_eq!(again.total, view.total.whole_pages());
    }
}

/// A cpuinfo of the host: the container's has the blocks of its CPUs and no other.
pub fn host_cpuinfo(data: &[u8]) {
    let (option, text) = head(data);
    let host = parse::cpuinfo::cpuinfo(text);
    assert!(host.blocks.iter().all(|block| block.text.ends_with('\n')));
    let shown = shown_of(option);
    let mut out = Vec::new();
    render::cpuinfo(&host, &shown, &mut out);
    assert!(std::str::from_utf8(&out).is_ok());
    let numbers: Vec<usize> = host.blocks.iter().filter_map(|block| shown.displayed(block.cpu)).collect();
    // What comes back has the same CPUs, unless lines of no CPU look like one once they stand next to a block.
    if host.global_after.is_empty() && (host.global_before.is_empty() || host.global_before.ends_with('\n')) {
        let again: Vec<usize> = parse::cpuinfo::cpuinfo(&out).blocks.iter().map(|block| block.cpu).collect();
        assert_eq!(again, numbers);
    }
}

/// A stat of the host: the container's has the same lines and columns, and none of the numbers.
pub fn host_stat(data: &[u8]) {
    let (option, text) = head(data);
    let Ok(host) = parse::stat::stat(text) else { return };
    let shown = shown_of(option);
    let (mut account, time) = (CpuAccount::default(), TimeReading::default());
    let view =
        view::stat_view(&mut account, &shown, &TaskCounts::default(), &time, &host, &Policies::default());
    let mut out = Vec::new();
    render::stat(&host, &view, &mut out);
    let again = parse::stat::stat(&out).expect("what is shown can be read");
    assert_eq!((again.cpu_columns, again.btime), (host.cpu_columns, host.btime));
    let shape = |host: &ownproc::model::HostStat| -> Vec<(String, usize)> {
        host.lines.iter().map(|line| (line.key.clone(), line.columns)).collect()
    };
    assert_eq!(shape(&again), shape(&host));
    for line in &again.lines {
        let numbers = || line.text.split_ascii_whitespace().skip(1);
        assert!(line.key == "btime" || numbers().all(|number| number == "0"), "{}", line.text);
    }
    let text = std::str::from_utf8(&out).expect("text");
    let number =
        |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    let cpus: CpuSet = text
        .lines()
        .map_while(|line| line.strip_prefix("cpu"))
        .filter_map(|line| line.split(' ').next().and_then(number))
        .collect();
    assert_eq!(cpus, shown.numbers());
}

/// `/proc/PID/stat`.
pub fn host_process_stat(data: &[u8]) {
    let Some(stat) = process::stat(data) else { return };
    let state = [stat.state];
    let printed = [
        b"1 (x) ".as_slice(),
        &state,
        format!(" {} {}{} 9\n", stat.ppid, "0 ".repeat(17), stat.start.0).as_bytes(),
    ]
    .concat();
    assert_eq!(process::stat(&printed), Some(stat));
}

/// `/proc/PID/status`.
pub fn host_process_status(data: &[u8]) {
    let status = process::status(data);
    let ids: Vec<String> = status.nspid.iter().map(u64::to_string).collect();
    let printed = [
        b"State:\t".as_slice(),
        &[status.state],
        format!(
            " (x)\nTgid:\t{}\nNSpid:\t{}\nCapEff:\t{:016x}\n",
            status.tgid,
            ids.join("\t"),
            status.effective
        )
        .as_bytes(),
    ]
    .concat();
    let again = process::status(&printed);
    assert_eq!((again.tgid, &again.nspid, again.effective), (status.tgid, &status.nspid, status.effective));
    assert!(status.state == 0 || again.state == status.state);
}

/// `/proc/PID/timens_offsets`.
pub fn host_timens(data: &[u8]) {
    let Some(offset) = process::timens_boottime(data) else { return };
    let (seconds, nanos) = (offset.nanos.div_euclid(1_000_000_000), offset.nanos.rem_euclid(1_000_000_000));
    if u64::try_from(seconds.unsigned_abs()).is_ok() {
        let printed = format!("monotonic 0 0\nboottime {seconds:>10} {nanos}\n");
        assert_eq!(process::timens_boottime(printed.as_bytes()), Some(offset));
    }
    let time = TimeReading { timens: Some(TimensOffset { nanos: offset.nanos }), ..TimeReading::default() };
    let _ = view::uptime(&time, ownproc::model::Usec::ZERO, &Policies::default());
    let _ = view::btime(&time, &ownproc::model::HostStat::default());
}

/// The text of a namespace link.
pub fn host_namespace(data: &[u8]) {
    if let Some(inode) = process::namespace(data) {
        assert_eq!(process::namespace(format!("pid:[{inode}]").as_bytes()), Some(inode));
    }
}

/// A boot id is printed as the kernel prints it; the container's is another.
pub fn host_boot_id(data: &[u8]) {
    let Ok(id) = parse::boot_id::boot_id(data) else { return };
    let mut printed = Vec::new();
    render::boot_id(id, &mut printed);
    assert_eq!(printed.trim_ascii(), data.trim_ascii().to_ascii_lowercase());
    assert_eq!(parse::boot_id::boot_id(&printed), Ok(id));
    let own = view::boot_id(id, &view::Identity::Group(1, 2));
    assert_ne!(own, id);
}

/// The size of a node's memory.
pub fn host_node(data: &[u8]) {
    let Some(text) = crate::input::text(data) else { return };
    if let Some(total) = parse::node::total(text) {
        let printed = format!("Node 0 MemTotal:       {:>8} kB\n", total.kib());
        assert_eq!(parse::node::total(&printed).map(Bytes::kib), Some(total.kib()));
    }
}

/// A diskstats of the host, and the container's: disks that it used, in the host's order, with none of the host's numbers.
pub fn host_diskstats(data: &[u8]) {
    let host = parse::diskstats::diskstats(data);
    let mut account = DiskAccount::default();
    let transfer = Transfer { bytes: Bytes(1 << 20), operations: 77 };
    let mut used: Vec<DiskId> = host.names.iter().step_by(2).map(|(disk, _)| *disk).collect();
    used.truncate(50);
    for disk in &used {
        account.advance(*disk, DiskUse { write: transfer, ..DiskUse::NONE });
    }
    let mut out = Vec::new();
    render::diskstats(host.columns, &account.view(&host, |_| None), &mut out);
    let again = parse::diskstats::diskstats(&out);
    if used.is_empty() {
        return assert_eq!(out, b"");
    }
    assert_eq!(again.columns, host.columns);
    assert!(again.names.iter().all(|(disk, name)| used.contains(disk) && !name.is_empty()));
    let text = std::str::from_utf8(&out).expect("text");
    for line in text.lines() {
        // after the device's numbers and its name
        let numbers = line.split_ascii_whitespace().skip(3);
        assert!(numbers.clone().all(|number| ["0", "77", "2048"].contains(&number)), "{line}");
    }
}
