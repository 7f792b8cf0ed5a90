//! Invariants that hold for every reading, sensible or not.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::collections::BTreeMap;

use ownproc::model::host::{CpuinfoBlock, HostStatLine};
use ownproc::model::{
    Bytes, CpuLevel, CpuReading, CpuSet, CpuUsage, CpusPolicy, HostCpuinfo, HostMeminfo, HostStat,
    HugetlbLevel, MemoryLevel, MemoryReading, MemoryStat, Nsec, Numbering, Policies, Quota, SwapLevel,
    SwapPolicy, TaskCounts, TimeReading, TimensOffset, UptimePolicy, Usec,
};
use ownproc::render;
use ownproc::view::{self, CpuAccount, ShownCpus};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Mostly of a size that is met in life, sometimes at the ends of the range.
fn number() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![
        6 => 0..1u64 << 36,
        2 => 0..10_000u64,
        1 => Just(0),
        1 => Just(u64::MAX),
        1 => any::<u64>(),
    ]
}

fn bytes() -> impl Strategy<Value = Bytes> + Clone {
    number().prop_map(Bytes)
}

fn policies() -> impl Strategy<Value = Policies> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(cpus, numbering, swap, uptime)| Policies {
            cpus: if cpus { CpusPolicy::Quota } else { CpusPolicy::Cpuset },
            numbering: if numbering { Numbering::Physical } else { Numbering::Compact },
            swap: if swap { SwapPolicy::Show } else { SwapPolicy::Hide },
            uptime: if uptime { UptimePolicy::Container } else { UptimePolicy::Host },
            ..Default::default()
        },
    )
}

fn swap(v1: bool) -> impl Strategy<Value = SwapLevel> {
    (any::<bool>(), option::of(bytes()), bytes()).prop_map(move |(known, max, usage)| match (known, v1) {
        (false, _) => SwapLevel::Unknown,
        (true, true) => SwapLevel::MemoryAndSwap { max, usage },
        (true, false) => SwapLevel::Swap { max, usage },
    })
}

fn memory_level(v1: bool) -> impl Strategy<Value = MemoryLevel> {
    (option::of(bytes()), option::of(bytes()), bytes(), bytes(), swap(v1)).prop_map(
        move |(max, high, usage, reclaimable, swap)| MemoryLevel {
            max,
            high: high.filter(|_| !v1),
            usage,
            reclaimable,
            swap,
        },
    )
}

fn memory_reading() -> impl Strategy<Value = MemoryReading> {
    let hugetlb = (prop_oneof![Just(2048u64), Just(1 << 20), Just(0)], option::of(bytes()), bytes())
        .prop_map(|(kib, max, usage)| HugetlbLevel { page_size: Bytes::from_kib(kib), max, usage });
    let levels = any::<bool>().prop_flat_map(|v1| vec(memory_level(v1), 0..5));
    (levels, any::<bool>(), vec(hugetlb, 0..4), bytes()).prop_map(
        |(levels, swappiness_zero, hugetlb, file)| MemoryReading {
            levels,
            swappiness_zero,
            hugetlb,
            stat: MemoryStat { file, active_anon: file, active_file: file, ..Default::default() },
        },
    )
}

fn host_meminfo() -> impl Strategy<Value = HostMeminfo> {
    (bytes(), bytes(), bytes(), bytes(), bytes(), number()).prop_map(
        |(total, free, available, swap_total, swap_free, pages)| HostMeminfo {
            text: format!(
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
            )
            .into(),
            total,
            free,
            available,
            swap_total,
            swap_free,
        },
    )
}

/// `key: number` of every line.
fn parse(text: &[u8]) -> BTreeMap<String, u64> {
    String::from_utf8(text.to_vec())
        .unwrap()
        .lines()
        .map(|line| {
            let (key, value) = line.split_once(':').unwrap();
            (key.to_owned(), value.split_whitespace().next().unwrap().parse().unwrap())
        })
        .collect()
}

