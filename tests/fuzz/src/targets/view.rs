//! The arithmetic between what is read and what is shown, over readings that no kernel would give.

use std::collections::BTreeMap;

use ownproc::model::host::{CpuinfoBlock, HostStatLine};
use ownproc::model::{
    Bytes, CpuSet, HostCpuinfo, HostNode, HostNodes, HostStat, MemoryCounter, MemoryCounters, Nsec,
    PageSizes, Policies, SwapLevel, TaskCounts, TimeReading, Usec,
};
use ownproc::render;
use ownproc::view::{self, CounterAccount, CpuAccount, DiskAccount, KeptLoad, ShownCpus};

use crate::input::{self, with};

/// Free, available and total in order; the binding level gives the value; one more level never raises it.
pub fn view_memory(data: &[u8]) {
    with(data, |u| {
        let host = input::host_meminfo(u)?;
        let policies = input::policies(u)?;
        let reading = input::memory_reading(u)?;
        let view = view::memory(&reading, &host, &policies);
        assert!(view.free <= view.available && view.available <= view.total);
        assert!(view.total <= host.total.max(view::memory::MIN_TOTAL));
        assert!(view.swap_free <= view.swap_total && view.swap_total <= host.swap_total);
        assert!(view.hugetlb.pages_free <= view.hugetlb.pages_total);
        let levels = &reading.levels;
        for binding in [
            view::effective_memory_limit(levels, &host),
            view::effective_memory_high(levels, &host),
            view::memory_headroom(levels, &host),
            view::memory_available(levels, &host),
        ] {
            assert!(binding.value <= host.total.max(host.free).max(host.available));
            assert!(binding.level.is_none_or(|index| index < levels.len()));
        }
        let mut out = Vec::new();
        render::meminfo(&host, &view, &mut out);
        assert_eq!(std::str::from_utf8(&out).unwrap().lines().count(), host.text.lines().count());
        let v1 = levels.iter().any(|level| matches!(level.swap, SwapLevel::MemoryAndSwap { .. }));
        let mut more = reading.clone();
        let new = input::memory_level(u, false)?;
        more.levels.insert(u.int_in_range(0..=levels.len())?, new);
        let after = view::memory(&more, &host, &policies);
        assert!(after.total <= view.total && after.available <= view.available && after.free <= view.free);
        // On v1 less memory under the same memsw limit leaves more for swap.
        assert!(v1 || after.swap_total <= view.swap_total);
        Ok(())
    });
}

/// One set of CPUs everywhere, and a number for each that leads back.
pub fn view_cpus(data: &[u8]) {
    with(data, |u| {
        let policies = input::policies(u)?;
        let reading = input::cpu_reading(u)?;
        let shown = view::shown(&reading, &policies);
        assert_eq!(shown.count() == 0, reading.online.is_empty());
        assert!(
            shown.physical.without(&shown.mask).is_empty() && shown.mask.without(&reading.online).is_empty()
        );
        let numbers = shown.numbers();
        for number in numbers.iter() {
            assert_eq!(shown.physical_of(number).and_then(|cpu| shown.displayed(cpu)), Some(number));
        }
        let blocks = reading.online.iter().map(|cpu| CpuinfoBlock {
            cpu,
            text: format!("processor\t: {cpu}\nsiblings\t: 9\n"),
            physical_id: Some(cpu as u64 % 2),
            core_id: Some(cpu as u64 / 2),
        });
        let host = HostCpuinfo { blocks: blocks.collect(), ..HostCpuinfo::default() };
        let mut out = Vec::new();
        render::cpuinfo(&host, &shown, &mut out);
        let again = ownproc::host::parse::cpuinfo::cpuinfo(&out);
        assert_eq!(again.blocks.iter().map(|block| block.cpu).collect::<CpuSet>(), numbers);
        for (_, file) in render::SYS_CPU_FILES.iter().filter(|(_, file)| file.rule() == "Y1") {
            out.clear();
            render::sys_cpu(*file, &shown, 255, &mut out);
            assert_eq!(CpuSet::parse(std::str::from_utf8(&out).unwrap()).as_ref(), Ok(&numbers));
        }
        let mut more = reading.clone();
        more.levels.push(input::cpu_level(u)?);
        assert!(view::shown(&more, &policies).count() <= shown.count());
        Ok(())
    });
}

fn host_stat() -> HostStat {
    let line = |key: &str, columns| HostStatLine { key: key.into(), columns, text: format!("{key} 9") };
    HostStat { cpu_columns: 10, lines: vec![line("btime", 1), line("processes", 1)], btime: 5 }
}

