//! `/proc/meminfo`.

use std::sync::Arc;

use crate::cgroup::ParseError;
use crate::cgroup::parse::scalar::number;
use crate::model::{Bytes, HostMeminfo};

/// Takes the totals out of the text and keeps it as the template of every container's.
pub fn meminfo(text: &[u8]) -> Result<HostMeminfo, ParseError> {
    let text = std::str::from_utf8(text).map_err(|_| ParseError::new("expected text", text))?;
    let mut host = HostMeminfo { text: Arc::from(text), ..HostMeminfo::default() };
    let (mut total, mut available) = (None, None);
    for line in text.lines() {
        let Some((key, rest)) = line.split_once(':') else { continue };
        let field = match key {
            "MemTotal" => total.insert(Bytes::ZERO),
            "MemFree" => &mut host.free,
            "MemAvailable" => available.insert(Bytes::ZERO),
            "SwapTotal" => &mut host.swap_total,
            "SwapFree" => &mut host.swap_free,
            _ => continue,
        };
        let kib = rest.trim().strip_suffix("kB").and_then(|digits| number(digits.as_bytes()));
        *field =
            Bytes::from_kib(kib.ok_or_else(|| ParseError::new("expected a number of kB", line.as_bytes()))?);
    }
    host.total = total.ok_or_else(|| ParseError::new("no MemTotal line", text.as_bytes()))?;
    host.available = available.unwrap_or(host.free);
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_keys() {
        let text = b"MemTotal:        100 kB\nMemFree:  50 kB\nMemFreeX: 7 kB\nSwapTotal: 3 kB\nHugePages_Total: 0\n";
        let host = meminfo(text).unwrap();
        assert_eq!((host.total, host.free, host.swap_total), (Bytes(102_400), Bytes(51_200), Bytes(3072)));
        assert_eq!(host.available, host.free, "a kernel without MemAvailable");
        assert!(host.text.ends_with("HugePages_Total: 0\n"));
    }

    #[test]
    fn faults_name_the_line() {
        assert_eq!(meminfo(b"MemTotal: x kB\n").unwrap_err().line, "MemTotal: x kB");
        assert!(meminfo(b"").is_err());
        assert!(meminfo(b"\xff").is_err());
    }
}
