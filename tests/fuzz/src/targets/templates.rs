//! Files that are laid out as the host's, over any text of the host. What is shown is a text of the same kind: laid out
//! anew it stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use ownproc::model::{
    Bytes, CountersPolicy, CpuSet, HostNode, HostNodes, MemoryCounter, MemoryCounters, MemoryStat, Nsec,
    PageSizes, Policies, Usec,
};
use ownproc::render::{self, ProcFile, SYS_NODE_FILES, VMSTAT_LINES};
use ownproc::view::{self, CpuAccount, MemoryView, PagesView};

use crate::input::{head, shown_of, text};

/// What a function makes of the host's text; made of that once more it must be the same. `str::lines` takes one carriage
/// return from the end of a line, which no kernel writes.
fn laid_out(host: &str, render: impl Fn(&str, &mut Vec<u8>)) -> String {
    let once = |host: &str| {
        let mut out = b"kept\n".to_vec();
        render(host, &mut out);
        let shown = String::from_utf8(out).expect("text");
        shown.strip_prefix("kept\n").expect("what was there").to_owned()
    };
    let shown = once(host);
    assert!(shown.is_empty() || shown.ends_with('\n'));
    if !host.contains('\r') {
        assert_eq!(once(&shown), shown);
    }
    shown
}

/// Numbers that stand nowhere else.
fn memory_view() -> MemoryView {
    MemoryView {
        total: Bytes(300 << 20),
        free: Bytes(100 << 20),
        available: Bytes(200 << 20),
        stat: MemoryStat {
            anon: Bytes(7 << 20),
            file: Bytes(11 << 20),
            active_file: Bytes(5 << 20),
            ..MemoryStat::default()
        },
        ..MemoryView::default()
    }
}

fn pages_view() -> PagesView {
    let mut counters = MemoryCounters::default();
    counters.set(MemoryCounter::Pgfault, 77_777);
    let view = PagesView::new(memory_view(), PageSizes::new(Bytes(4096), None), &Policies::default());
    PagesView { counters, ..view }
}

/// `key number` lines.
fn pairs(text: &str) -> BTreeMap<&str, u64> {
    text.lines()
        .map(|line| {
            let (key, number) = line.split_once(' ').expect("a key");
            (key, number.parse().expect("a number"))
        })
        .collect()
}

/// `/proc/vmstat`: a key that is not known has 0.
pub fn proc_vmstat(data: &[u8]) {
    let Some(host) = text(data) else { return };
    let view = pages_view();
    let shown = laid_out(host, |host, out| render::vmstat(host, &view, out));
    for (key, number) in pairs(&shown) {
        assert!(number == 0 || VMSTAT_LINES.iter().any(|line| line.key == key), "{key} {number}");
        assert!(key != "pgfault" || number == 77_777);
    }
    assert!(shown.lines().count() <= host.lines().count());
}

/// `/proc/zoneinfo`: one zone.
pub fn proc_zoneinfo(data: &[u8]) {
    let (option, rest) = head(data);
    let Some(host) = text(rest) else { return };
    let (view, cpus) = (pages_view(), shown_of(option).numbers().lowest(8));
    let mut out = Vec::new();
    render::zoneinfo(host, &view, &cpus, &mut out);
    let shown = String::from_utf8(out).expect("text");
    // Every number is one of the container's.
    let mut known: BTreeSet<u64> =
        [0, view.free(), view.total()].into_iter().chain(cpus.iter().map(|n| n as u64)).collect();
    let keys: String = VMSTAT_LINES.iter().map(|line| format!("{} 1\n", line.key)).collect();
    known.extend(pairs(&laid_out(&keys, |host, out| render::vmstat(host, &view, out))).values());
    for line in shown.lines().filter(|line| !line.contains("protection:")) {
        let number = line.rsplit(' ').next().and_then(|word| word.parse().ok());
        assert!(number.is_none_or(|number| known.contains(&number)), "{line}");
    }
    assert!(shown.lines().filter(|line| line.starts_with("Node ")).count() <= 1);
    assert!(shown.lines().count() <= 2 + host.lines().count() * 9);
}