fn lines(account: &mut CpuAccount, shown: &ShownCpus, tasks: &TaskCounts) -> BTreeMap<String, Vec<u64>> {
    let (time, host) = (TimeReading::default(), host_stat());
    let mut out = Vec::new();
    let view = view::stat_view(account, shown, tasks, &time, &host, &Policies::default());
    render::stat(&host, &view, &mut out);
    std::str::from_utf8(&out)
        .unwrap()
        .lines()
        .map(|line| {
            let mut words = line.split(' ').filter(|word| !word.is_empty());
            (words.next().unwrap().to_owned(), words.map(|word| word.parse().unwrap()).collect())
        })
        .collect()
}

/// No counter of `/proc/stat` goes down over any sequence of readings, and idle time does not either.
pub fn view_account(data: &[u8]) {
    with(data, |u| {
        let mut account = CpuAccount::default();
        let mut before: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for _ in 0..16 {
            let policies = input::policies(u)?;
            let reading = input::cpu_reading(u)?;
            let time = input::time_reading(u)?;
            let tasks = TaskCounts { last_pid: input::number(u)?, ..TaskCounts::default() };
            let shown = view::shown(&reading, &policies);
            let (idle, total) = (account.idle(), account.total());
            account.advance(&reading, &shown, &time);
            assert!(idle <= account.idle() && total.used() <= account.total().used());
            let after = lines(&mut account, &shown, &tasks);
            for (key, values) in &after {
                for (old, new) in before.get(key).into_iter().flatten().zip(values) {
                    assert!(old <= new, "{key} fell from {old} to {new}");
                }
            }
            before.extend(after);
            if u.is_empty() {
                break;
            }
        }
        Ok(())
    });
}

/// Uptime grows with the clock; the second the container booted in is some second.
pub fn view_time(data: &[u8]) {
    with(data, |u| {
        let policies = input::policies(u)?;
        let time = input::time_reading(u)?;
        let before = view::uptime(&time, Usec::MAX, &policies);
        let later = TimeReading { boottime: time.boottime.plus(Nsec(input::number(u)?)), ..time };
        let after = view::uptime(&later, Usec::ZERO, &policies);
        assert!(before.uptime <= after.uptime);
        let _ = view::btime(&time, &host_stat());
        for view in [before, after] {
            let mut out = Vec::new();
            render::uptime(&view, &mut out);
            let text = String::from_utf8(out).unwrap();
            let fields: Vec<_> = text.trim_end().split(' ').collect();
            assert!(
                fields.len() == 2
                    && fields.iter().all(|field| {
                        field.split_once('.').is_some_and(|(whole, part)| {
                            part.len() == 2 && format!("{whole}{part}").bytes().all(|b| b.is_ascii_digit())
                        })
                    }),
                "{text}"
            );
        }
        Ok(())
    });
}

/// Sizes in pages are within the whole; counters of memory never go down.
pub fn view_pages(data: &[u8]) {
    with(data, |u| {
        let policies = input::policies(u)?;
        let (reading, host) = (input::memory_reading(u)?, input::host_meminfo(u)?);
        let memory = view::memory(&reading, &host, &policies);
        let huge = input::option(u, input::number)?.map(Bytes);
        let sizes = PageSizes::new(Bytes(*u.choose(&[4096, 65_536, 0, 1])?), huge);
        let view = view::PagesView::new(memory, sizes, &policies);
        assert!(view.free() <= view.total() && view.free_in_blocks() <= view.free());
        assert!(view.dirty_background_threshold() <= view.dirty_threshold());
        assert!(view.dirty_threshold() <= view.total());
        let orders = usize::from(u.int_in_range(1..=20u8)?);
        let blocks = view::blocks(view.free(), orders).enumerate();
        assert_eq!(blocks.map(|(order, count)| count << order).sum::<u64>(), view.free());
        let mut out = Vec::new();
        render::swaps(&view.memory, &mut out);
        assert!(std::str::from_utf8(&out).unwrap().lines().count() <= 2);
        let mut account = view::CounterAccount::default();
        let mut before = MemoryCounters::default();
        while !u.is_empty() {
            let mut counters = MemoryCounters::default();
            for _ in 0..4 {
                let counter =
                    MemoryCounter::ALL[usize::from(u.arbitrary::<u8>()?) % MemoryCounter::ALL.len()];
                counters.set(counter, input::number(u)?);
            }
            let after = account.advance(Some(&counters));
            for counter in MemoryCounter::ALL {
                assert!(before.get(*counter) <= after.get(*counter), "{counter:?}");
            }
            assert_eq!(account.advance(None), after);
            before = after;
        }
        Ok(())
    });
}

