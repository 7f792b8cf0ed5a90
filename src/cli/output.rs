//! Tables, JSON and sizes.

use std::io::{self, Write};

use serde::Serialize;

use super::args::Format;
use super::failure::Failure;
use crate::model::Bytes;

/// The version of every JSON document that the commands print; raised when a field changes its meaning or goes.
pub const JSON_VERSION: u32 = 1;

/// What stands for "no such thing", "unknown" and "unlimited".
pub const NONE: &str = "-";

/// Prints one line to stderr; a closed stderr is no reason to fail twice.
pub fn complain(line: &str) {
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let _ = writeln!(io::stderr(), "ownproc: {line}");
}

/// Writes bytes to stdout.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// Writes `{"version": 1, ...fields of value}` to stdout.
pub fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Document<'a, T> {
        version: u32,
        #[serde(flatten)]
        value: &'a T,
    }
    let document = Document { version: JSON_VERSION, value };
    let mut text = serde_json::to_vec_pretty(&document).map_err(Failure::error)?;
    text.push(b'\n');
    bytes(&text)
}

/// Writes rows to stdout, columns aligned to the left; the last one is not padded.
pub fn table<const N: usize>(
    headers: [&str; N],
    rows: &[[String; N]],
    format: Format,
) -> Result<(), Failure> {
    bytes(layout(headers, rows, format.no_headers).as_bytes())
}

fn layout<const N: usize>(headers: [&str; N], rows: &[[String; N]], no_headers: bool) -> String {
    let heading = headers.map(str::to_owned);
    let lines = || (!no_headers).then_some(&heading).into_iter().chain(rows);
    let mut widths = [0; N];
    for line in lines() {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines() {
        for (index, (cell, width)) in line.iter().zip(widths).enumerate() {
            // Names come from other people's groups: a control character must not reach the terminal.
            text.extend(cell.chars().map(|c| if c.is_control() { '?' } else { c }));
            if index + 1 < N {
                text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

/// A size for people (`256M`, `1.5G`: units of 1024) or in plain bytes.
#[must_use]
pub fn size(size: Bytes, plain: bool) -> String {
    const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    if plain {
        return size.0.to_string();
    }
    // Tenths, so that rounding up to the next unit is seen.
    let tenths = |unit: u32| {
        let one = 1u128 << (10 * unit);
        (u128::from(size.0) * 10 + one / 2) / one
    };
    let mut unit = 0;
    while unit < 6 && tenths(unit) >= 10_240 {
        unit += 1;
    }
    let (value, name) = (tenths(unit), UNITS[unit as usize]);
    // The fraction is kept where it says something: 1.5G, 256M, but 256.4M.
    if value % 10 == 0 {
        format!("{}{name}", value / 10)
    } else {
        format!("{}.{}{name}", value / 10, value % 10)
    }
}

/// CPUs in thousandths: `1.5`, `2`.
#[must_use]
pub fn cpus(millicpus: u64) -> String {
    let text = format!("{}.{:03}", millicpus / 1000, millicpus % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1K"),
            (1536, "1.5K"),
            (256 << 20, "256M"),
            ((1 << 30) - 1, "1G"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(size(Bytes(bytes), false), text);
            assert_eq!(size(Bytes(bytes), true), bytes.to_string());
        }
    }

    #[test]
    fn cpu_counts() {
        for (milli, text) in [(1000, "1"), (1500, "1.5"), (333, "0.333"), (10_000, "10"), (0, "0")] {
            assert_eq!(cpus(milli), text);
        }
    }

    #[test]
    fn columns_line_up_and_hold_no_control_characters() {
        let rows = [["a\x1bb".to_owned(), "1".to_owned()], ["cdefg".to_owned(), "22".to_owned()]];
        assert_eq!(layout(["NAME", "N"], &rows, false), "NAME   N\na?b    1\ncdefg  22\n");
        assert_eq!(layout(["NAME", "N"], &rows, true), "a?b    1\ncdefg  22\n");
    }
}