fn cpu_set() -> impl Strategy<Value = CpuSet> {
    vec(prop_oneof![8 => 0..8usize, 1 => 0..8192usize], 0..6).prop_map(|cpus| cpus.into_iter().collect())
}

fn cpu_level() -> impl Strategy<Value = CpuLevel> {
    let period = prop_oneof![3 => Just(100_000u64), 1 => 1000..1_000_000u64, 1 => number()];
    let quota = prop_oneof![3 => 1000..400_000u64, 1 => number()];
    (option::of((quota, period)), number(), number(), number()).prop_map(
        |(quota, nr_throttled, throttled, usage)| CpuLevel {
            quota: quota.and_then(|(quota, period)| Quota::new(Usec(quota), Usec(period))),
            is_ancestor: false,
            nr_throttled,
            throttled: Usec(throttled),
            usage: Usec(usage),
        },
    )
}

fn cpu_usage() -> impl Strategy<Value = CpuUsage> {
    prop_oneof![
        1 => Just(CpuUsage::Unknown),
        4 => (number(), number(), number()).prop_map(|(user, system, nice)| CpuUsage::Total {
            user: Usec(user),
            system: Usec(system),
            nice: Usec(nice),
        }),
        4 => (vec(number().prop_map(Nsec), 0..9), number(), number()).prop_map(|(percpu, user, system)| {
            CpuUsage::PerCpu { percpu, user: Nsec(user), system: Nsec(system) }
        }),
    ]
}

fn cpu_reading() -> impl Strategy<Value = CpuReading> {
    let throttled_local = option::of(number().prop_map(Usec));
    (vec(cpu_level(), 0..4), throttled_local, cpu_usage(), option::of(cpu_set()), cpu_set()).prop_map(
        |(levels, throttled_local, usage, cpuset, online)| CpuReading {
            levels,
            throttled_local,
            usage,
            cpuset,
            online,
        },
    )
}

fn time_reading() -> impl Strategy<Value = TimeReading> {
    let time = || number().prop_map(Nsec);
    let offset = option::of(any::<i128>().prop_map(|nanos| TimensOffset { nanos }));
    (time(), time(), time(), time(), offset).prop_map(|(boottime, monotonic, realtime, start, timens)| {
        TimeReading { boottime, monotonic, realtime, start, timens }
    })
}

fn host_stat() -> HostStat {
    let line = |key: &str, columns| HostStatLine { key: key.into(), columns, text: format!("{key} 9") };
    HostStat {
        cpu_columns: 10,
        lines: vec![line("intr", 3), line("btime", 1), line("processes", 1), line("procs_running", 1)],
        btime: 5,
    }
}

fn cpu_lines(account: &mut CpuAccount, shown: &ShownCpus, tasks: &TaskCounts) -> BTreeMap<String, Vec<u64>> {
    let (time, host) = (TimeReading::default(), host_stat());
    let mut out = Vec::new();
    render::stat(
        &host,
        &view::stat_view(account, shown, tasks, &time, &host, &Policies::default()),
        &mut out,
    );
    String::from_utf8(out)
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("cpu") || line.starts_with("processes"))
        .map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap().to_owned(), words.map(|word| word.parse().unwrap()).collect())
        })
        .collect()
}

fn never_down(
    before: &BTreeMap<String, Vec<u64>>,
    after: &BTreeMap<String, Vec<u64>>,
) -> Result<(), TestCaseError> {
    for (key, values) in after {
        for (old, new) in before.get(key).unwrap_or(&Vec::new()).iter().zip(values) {
            prop_assert!(old <= new, "{} fell from {} to {}", key, old, new);
        }
    }
    Ok(())
}

