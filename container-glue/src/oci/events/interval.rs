//! `--interval`, spelled as Go spells durations: 5s, 100ms, 1m30s, 1.5h.

use std::time::Duration;

/// A day: longer than that nobody waits for the next line.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Shortest: faster reading would cost the container more than it tells.
const SHORTEST: Duration = Duration::from_millis(1);

/// Reads one; the error is the whole line.
pub fn parse(text: &str) -> Result<Duration, String> {
    let bad = || format!("--interval {text:?}: give a duration from 1ms to 24h, such as 5s or 1m30s");
    let mut rest = text;
    let mut sum = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        sum += number.parse::<f64>().map_err(|_| bad())? * seconds;
        rest = after;
    }
    let sum = Duration::try_from_secs_f64(sum).map_err(|_| bad())?;
    if (SHORTEST..=LONGEST).contains(&sum) { Ok(sum) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("100ms", 100),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("1000us", 1),
            ("24h", 86_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in [
            "",
            "5",
            "s",
            "0s",
            "-5s",
            "1d",
            "25h",
            "1.2.3s",
            "999us",
            "5 s",
            "1e3s",
            "infs",
            &"9".repeat(400),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&format!("{}h", "9".repeat(400))).is_err());
    }
}
