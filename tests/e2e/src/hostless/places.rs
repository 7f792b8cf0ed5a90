//! Where the numbers of a text stand.

use std::collections::BTreeMap;

/// Where a number stands in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// What the row belongs to, where rows of the same words stand in blocks: the CPU, the zone.
    block: String,
    /// The words of the row before its first number; all of them where it begins with one.
    pub row: String,
    /// Which of the rows with these words, from 0.
    nth: usize,
    /// The column's number from 1, or the name that the file's first line gives it.
    pub column: String,
}

/// A number as it was written, and its value where it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Number {
    /// As written.
    pub text: String,
    value: Option<f64>,
}

/// Below this a number may be the same by chance: it must be just the host's.
const SMALL: f64 = 100.0;

impl Number {
    /// `None` for a word. Decimal numbers, and hexadecimal ones of at least 8 digits (masks, parts of an id).
    fn of(word: &str) -> Option<Self> {
        let text = word.to_owned();
        if word.starts_with(|c: char| c.is_ascii_digit())
            && let Ok(value) = word.parse::<f64>()
        {
            return Some(Self { text, value: Some(value) });
        }
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        (hex && (digits.len() >= 8 || digits.len() < word.len())).then_some(Self { text, value: None })
    }

    /// Whether it says anything to see it twice.
    pub fn tells(&self) -> bool {
        match self.value {
            Some(value) => value > 1.0,
            None => self.text.trim_start_matches(['0', 'x']).len() > 1,
        }
    }

    /// Whether it is one of the host's numbers, or lies between two that were read before and after it.
    pub fn is_among(&self, there: &[&Self]) -> bool {
        let values: Vec<f64> = there.iter().filter_map(|number| number.value).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let between = self.value.is_some_and(|value| value >= SMALL && least <= value && value <= most);
        between || there.iter().any(|number| number.text == self.text)
    }
}

/// Words of a line: what stands between blanks and the signs that separate numbers.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| c.is_whitespace() || "=,:;()[]/-<>|".contains(c)).filter(|word| !word.is_empty())
}

/// The numbers of a file by their places.
pub fn places(file: &str, text: &str) -> BTreeMap<Place, Number> {
    let mut found = BTreeMap::new();
    let mut block = String::new();
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    let header: Vec<&str> = text.lines().next().map(|line| words(line).collect()).unwrap_or_default();
    // interrupts and softirqs: a column for each CPU, named above
    let cpus: Vec<&str> = header.iter().copied().take_while(|word| is_cpu_column(word)).collect();
    for line in text.lines() {
        if let Some(new) = block_of(file, line) {
            block = new;
        }
        let (label, rest) = match line.split_once(':') {
            // `0:` is the row's name, as an interrupt's number
            Some((id, rest)) if !cpus.is_empty() => (Some(id.trim()), rest),
            _ => (None, line),
        };
        let all: Vec<&str> = words(rest).collect();
        let numbers: Vec<Option<Number>> = all.iter().map(|word| Number::of(word)).collect();
        let leading = numbers.iter().take_while(|number| number.is_none()).count();
        let row = match label {
            Some(label) => label.to_owned(),
            None if leading > 0 => all[..leading].join(" "),
            None => {
                let words = all.iter().zip(&numbers).filter(|(_, number)| number.is_none());
                words.map(|(word, _)| *word).collect::<Vec<_>>().join(" ")
            }
        };
        let nth = seen.entry((block.clone(), row.clone())).or_default();
        for (index, number) in numbers.into_iter().flatten().enumerate() {
            let column = cpus.get(index).map_or_else(|| (index + 1).to_string(), |cpu| (*cpu).to_owned());
            found.insert(Place { block: block.clone(), row: row.clone(), nth: *nth, column }, number);
        }
        *nth += 1;
    }
    found
}

fn is_cpu_column(word: &str) -> bool {
    word.strip_prefix("CPU").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The block that a line begins: of a CPU in cpuinfo, of a node and zone in zoneinfo and a node's own files, of a CPU in
/// schedstat.
fn block_of(file: &str, line: &str) -> Option<String> {
    let begins = match file {
        "/proc/cpuinfo" => line.starts_with("processor"),
        "/proc/zoneinfo" => line.starts_with("Node"),
        "/proc/schedstat" => line.starts_with("cpu"),
        _ => false,
    };
    begins.then(|| words(line).take(4).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: &str, text: &str) -> Vec<(String, String, String)> {
        places(file, text).into_iter().map(|(place, number)| (place.row, place.column, number.text)).collect()
    }

    fn rows(list: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
        list.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
    }

    #[test]
    fn rows_and_columns() {
        assert_eq!(at("/proc/meminfo", "MemTotal:  5 kB\n"), rows(&[("MemTotal", "1", "5")]));
        assert_eq!(
            at("/proc/diskstats", "   8       0 sda 7 9\n"),
            rows(&[("sda", "1", "8"), ("sda", "2", "0"), ("sda", "3", "7"), ("sda", "4", "9")])
        );
        assert_eq!(at("/proc/interrupts", "     CPU1\n 24:  77  IO-APIC\n"), rows(&[("24", "CPU1", "77")]));
        assert_eq!(at("/proc/uptime", "1.50 2.25\n"), rows(&[("", "1", "1.50"), ("", "2", "2.25")]));
        assert_eq!(
            at("/proc/pressure/cpu", "some avg10=1.00 total=5\n"),
            rows(&[("some avg10", "1", "1.00"), ("some avg10", "2", "5")])
        );
    }

    #[test]
    fn blocks_keep_cpus_apart() {
        let text = "processor\t: 0\ncpu MHz\t: 2000.1\n\nprocessor\t: 1\ncpu MHz\t: 3000.2\n";
        let inside = places("/proc/cpuinfo", "processor\t: 1\ncpu MHz\t: 3000.2\n");
        let host = places("/proc/cpuinfo", text);
        assert!(inside.iter().all(|(place, number)| host.get(place) == Some(number)));
    }

    #[test]
    fn numbers_that_tell() {
        for word in ["2", "1.5", "0x1f", "deadbeef"] {
            assert!(Number::of(word).is_some_and(|number| number.tells()), "{word}");
        }
        for word in ["0", "1", "0.00", "00000001"] {
            assert!(Number::of(word).is_some_and(|number| !number.tells()), "{word}");
        }
        for word in ["face", "kB", "cpu0", "avg10"] {
            assert!(Number::of(word).is_none(), "{word}");
        }
    }

    #[test]
    fn between_two_reads() {
        let number = |word: &str| Number::of(word).unwrap();
        let (low, high) = (number("1000"), number("1010"));
        assert!(number("1005").is_among(&[&low, &high]));
        assert!(!number("999").is_among(&[&low, &high]));
        assert!(!number("3").is_among(&[&number("2"), &number("4")]), "small numbers must be the very same");
    }
}