/// What happens to a container between two reads: use per host CPU in thousandths of the elapsed time, how
/// much of it is system, and changes of its cpuset and quota.
#[derive(Clone, Debug)]
struct Step {
    elapsed: u64,
    busy: [u64; 4],
    system: u64,
    cpuset: Option<CpuSet>,
    quota: Option<u64>,
    throttled: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let cpuset = option::weighted(0.2, vec(0..4usize, 1..4).prop_map(|cpus| cpus.into_iter().collect()));
    let quota = option::weighted(0.2, 10_000..500_000u64);
    (1..20_000_000u64, [0..1001u64, 0..1001, 0..1001, 0..1001], 0..1001u64, cpuset, quota, 0..1000u64)
        .prop_map(|(elapsed, busy, system, cpuset, quota, throttled)| Step {
            elapsed,
            busy,
            system,
            cpuset,
            quota,
            throttled,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn meminfo_is_consistent(reading in memory_reading(), host in host_meminfo(), policies in policies()) {
        let view = view::memory(&reading, &host, &policies);
        let mut out = Vec::new();
        render::meminfo(&host, &view, &mut out);
        let lines = parse(&out);
        prop_assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), host.text.lines().count());
        prop_assert!(lines["MemFree"] <= lines["MemAvailable"]);
        prop_assert!(lines["MemAvailable"] <= lines["MemTotal"]);
        prop_assert!(lines["MemTotal"] >= 4 && lines["MemTotal"] <= host.total.kib().max(4));
        prop_assert!(lines["SwapFree"] <= lines["SwapTotal"]);
        prop_assert!(lines["SwapTotal"] <= host.swap_total.kib());
        prop_assert!(lines["HugePages_Free"] <= lines["HugePages_Total"]);
        prop_assert_eq!(lines["Novelty"] + lines["DirectMap4k"], 0);
        prop_assert_eq!(lines["Active"], reading.stat.file.plus(reading.stat.file).whole_pages().kib());
    }

    #[test]
    fn the_binding_level_gives_the_value(reading in memory_reading(), host in host_meminfo()) {
        let levels = &reading.levels;
        let limit = view::effective_memory_limit(levels, &host);
        match limit.level {
            Some(index) => prop_assert_eq!(levels[index].max, Some(limit.value)),
            None => prop_assert_eq!(limit.value, host.total),
        }
        let headroom = view::memory_headroom(levels, &host);
        match headroom.level {
            Some(index) => {
                prop_assert_eq!(levels[index].max.map(|max| max.minus(levels[index].usage)), Some(headroom.value));
            }
            None => prop_assert_eq!(headroom.value, host.free),
        }
    }

    #[test]
    fn another_level_never_raises_a_limit(
        reading in memory_reading(),
        new in memory_level(false),
        at in any::<prop::sample::Index>(),
        host in host_meminfo(),
    ) {
        let policies = Policies::default();
        let v1 = reading.levels.iter().any(|level| matches!(level.swap, SwapLevel::MemoryAndSwap { .. }));
        let before = view::memory(&reading, &host, &policies);
        let mut more = reading.clone();
        more.levels.insert(at.index(reading.levels.len() + 1), new);
        let after = view::memory(&more, &host, &policies);
        prop_assert!(after.total <= before.total);
        prop_assert!(after.available <= before.available);
        prop_assert!(after.free <= before.free);
        if !v1 {
            // On v1 less memory under the same memsw limit leaves more for swap.
            prop_assert!(after.swap_total <= before.swap_total);
            prop_assert!(after.swap_free <= before.swap_free);
        }
    }

    #[test]
    fn another_quota_never_raises_the_count(reading in cpu_reading(), new in cpu_level(), policies in policies()) {
        let before = view::shown(&reading, &policies);
        let mut more = reading.clone();
        more.levels.push(new);
        prop_assert!(view::shown(&more, &policies).count() <= before.count());
    }