/// `/proc/buddyinfo`: the blocks hold all that is free.
pub fn proc_buddyinfo(data: &[u8]) {
    let Some(host) = text(data) else { return };
    let view = pages_view();
    let shown = laid_out(host, |host, out| render::buddyinfo(host, &view, out));
    let Some(numbers) = shown.strip_prefix("Node 0, zone   Normal ") else {
        return assert_eq!(shown, "");
    };
    let blocks = numbers.split_whitespace().map(|word| word.parse::<u64>().expect("a number"));
    let pages: u64 = blocks.enumerate().map(|(order, count)| count << order.min(63)).sum();
    assert_eq!(pages, view.free());
}

/// `slabinfo`, `modules`, `cgroups`, the counters below `sys/fs`: one of them by the option.
pub fn proc_kernel_files(data: &[u8]) {
    let (option, rest) = head(data);
    let Some(host) = text(rest) else { return };
    let files =
        [ProcFile::FileNr, ProcFile::InodeNr, ProcFile::InodeState, ProcFile::DentryState, ProcFile::AioNr];
    match option % 9 {
        0 => drop(laid_out(host, render::slabinfo)),
        1 => {
            let shown = laid_out(host, render::modules);
            for line in shown.lines() {
                let address = line.rsplit("0x").next().unwrap_or_default();
                assert!(address.bytes().all(|digit| digit == b'0'), "{line}");
            }
        }
        2 => drop(laid_out(host, render::host_modules)),
        3 => drop(laid_out(host, render::cgroups)),
        number => {
            let file = files[usize::from(number - 4)];
            let shown = laid_out(host, |host, out| render::fs_counters(file, host, out));
            let set = |column| column == 2 && matches!(file, ProcFile::FileNr | ProcFile::DentryState);
            for (column, word) in shown.split_whitespace().enumerate() {
                assert!(word == "0" || set(column), "{shown}");
            }
        }
    }
}

/// Two nodes, of which the container has memory of the second.
fn nodes() -> HostNodes {
    let node = |number: usize| HostNode {
        number,
        cpus: [number * 2, number * 2 + 1].into_iter().collect(),
        total: Bytes(2 << 30),
    };
    HostNodes { online: CpuSet::first(2), nodes: vec![node(0), node(1)] }
}

/// The files of NUMA nodes: one of them by the option, for one set of CPUs by the text's first byte.
pub fn node_files(data: &[u8]) {
    let (option, rest) = head(data);
    let (cpus, rest) = head(rest);
    let Some(host) = text(rest) else { return };
    let (host_nodes, shown) = (nodes(), shown_of(cpus));
    let nodes = view::shown_nodes(None, &shown, &host_nodes);
    let (view, share) = (memory_view(), nodes.share(1, &host_nodes));
    let mut out = Vec::new();
    match option % 8 {
        0 => {
            let shown = laid_out(host, |host, out| render::node_meminfo(host, 1, &view, &share, out));
            assert!(shown.lines().all(|line| line.starts_with("Node 1 ")));
        }
        1 => {
            let view = pages_view();
            let part = laid_out(host, |host, out| render::node_vmstat(host, &view, &share, out));
            let whole = laid_out(host, |host, out| render::vmstat(host, &view, out));
            let whole = pairs(&whole);
            assert!(pairs(&part).iter().all(|(key, number)| *number <= whole[key]));
        }
        2 => {
            let shown = laid_out(host, render::node_numastat);
            assert!(pairs(&shown).values().all(|pages| *pages == 0));
        }
        3 => render::node_cpulist(host, &shown, &mut out),
        4 => render::node_cpumap(host, &shown, &mut out),
        5 => {
            render::node_distance(host, &host_nodes.online, &nodes, &mut out);
            let distances = std::str::from_utf8(&out).unwrap().split_ascii_whitespace().count();
            assert!(distances <= nodes.numbers().len());
        }
        _ => {
            for (_, file) in SYS_NODE_FILES {
                out.clear();
                render::sys_node(*file, &nodes, host, &mut out);
                let list = CpuSet::parse(std::str::from_utf8(&out).unwrap()).expect("a list");
                assert!(list.without(&nodes.numbers()).is_empty());
            }
        }
    }
    assert!(String::from_utf8(out).is_ok());
}

