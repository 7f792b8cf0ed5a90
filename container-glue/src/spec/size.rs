//! Sizes as Docker spells them.

/// Parses `512`, `512b`, `64k`, `256M`, `1.5g`, `2GiB`, `1t`: 1024-based, upper or lower case. Bytes.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("{unit:?} is not a unit; use b, k, m, g or t, as in 512m")),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || (number.ends_with('.')) {
        return Err("not a size; write a number and a unit, as in 512m".to_owned());
    }
    let too_large = || "larger than any memory; the unit may be wrong".to_owned();
    let whole: u128 = whole.parse().map_err(|_| too_large())?;
    // 12 digits are exact to the byte for every unit; more cannot matter
    let fraction: String = fraction.chars().take(12).collect();
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| too_large())? };
    let part = (part << shift) / 10u128.pow(u32::try_from(fraction.len()).unwrap_or(12));
    let bytes =
        whole.checked_mul(1 << shift).and_then(|bytes| bytes.checked_add(part)).ok_or_else(too_large)?;
    // the kernel's files take signed 64-bit numbers
    u64::try_from(bytes).ok().filter(|&bytes| bytes <= i64::MAX as u64).ok_or_else(too_large)
}

/// A size for people: the largest unit that divides it, else bytes.
pub fn show(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "k")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}b")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn docker_spellings() {
        for (text, bytes) in [
            ("4", 4),
            ("6291456", 6 << 20),
            ("7b", 7),
            ("64K", 64 << 10),
            ("256m", 256 << 20),
            ("256MiB", 256 << 20),
            ("256MB", 256 << 20),
            ("1.5g", 3 << 29),
            ("0.5t", 1 << 39),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "m",
            "1x",
            "1.2.3m",
            "1.",
            ".5m",
            "-1",
            "1 m",
            "+5",
            "99999999999t",
            "1e3",
            "5mm",
            "\u{663}m",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*") {
            let _ = parse(&text);
        }

        #[test]
        fn shown_sizes_read_back(bytes in 0..=i64::MAX as u64) {
            prop_assert_eq!(parse(&show(bytes)), Ok(bytes));
        }
    }
}