    #[test]
    fn one_cpu_set_everywhere(reading in cpu_reading(), policies in policies(), time in time_reading()) {
        let shown = view::shown(&reading, &policies);
        prop_assert_eq!(shown.count() == 0, reading.online.is_empty());
        prop_assert!(shown.physical.without(&shown.mask).is_empty());
        prop_assert!(shown.mask.without(&reading.online).is_empty());
        for number in shown.numbers().iter() {
            prop_assert_eq!(shown.physical_of(number).and_then(|cpu| shown.displayed(cpu)), Some(number));
        }
        let blocks = reading.online.iter().map(|cpu| CpuinfoBlock {
            cpu,
            text: format!("processor\t: {cpu}\nsiblings\t: 9\n"),
            physical_id: Some(cpu as u64 % 2),
            core_id: Some(cpu as u64 / 2),
        });
        let host = HostCpuinfo { blocks: blocks.collect(), ..Default::default() };
        let mut out = Vec::new();
        render::cpuinfo(&host, &shown, &mut out);
        let text = String::from_utf8(out).unwrap();
        let processors: CpuSet =
            text.lines().filter_map(|line| line.strip_prefix("processor\t: ")?.parse().ok()).collect();
        prop_assert_eq!(&processors, &shown.numbers());
        let mut account = CpuAccount::default();
        account.advance(&reading, &shown, &time);
        let lines = cpu_lines(&mut account, &shown, &TaskCounts::default());
        let stat: CpuSet = lines.keys().filter_map(|key| key.strip_prefix("cpu")?.parse().ok()).collect();
        prop_assert_eq!(&stat, &shown.numbers());
        for (_, file) in render::SYS_CPU_FILES.iter().filter(|(_, file)| file.rule() == "Y1") {
            let mut out = Vec::new();
            render::sys_cpu(*file, &shown, 255, &mut out);
            let text = String::from_utf8(out).unwrap();
            prop_assert_eq!(CpuSet::parse(&text), Ok(shown.numbers()));
        }
    }

    #[test]
    fn nothing_goes_down_whatever_the_readings_say(
        steps in vec((cpu_reading(), policies(), time_reading(), number()), 1..12),
    ) {
        let mut account = CpuAccount::default();
        let mut before = BTreeMap::new();
        for (reading, policies, time, last_pid) in steps {
            let shown = view::shown(&reading, &policies);
            let idle = account.idle();
            account.advance(&reading, &shown, &time);
            prop_assert!(idle <= account.idle());
            let tasks = TaskCounts { last_pid, ..Default::default() };
            let after = cpu_lines(&mut account, &shown, &tasks);
            never_down(&before, &after)?;
            before.extend(after);
        }
    }

    #[test]
    fn use_is_kept_and_time_adds_up(steps in vec(step(), 1..20), v1 in any::<bool>(), local in any::<bool>()) {
        let mut reading = CpuReading {
            levels: vec![CpuLevel::default(), CpuLevel::default()],
            cpuset: Some(CpuSet::first(4)),
            online: CpuSet::first(4),
            ..Default::default()
        };
        let mut account = CpuAccount::default();
        let (mut now, mut percpu, mut system) = (0u64, [0u64; 4], 0u64);
        let (mut span, mut over) = (0u64, 0u64);
        let mut before = BTreeMap::new();
        for step in steps {
            now += step.elapsed;
            if let Some(cpuset) = step.cpuset {
                reading.cpuset = Some(cpuset);
            }
            if let Some(quota) = step.quota {
                reading.levels[1].quota = Quota::new(Usec(quota), Usec(100_000));
            }
            let shown = view::shown(&reading, &Policies::default());
            let mut used = 0;
            for (cpu, busy) in step.busy.iter().enumerate() {
                percpu[cpu] += step.elapsed * busy / 1000;
                used += step.elapsed * busy / 1000;
            }
            system += used * step.system / 1000;
            let total: u64 = percpu.iter().sum();
            reading.usage = if v1 {
                // The samples see two thirds of it.
                let sampled = |usec: u64| Nsec(usec * 1000 / 3 * 2);
                CpuUsage::PerCpu {
                    percpu: percpu.map(|usec| Nsec(usec * 1000)).to_vec(),
                    user: sampled(total - system),
                    system: sampled(system),
                }
            } else {
                CpuUsage::Total { user: Usec(total - system), system: Usec(system), nice: Usec(total / 3) }
            };
            let level = &mut reading.levels[1];
            level.nr_throttled += step.elapsed / 100_000;
            level.throttled = level.throttled.plus(Usec(step.elapsed * step.throttled / 1000));
            level.usage = level.usage.plus(Usec(used * 2));
            reading.throttled_local = local.then_some(level.throttled);
            let time = TimeReading {
                boottime: Nsec(7_000_000 + now * 1000),
                monotonic: Nsec(3_000_000 + now * 1000),
                start: Nsec(7_000_000),
                ..Default::default()
            };
            account.advance(&reading, &shown, &time);
            let capacity = step.elapsed * shown.count() as u64;
            span += capacity;
            over += used.saturating_sub(capacity);
            let sum = account.total();
            prop_assert_eq!(sum.used().0, total, "no use is lost or made up");
            let all = sum.used().plus(sum.steal).plus(sum.idle).0;
            prop_assert!(all >= span && all <= span + over, "{} <= {} <= {}", span, all, span + over);
            let after = cpu_lines(&mut account, &shown, &TaskCounts::default());
            never_down(&before, &after)?;
            before.extend(after);
        }
    }