/// `interrupts` and `softirqs`: a column for each shown CPU, and 0 in all of them unless the counters are asked for.
pub fn proc_cpu_tables(data: &[u8]) {
    let (option, rest) = head(data);
    let (cpus, rest) = head(rest);
    let Some(host) = text(rest) else { return };
    let shown = shown_of(cpus);
    let mut out = Vec::new();
    for counters in [CountersPolicy::Zero, CountersPolicy::Host] {
        out.clear();
        if option & 1 == 0 {
            render::interrupts(host, &shown, counters, &mut out);
        } else {
            render::softirqs(host, &shown, counters, &mut out);
        }
        let text = std::str::from_utf8(&out).expect("text");
        let (header, rows) = text.split_once('\n').expect("a header");
        let columns: Vec<&str> = header.split_ascii_whitespace().collect();
        let names: Vec<String> = shown.numbers().iter().map(|number| format!("CPU{number}")).collect();
        assert_eq!(columns, names);
        assert!(rows.lines().count() < host.lines().count().max(1));
        let of_cpus = host.lines().next().is_some_and(|header| {
            let columns = header.split_ascii_whitespace();
            columns.filter_map(|word| word.strip_prefix("CPU")).any(|number| number.parse::<usize>().is_ok())
        });
        if counters == CountersPolicy::Zero && of_cpus {
            for line in rows.lines() {
                let (_, values) = line.split_once(':').expect("a label");
                let first = values.trim_start_matches(' ').split(' ').next();
                assert!(
                    first.is_none_or(|word| word.parse::<u64>().map_or(true, |number| number == 0)),
                    "{line}"
                );
            }
        }
    }
}

/// `/proc/schedstat`: the version is all that stays.
pub fn proc_schedstat(data: &[u8]) {
    let (cpus, rest) = head(data);
    let Some(host) = text(rest) else { return };
    let shown = shown_of(cpus);
    let shown_text = laid_out(host, |host, out| {
        render::schedstat(
            host,
            render::jiffies_rate(host, Nsec(7)),
            &shown,
            &CpuAccount::default(),
            Usec(9),
            out,
        )
    });
    for line in shown_text.lines().filter(|line| line.starts_with("cpu")) {
        assert!(line.split(' ').skip(1).all(|number| number == "0"), "{line}");
    }
    assert_eq!(shown_text.lines().filter(|line| line.starts_with("cpu")).count(), shown.count());
}

/// `/proc/pressure/*`: the host's text, a line `==`, the group's. Keys of the one, numbers of the other.
pub fn proc_pressure(data: &[u8]) {
    let at = data.windows(4).position(|four| four == b"\n==\n");
    let (host, own) = at.map_or((data, &b""[..]), |at| (&data[..=at], &data[at + 4..]));
    let Some(host) = text(host) else { return };
    let mut out = Vec::new();
    render::pressure(host, own, &mut out);
    let shown = std::str::from_utf8(&out).expect("text");
    let said = String::from_utf8_lossy(own);
    for word in shown.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
        assert!(["0", "0.00"].contains(&word.1) || said.contains(word.1), "{word:?}");
    }
    let mut again = Vec::new();
    render::pressure(shown, own, &mut again);
    assert_eq!(again, out);
    out.clear();
    render::pressure_cpu(host, own, &mut out);
    let shown = std::str::from_utf8(&out).expect("text");
    for line in shown.lines().filter(|line| line.starts_with("full ")) {
        let mut values = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        assert!(values.all(|(_, value)| ["0", "0.00"].contains(&value)), "{line}");
    }
}
