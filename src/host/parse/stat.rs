//! `/proc/stat`: its shape, and `btime`.

use crate::cgroup::ParseError;
use crate::cgroup::parse::{lines, scalar::number};
use crate::model::HostStat;
use crate::model::host::HostStatLine;

/// The columns of a cpu line, and every line after the cpu lines in order.
pub fn stat(text: &[u8]) -> Result<HostStat, ParseError> {
    let mut host = HostStat::default();
    let mut btime = None;
    for line in lines(text) {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let Some(key) = words.next() else { continue };
        let is_cpu = key.strip_prefix(b"cpu").is_some_and(|n| n.iter().all(u8::is_ascii_digit));
        if is_cpu {
            host.cpu_columns = host.cpu_columns.max(words.count());
            continue;
        }
        if key == b"btime" {
            let value = words.clone().next().and_then(number);
            btime = Some(value.ok_or_else(|| ParseError::new("expected btime SECONDS", line))?);
        }
        host.lines.push(HostStatLine {
            key: String::from_utf8_lossy(key).into_owned(),
            columns: words.count(),
            text: String::from_utf8_lossy(line).into_owned(),
        });
    }
    host.btime = btime.ok_or_else(|| ParseError::new("no btime line", text))?;
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape() {
        let text =
            b"cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 9 0 0 4\nctxt 5\nbtime 1700000000\n\
            processes 7\nsoftirq 3 1 2\ncpufreq 1\n";
        let host = stat(text).unwrap();
        assert_eq!((host.cpu_columns, host.btime), (10, 1_700_000_000));
        let shape: Vec<_> = host.lines.iter().map(|l| (l.key.as_str(), l.columns)).collect();
        assert_eq!(
            shape,
            [("intr", 4), ("ctxt", 1), ("btime", 1), ("processes", 1), ("softirq", 3), ("cpufreq", 1)]
        );
        assert_eq!(host.lines[0].text, "intr 9 0 0 4");
    }

    #[test]
    fn faults() {
        assert!(stat(b"cpu 1\n").is_err());
        assert_eq!(stat(b"btime x\n").unwrap_err().line, "btime x");
    }
}