/// Each shown node has its part, and the parts add up.
pub fn view_nodes(data: &[u8]) {
    with(data, |u| {
        let reading = input::cpu_reading(u)?;
        let shown = view::shown(&reading, &input::policies(u)?);
        let online = input::cpu_set(u)?;
        let nodes = online
            .iter()
            .map(|number| Ok(HostNode { number, cpus: input::cpu_set(u)?, total: Bytes(input::number(u)?) }));
        let host = HostNodes { nodes: nodes.collect::<arbitrary::Result<_>>()?, online: online.clone() };
        let mems = input::option(u, input::cpu_set)?;
        let nodes = view::shown_nodes(mems.as_ref(), &shown, &host);
        assert!(nodes.physical.without(&online).is_empty());
        assert_eq!(nodes.physical.is_empty(), online.is_empty());
        for number in nodes.numbers().iter() {
            assert_eq!(nodes.physical_of(number).and_then(|node| nodes.displayed(node)), Some(number));
        }
        let (number, smaller) = (input::number(u)?, input::number(u)?);
        let smaller = smaller.min(number);
        let (mut whole, mut part) = (0u64, 0u64);
        for node in nodes.physical.iter() {
            let share = nodes.share(node, &host);
            whole = whole.saturating_add(share.of(number));
            let within = share.of_total(number);
            part = part.saturating_add(within.of(smaller));
            assert!(within.of(smaller) <= within.of(number));
        }
        assert!(
            online.is_empty() || (whole == number && part == smaller),
            "{whole} {part} of {number} {smaller}"
        );
        Ok(())
    });
}

/// Averages are finite and between what was seen; sampling never gets more than its share; an order has each place once.
pub fn view_load(data: &[u8]) {
    with(data, |u| {
        let mut now = Nsec(input::number(u)?);
        let mut load = view::load::Load::of_age(Nsec(input::number(u)?), now);
        let mut budget = view::load::Budget::new(now, Nsec::ZERO);
        let mut spent = Nsec::ZERO;
        for turn in 0..24 {
            let sample = view::load::LoadSample {
                active: f64::from(u.arbitrary::<u16>()?),
                demand: input::option(u, input::number)?.map(Usec),
                cpus: usize::from(u.arbitrary::<u8>()?),
            };
            if turn == 0 && u.arbitrary()? {
                load.take_first(sample, now);
            } else {
                load.take(sample, now);
            }
            for average in load.averages().0 {
                assert!((0.0..=65_536.0).contains(&average), "{average}");
            }
            let averages = load.averages();
            let view = view::LoadView { averages, running: 1, total: 2, last_pid: input::number(u)? };
            let mut out = Vec::new();
            render::loadavg(&view, &mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap().split(' ').count(), 5);
            spent = spent.plus(Nsec(u.arbitrary::<u32>()?.into()));
            let rest = budget.rest(now, spent);
            now = now.plus(rest).plus(Nsec(u.arbitrary::<u16>()?.into()));
            if u.is_empty() {
                break;
            }
        }
        let (count, turn) = (usize::from(u.arbitrary::<u8>()?), u.arbitrary()?);
        let order: std::collections::BTreeSet<usize> = view::load::spread_order(count, turn).collect();
        assert!(order.len() == count && order.iter().all(|place| *place < count));
        let (counted, looked) = (input::number(u)?, input::number(u)?);
        let total = looked.saturating_add(input::number(u)?);
        assert!(view::load::scaled(counted, looked, total) >= counted);
        Ok(())
    });
}

/// What an earlier process kept: any bytes are taken or refused, and what is taken is kept as the same bytes.
pub fn view_saved(data: &[u8]) {
    let (kind, bytes) = input::head(data);
    let mut again = Vec::new();
    let taken = match kind & 3 {
        0 => CpuAccount::decode(bytes).map(|mut account| {
            account.encode(&mut again);
            let before = account.total();
            let shown = input::shown_of(kind >> 2);
            let reading = ownproc::model::CpuReading::default();
            let time = TimeReading { monotonic: Nsec(u64::MAX), ..TimeReading::default() };
            account.advance(&reading, &shown, &time);
            assert!(account.total().idle >= before.idle && account.total().used() >= before.used());
        }),
        1 => CounterAccount::decode(bytes).map(|mut account| {
            account.encode(&mut again);
            let before = account.advance(None);
            let after = account.advance(Some(&MemoryCounters::default()));
            assert!(MemoryCounter::ALL.iter().all(|it| after.get(*it) >= before.get(*it)));
        }),
        2 => DiskAccount::decode(bytes).map(|account| account.encode(&mut again)),
        _ => KeptLoad::decode(bytes).map(|kept| {
            kept.encode(&mut again);
            if let Some(mut load) = kept.load {
                load.take_first(view::LoadSample::default(), Nsec(u64::MAX));
                assert!(load.averages().0.iter().all(|average| average.is_finite() && *average >= 0.0));
            }
        }),
    };
    assert!(taken.is_none() || again == bytes);
}
