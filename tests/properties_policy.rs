//! Policies under random changes: which choice counts, and that no counter goes down.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use ownproc::config::{Config, Layers, Origin, PolicyCell};
use ownproc::model::{
    ContainerName, CpuLevel, CpuReading, CpuSet, CpuUsage, DaemonChoices, HostStat, Nsec, PolicyChange,
    PolicyChoices, PolicyKey, Quota, TaskCounts, TimeReading, Usec,
};
use ownproc::view::{self, CpuAccount};
use ownproc::{model::host::HostStatLine, render};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Which of a policy's two values, where one is chosen at all; by key.
type Choice = [Option<bool>; 5];

const NAMES: [&str; 6] = ["web-a", "web-ab", "web-", "we", "db", "0x"];
const PATTERNS: [&str; 6] = ["*", "w*", "web-*", "web-a", "web-a*", "db"];

fn choice() -> impl Strategy<Value = Choice> {
    prop::array::uniform5(option::of(any::<bool>()))
}

fn value(key: PolicyKey, second: bool) -> &'static str {
    key.values()[usize::from(second)]
}

fn choices(choice: &Choice) -> PolicyChoices {
    let mut choices = PolicyChoices::default();
    for (key, second) in PolicyKey::CONTAINER.into_iter().zip(choice) {
        choices.set(key, second.map(|second| value(key, second))).unwrap();
    }
    choices
}

/// `[defaults]` and one section for each pattern that has one.
fn config(defaults: &Choice, sections: &[Option<Choice>]) -> String {
    let mut text = String::new();
    let named = PATTERNS.iter().zip(sections).filter_map(|(name, choice)| Some((*name, choice.as_ref()?)));
    for (name, choice) in std::iter::once(("", defaults)).chain(named) {
        match name {
            "" => text.push_str("[defaults]\n"),
            name => writeln!(text, "[containers.\"{name}\"]").unwrap(),
        }
        for (key, second) in PolicyKey::CONTAINER.into_iter().zip(choice) {
            if let Some(second) = second {
                writeln!(text, "{} = \"{}\"", key.name(), value(key, *second)).unwrap();
            }
        }
    }
    text
}

fn layers(text: &str, flags: &Choice) -> Layers {
    let config = Config::parse(text.as_bytes(), Path::new("/c")).unwrap();
    let flags = DaemonChoices { containers: choices(flags), on_unreadable: None };
    Layers { flags, config, file: "/c".into(), found: true }
}

/// What happens to a container between two reads.
#[derive(Clone, Debug)]
enum Change {
    /// `ownproc view`.
    Own(Choice),
    /// SIGHUP.
    Configuration(Choice, Vec<Option<Choice>>),
    /// Its cpuset and its quota.
    Limits(Box<CpuSet>, Option<u64>),
    Nothing,
}

fn change() -> impl Strategy<Value = Change> {
    let set = vec(0..6_usize, 1..5).prop_map(|cpus| {
        let list: Vec<String> = cpus.iter().map(ToString::to_string).collect();
        CpuSet::parse(&list.join(",")).unwrap()
    });
    prop_oneof![
        4 => choice().prop_map(Change::Own),
        4 => (choice(), vec(option::of(choice()), 6)).prop_map(|(d, s)| Change::Configuration(d, s)),
        1 => (set, option::of(50_000..400_000_u64)).prop_map(|(set, quota)| Change::Limits(Box::new(set), quota)),
        1 => Just(Change::Nothing),
    ]
}

/// Each cpu line of a rendered stat, and the idle time of uptime.
fn counters(text: &str, uptime: &str) -> BTreeMap<String, Vec<u64>> {
    let mut lines: BTreeMap<String, Vec<u64>> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?.to_owned();
            let counters = name.starts_with("cpu") || name == "processes";
            counters.then(|| (name, words.map(|word| word.parse().unwrap()).collect()))
        })
        .collect();
    let idle = uptime.split_whitespace().nth(1).unwrap().replace('.', "");
    lines.insert("idle of uptime".to_owned(), vec![idle.parse().unwrap()]);
    lines
}

