//! `/proc/schedstat`.

use super::number::push;
use crate::model::{Nsec, Usec};
use crate::view::{CpuAccount, ShownCpus};

/// Numbers of a cpu line: `show_schedstat`, kernel/sched/stats.c; the same since version 15 (Linux 2.6.38).
const COLUMNS: usize = 9;
/// The column (from 0) that is the time for which tasks ran, in nanoseconds.
const RUN_TIME: usize = 6;

/// The ticks a second that kernels are built with (kernel/Kconfig.hz). They are far apart: the choice among them never changes.
const RATES: &[u64] = &[100, 250, 300, 1000];

/// `jiffies` when a kernel starts: 300 s before their low half wraps (INITIAL_JIFFIES, include/linux/jiffies.h).
const fn first_jiffy(rate: u64) -> u64 {
    (1 << 32) - 300 * rate
}

fn count(time: Usec, rate: u64) -> u64 {
    (time.0 / 1_000_000).saturating_mul(rate).saturating_add(time.0 % 1_000_000 * rate / 1_000_000)
}

/// How many jiffies a second has on the host, by its schedstat and its clock at about the same moment; `None` where they
/// do not fit together.
#[must_use]
pub fn jiffies_rate(template: &str, monotonic: Nsec) -> Option<u64> {
    let hosts: u64 = value(template, "timestamp")?.trim().parse().ok()?;
    let off = |rate: &u64| {
        let found = hosts.checked_sub(first_jiffy(*rate))?;
        let expected = count(monotonic.usec(), *rate);
        let off = found.abs_diff(expected);
        // The text may be seconds old on a busy machine, and jiffies fall behind a little where ticks are lost.
        (off <= expected / 12 + 5 * *rate).then_some(off)
    };
    let fitting = RATES.iter().filter_map(|rate| Some((off(rate)?, *rate)));
    fitting.min().map(|(_, rate)| rate)
}

fn value<'a>(template: &'a str, key: &str) -> Option<&'a str> {
    template.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
}

/// What `jiffies` would be on a kernel that started `age` ago (Q6).
fn jiffies(rate: Option<u64>, age: Usec) -> u64 {
    match rate {
        Some(rate) => first_jiffy(rate).saturating_add(count(age, rate)),
        None => age.ticks().0,
    }
}

/// The host's version, the container's age, one line per shown CPU and no domain lines, as on a machine whose CPUs form none.
/// `rate`: the host's jiffies a second, see [`jiffies_rate`].
pub fn schedstat(
    template: &str,
    rate: Option<u64>,
    shown: &ShownCpus,
    account: &CpuAccount,
    age: Usec,
    out: &mut Vec<u8>,
) {
    let version = template.lines().find(|line| line.split(' ').next() == Some("version"));
    if let Some(version) = version {
        out.extend_from_slice(version.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"timestamp ");
    push(out, jiffies(rate, age));
    out.push(b'\n');
    let columns = template.lines().find(|line| line.starts_with("cpu"));
    let columns = columns.map_or(COLUMNS, |line| line.split_ascii_whitespace().count().saturating_sub(1));
    for number in shown.numbers().iter() {
        out.extend_from_slice(b"cpu");
        push(out, number as u64);
        let ran = Nsec(account.cpu(number).used().0).times(1000);
        for column in 0..columns {
            out.push(b' ');
            push(out, if column == RUN_TIME { ran.0 } else { 0 });
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CpuReading, CpuSet, CpuUsage, Numbering, Policies, TimeReading, Usec};
    use crate::view::shown;

    const HOST: &str = "version 16\ntimestamp 4295071234\n\
        cpu0 1 2 3 4 5 6 7777 8888 9\ndomain0 ffff 1 2 3\ncpu1 1 2 3 4 5 6 7777 8888 9\ndomain0 ffff 1 2 3\n";

    fn rendered(template: &str, numbering: Numbering) -> String {
        let reading = CpuReading {
            cpuset: CpuSet::parse("1,3").ok(),
            online: CpuSet::first(4),
            usage: CpuUsage::Total { user: Usec(5_000_000), system: Usec(2_000_000), nice: Usec(1_000_000) },
            ..Default::default()
        };
        let shown = shown(&reading, &Policies { numbering, ..Policies::default() });
        let mut account = CpuAccount::default();
        let time = TimeReading { boottime: Nsec(10_000_000_000), ..Default::default() };
        account.advance(&reading, &shown, &time);
        let mut out = Vec::new();
        let rate = jiffies_rate(template, Nsec(716_000_000_000));
        schedstat(template, rate, &shown, &account, Usec(10_000_000), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn q4_no_number_of_the_host() {
        let expected = "version 16\ntimestamp 4294894796\n\
            cpu1 0 0 0 0 0 0 3500000000 0 0\ncpu3 0 0 0 0 0 0 3500000000 0 0\n";
        assert_eq!(rendered(HOST, Numbering::Physical), expected);
    }

    #[test]
    fn q5_run_time_is_user_and_system_in_nanoseconds() {
        let text = rendered(HOST, Numbering::Compact);
        assert!(
            text.ends_with("cpu0 0 0 0 0 0 0 3500000000 0 0\ncpu1 0 0 0 0 0 0 3500000000 0 0\n"),
            "{text}"
        );
    }

    #[test]
    fn q6_jiffies_of_a_kernel_that_started_with_the_container() {
        let second = |count: u64| Usec(count * 1_000_000);
        for rate in [100, 250, 300, 1000] {
            let found = |jiffies: u64| {
                jiffies_rate(&format!("version 16\ntimestamp {jiffies}\n"), Nsec(5_000_000_000_000))
            };
            let host = first_jiffy(rate) + 5000 * rate;
            assert_eq!(found(host), Some(rate));
            assert_eq!(found(host - 9 * rate), Some(rate), "a template of some seconds ago");
            assert_eq!(jiffies(Some(rate), second(40)), first_jiffy(rate) + 40 * rate);
            // a 32-bit kernel's after the wrap
            assert_eq!(found(700), None);
        }
        assert_eq!(jiffies_rate("version 16\n", Nsec(7)), None);
        assert_eq!(jiffies(None, second(40)), 4000);
    }

    #[test]
    fn q4_as_many_columns_as_the_kernel_has() {
        let more = HOST.replace("8888 9", "8888 9 10");
        assert!(rendered(&more, Numbering::Physical).contains("cpu1 0 0 0 0 0 0 3500000000 0 0 0\n"));
        assert_eq!(rendered("", Numbering::Compact).lines().nth(1), Some("cpu0 0 0 0 0 0 0 3500000000 0 0"));
    }
}
