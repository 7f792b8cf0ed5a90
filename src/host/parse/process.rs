//! Files of one process.

use crate::cgroup::parse::{lines, scalar::number};
use crate::model::{Ticks, TimensOffset};

/// What `/proc/PID/stat` says (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    /// Field 3: `R`, `S`, `D`, `Z`, ...
    pub state: u8,
    /// Field 4: the parent, 0 for none that is visible.
    pub ppid: u64,
    /// Field 22: CLOCK_BOOTTIME at its start.
    pub start: Ticks,
}

/// Parses `/proc/PID/stat`. The name in field 2 may hold blanks and parentheses, so the fields are counted
/// from the last `)`.
#[must_use]
pub fn stat(text: &[u8]) -> Option<ProcessStat> {
    let close = text.iter().rposition(|&b| b == b')')?;
    let mut fields = text.get(close + 1..)?.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let state = *fields.next()?.first()?;
    let ppid = number(fields.next()?)?;
    let start = number(fields.nth(17)?)?;
    Some(ProcessStat { state, ppid, start: Ticks(start) })
}

/// What `/proc/PID/status` says of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `State:`, its letter; 0 where missing.
    pub state: u8,
    /// `NSpid:`, the task's id in each pid namespace from the reader's inwards.
    pub nspid: Vec<u64>,
    /// `Tgid:`.
    pub tgid: u64,
    /// `CapEff:`, one bit per capability.
    pub effective: u64,
}

/// Parses `/proc/PID/status`; keys stand at the start of a line, and a name cannot forge one because the
/// kernel escapes newlines in it.
#[must_use]
pub fn status(text: &[u8]) -> Status {
    let mut status = Status::default();
    for line in lines(text) {
        let Some(colon) = line.iter().position(|&b| b == b':') else { continue };
        let (key, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        match key {
            b"State" => status.state = value.trim_ascii().first().copied().unwrap_or_default(),
            b"Tgid" => status.tgid = number(value).unwrap_or_default(),
            b"CapEff" => {
                let hex = std::str::from_utf8(value.trim_ascii()).ok();
                status.effective = hex.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or_default();
            }
            b"NSpid" => {
                status.nspid = value.split(u8::is_ascii_whitespace).filter_map(number).collect();
            }
            _ => {}
        }
    }
    status
}

/// The `boottime` line of `/proc/PID/timens_offsets` (time_namespaces(7)): `boottime SECONDS NANOSECONDS`,
/// the seconds signed.
#[must_use]
pub fn timens_boottime(text: &[u8]) -> Option<TimensOffset> {
    lines(text).find_map(|line| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        if words.next() != Some(b"boottime") {
            return None;
        }
        let (sign, digits) = match words.next()?.split_first()? {
            (b'-', digits) => (-1, digits),
            _ => (1, line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(1)?),
        };
        let seconds = i128::from(number(digits)?) * sign;
        let nanos = i128::from(number(words.next()?)?);
        Some(TimensOffset { nanos: seconds * 1_000_000_000 + nanos })
    })
}

/// The inode in a namespace link: `pid:[4026531836]`.
#[must_use]
pub fn namespace(link: &[u8]) -> Option<u64> {
    let open = link.iter().position(|&b| b == b'[')?;
    number(link.get(open + 1..)?.strip_suffix(b"]")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_blanks_and_parentheses() {
        for name in ["init", "a b) c", "(", "x) R 1 (y", "\n)"] {
            let text = format!(
                "17 ({name}) S 4 17 17 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 22 33 18446744073709551615\n"
            );
            let found = stat(text.as_bytes()).unwrap();
            assert_eq!(found, ProcessStat { state: b'S', ppid: 4, start: Ticks(123_456) }, "{name}");
        }
        assert_eq!(stat(b""), None);
        assert_eq!(stat(b"17 (x) S 4"), None);
    }

    #[test]
    fn offsets() {
        let text = b"monotonic           5         0\nboottime       -77777 500000000\n";
        assert_eq!(timens_boottime(text), Some(TimensOffset { nanos: -77_776_500_000_000 }));
        assert_eq!(timens_boottime(b"boottime 0 0\n"), Some(TimensOffset { nanos: 0 }));
        assert_eq!(timens_boottime(b"boottime x 0\n"), None);
        assert_eq!(timens_boottime(b""), None);
    }

    #[test]
    fn status_lines() {
        let text = b"Name:\ta\\nNSpid: 9\nState:\tD (disk sleep)\nTgid:\t5\nNSpid:\t900\t12\t1\nNSpgid:\t1\n\
            CapPrm:\t000001ffffffffff\nCapEff:\t0000000001000021\n";
        let found = status(text);
        assert_eq!(found, Status { state: b'D', nspid: vec![900, 12, 1], tgid: 5, effective: 0x0100_0021 });
        assert_eq!(namespace(b"pid:[4026531836]"), Some(4_026_531_836));
        assert_eq!(namespace(b"pid:4026531836"), None);
    }
}