proptest! {
    #[test]
    fn the_first_that_says_something_counts(
        own in choice(),
        defaults in choice(),
        flags in choice(),
        sections in vec(option::of(choice()), 6),
        name in prop::sample::select(&NAMES[..]),
    ) {
        let layers = layers(&config(&defaults, &sections), &flags);
        let name = ContainerName::new(name).unwrap();
        let policies = layers.effective(Some(&name), choices(&own));
        // The order spelled out: the exact name, then prefixes by their length.
        let mut asked: Vec<&Choice> = vec![&own];
        let mut fitting: Vec<(usize, &Choice)> = PATTERNS
            .iter()
            .zip(&sections)
            .filter_map(|(pattern, section)| {
                let section = section.as_ref()?;
                match pattern.strip_suffix('*') {
                    Some(prefix) => name.as_str().starts_with(prefix).then_some((prefix.len(), section)),
                    None => (*pattern == name.as_str()).then_some((usize::MAX, section)),
                }
            })
            .collect();
        fitting.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        asked.extend(fitting.iter().map(|(_, section)| *section));
        asked.extend([&flags, &defaults]);
        for (index, (key, setting)) in
            PolicyKey::CONTAINER.into_iter().zip(layers.settings(Some(&name), choices(&own))).enumerate()
        {
            let expected = asked.iter().find_map(|choice| choice[index]);
            prop_assert_eq!(policies.get(key), Some(value(key, expected.unwrap_or(false))));
            prop_assert_eq!(&setting.value, value(key, expected.unwrap_or(false)), "what is told is what counts");
            prop_assert_eq!(setting.origin == Origin::Default, expected.is_none());
            prop_assert_eq!(setting.origin == Origin::Container, own[index].is_some());
        }
    }

    #[test]
    fn no_change_of_policy_lowers_a_counter(
        steps in vec((change(), 0..3_000_000_u64, prop::array::uniform6(0..1_000_000_u64)), 1..24),
        v1 in any::<bool>(),
    ) {
        let name = ContainerName::new("web-a").unwrap();
        let cell = PolicyCell::default();
        let (mut own, mut in_force) = (PolicyChoices::default(), Layers::default());
        let mut account = CpuAccount::default();
        let mut reading = CpuReading {
            levels: vec![CpuLevel::default()],
            cpuset: Some(CpuSet::first(4)),
            online: CpuSet::first(6),
            ..Default::default()
        };
        let (mut now, mut percpu) = (0_u64, [0_u64; 6]);
        let host = HostStat {
            cpu_columns: 10,
            btime: 1,
            lines: ["cpu", "cpu0", "intr 7 1", "ctxt 9", "btime 1", "processes 3"]
                .map(|line| HostStatLine {
                    key: line.split(' ').next().unwrap().to_owned(),
                    text: line.to_owned(),
                    columns: line.split(' ').count() - 1,
                })
                .to_vec(),
        };
        let mut before = BTreeMap::new();
        for (change, elapsed, used) in steps {
            match change {
                Change::Own(choice) => own = choices(&choice),
                Change::Configuration(defaults, sections) => {
                    in_force = layers(&config(&defaults, &sections), &[None; 5]);
                }
                Change::Limits(set, quota) => {
                    reading.cpuset = Some(*set);
                    reading.levels[0].quota = quota.and_then(|quota| Quota::new(Usec(quota), Usec(100_000)));
                }
                Change::Nothing => {}
            }
            cell.set(&in_force.effective(Some(&name), own));
            now += elapsed;
            percpu.iter_mut().zip(used).for_each(|(sum, used)| *sum += used);
            let all: u64 = percpu.iter().sum();
            reading.usage = match v1 {
                true => CpuUsage::PerCpu {
                    percpu: percpu.map(|usec| Nsec(usec * 1000)).to_vec(),
                    user: Nsec(all * 700),
                    system: Nsec(all * 300),
                },
                false => CpuUsage::Total { user: Usec(all / 2), system: Usec(all - all / 2), nice: Usec::ZERO },
            };
            reading.levels[0].nr_throttled += used[0] % 7;
            reading.levels[0].throttled = reading.levels[0].throttled.plus(Usec(used[1]));
            let start = Nsec(1 << 40);
            let clock = start.plus(Nsec(now * 1000));
            let time = TimeReading { boottime: clock, monotonic: clock, start, ..Default::default() };

            let policies = cell.get();
            let shown = view::shown(&reading, &policies);
            account.advance(&reading, &shown, &time);
            let (mut stat, mut uptime) = (Vec::new(), Vec::new());
            let tasks = TaskCounts { last_pid: now, ..Default::default() };
            render::stat(&host, &view::stat_view(&mut account, &shown, &tasks, &time, &host, &policies), &mut stat);
            render::uptime(&view::uptime(&time, account.idle(), &policies), &mut uptime);
            let after = counters(std::str::from_utf8(&stat).unwrap(), std::str::from_utf8(&uptime).unwrap());
            for (line, values) in &after {
                let old: &Vec<u64> = before.get(line).unwrap_or(values);
                prop_assert!(values.iter().zip(old).all(|(new, old)| new >= old), "{line}: {old:?} {values:?}");
            }
            prop_assert!(after.contains_key("cpu"));
            before.extend(after); // a line that goes away and comes back must not be lower either
        }
    }

    #[test]
    fn any_text_is_survived(text in "(?s).{0,300}") {
        let _ = Config::parse(text.as_bytes(), Path::new("/c"));
        if let Err(error) = PolicyChange::parse_all(&[&text]) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }

    #[test]
    fn any_configuration_is_taken_or_told_in_one_line(
        lines in vec(prop::sample::select(vec![
            "[defaults]", "[containers.a]", "[containers.\"a*\"]", "[containers.a*]", "[[containers.a]]", "cpus = \"quota\"",
            "cpus = \"x\"", "cpus = 1", "swap = 'hide'", "swap=\"\"\"hi\nde\"\"\"", "uptime = { a = 1 }", "x.y = 2", "\"", "]", "#\u{7f}",
            "on-unreadable = \"error\"", "\u{e9} = 1", "numbering = [", "]", "", "\t",
        ]), 0..12),
    ) {
        if let Err(error) = Config::parse(lines.join("\n").as_bytes(), Path::new("/c")) {
            let text = error.to_string();
            prop_assert!(text.starts_with("/c:") && !text.contains(char::is_control), "{text:?}");
        }
    }
}