    #[test]
    fn uptime_grows(times in vec(number(), 2..6), start in number(), offset in option::of(any::<i64>()), policies in policies()) {
        let mut times = times;
        times.sort_unstable();
        let mut last = Usec::ZERO;
        for now in times {
            let timens = offset.map(|nanos| TimensOffset { nanos: nanos.into() });
            let time = TimeReading { boottime: Nsec(now), start: Nsec(start), timens, ..Default::default() };
            let view = view::uptime(&time, Usec::MAX, &policies);
            prop_assert!(last <= view.uptime);
            last = view.uptime;
            let mut out = Vec::new();
            render::uptime(&view, &mut out);
            let text = String::from_utf8(out).unwrap();
            prop_assert_eq!(text.split_whitespace().count(), 2);
        }
    }

    #[test]
    fn mirrored_files_name_shown_cpus_only(host in cpu_set(), reading in cpu_reading(), policies in policies(), junk in ".{0,40}") {
        let shown = view::shown(&reading, &policies);
        let numbers = shown.numbers();
        let mut out = Vec::new();
        render::rewrite_cpu_list(&host.to_string(), &shown, &mut out);
        let named = CpuSet::parse(std::str::from_utf8(&out).unwrap()).unwrap();
        prop_assert!(named.without(&numbers).is_empty());
        prop_assert_eq!(named.len(), host.and(&shown.physical).len());
        let words = |set: &CpuSet| -> String {
            let word = |index: usize| (0..32).filter(|bit| set.contains(index * 32 + bit)).fold(0u32, |w, bit| w | 1 << bit);
            (0..256).rev().map(|index| format!("{:08x}", word(index))).collect::<Vec<_>>().join(",")
        };
        out.clear();
        render::rewrite_cpu_mask(&words(&host), &shown, &mut out);
        prop_assert_eq!(String::from_utf8(out.clone()).unwrap(), words(&named) + "\n");
        render::rewrite_cpu_list(&junk, &shown, &mut out);
        render::rewrite_cpu_mask(&junk, &shown, &mut out);
    }

    #[test]
    fn any_host_text_is_survived(text in "(([A-Za-z_()0-9]{0,12}:?[ \t]{0,9}[0-9]{0,22}( kB)?|.{0,20})\n){0,8}", reading in memory_reading()) {
        let host = HostMeminfo { text: text.into(), ..Default::default() };
        let view = view::memory(&reading, &host, &Policies::default());
        let mut out = Vec::new();
        render::meminfo(&host, &view, &mut out);
        prop_assert!(String::from_utf8(out).is_ok());
    }

    #[test]
    fn any_time_is_survived(time in time_reading(), policies in policies()) {
        let _ = view::uptime(&time, Usec::ZERO, &policies);
        let _ = view::btime(&time, &host_stat());
    }
}
