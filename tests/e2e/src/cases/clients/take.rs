//! Finding an answer in what a program printed.

/// The `n`th word (from 0) of the first line whose words begin with those of `start`.
pub fn word(text: &str, start: &str, n: usize) -> Option<String> {
    let start: Vec<&str> = start.split_whitespace().collect();
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.starts_with(&start))
        .and_then(|words| words.get(n).map(|word| (*word).to_owned()))
}

/// The `n`th line (from 0).
pub fn line(text: &str, n: usize) -> Option<String> {
    text.lines().nth(n).map(|line| line.trim().to_owned())
}

/// What follows `mark` up to a blank, a comma, a semicolon or a closing bracket.
pub fn after(text: &str, mark: &str) -> Option<String> {
    let rest = text.split_once(mark)?.1.trim_start();
    let end = rest.find(|c: char| c.is_whitespace() || ",;)]".contains(c)).unwrap_or(rest.len());
    (end > 0).then(|| rest[..end].to_owned())
}

/// The word in front of `mark`.
pub fn before(text: &str, mark: &str) -> Option<String> {
    let word = text.split_once(mark)?.0.trim_end().rsplit([' ', '(', ',', '\n']).next()?;
    (!word.is_empty()).then(|| word.to_owned())
}

/// The `n`th word of the last line that is not empty.
pub fn last(text: &str, n: usize) -> Option<String> {
    let line = text.lines().rfind(|line| !line.trim().is_empty())?;
    line.split_whitespace().nth(n).map(str::to_owned)
}

/// How many lines meet a condition.
pub fn count(text: &str, condition: fn(&str) -> bool) -> Option<String> {
    Some(text.lines().filter(|line| condition(line)).count().to_string())
}

/// The value of a sample in the text format of Prometheus, labels included in its name.
pub fn sample(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned)
}

/// What was drawn on a terminal, without the escape sequences (each a blank, since many move the cursor).
pub fn screen(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            // Colours and other attributes do not part words.
            Some('[') => match chars.find(|c| c.is_ascii_alphabetic()) {
                Some('m') | None => {}
                Some(_) => plain.push(' '),
            },
            Some('(' | ')') => drop(chars.next()),
            _ => {}
        }
    }
    plain
}

/// `yes` or `no`.
pub fn yes(condition: bool) -> Option<String> {
    Some(if condition { "yes" } else { "no" }.to_owned())
}

/// A number and a unit of 1024 such as `1.5G`, in MiB.
pub fn mebibytes(text: &str) -> Option<String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = text[..text.len() - unit.len()].parse().ok()?;
    let factor = match unit {
        "B" | "" => 1.0 / 1024.0 / 1024.0,
        "K" | "k" => 1.0 / 1024.0,
        "M" => 1.0,
        "G" => 1024.0,
        _ => return None,
    };
    Some((number * factor).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let text = "  total used\nMem:  10 20\nMemory: 3\n(1 CPU)\n";
        assert_eq!(word(text, "Mem:", 2).as_deref(), Some("20"));
        assert_eq!(word(text, "Mem", 1), None);
        assert_eq!(word(text, "Mem:", 9), None);
        assert_eq!(before(text, " CPU)").as_deref(), Some("1"));
        assert_eq!(after("load average: 0.10, 2", "average:").as_deref(), Some("0.10"));
        assert_eq!(last("a b\nc d\n\n", 1).as_deref(), Some("d"));
        assert_eq!(sample("a_b 3\na{x=\"1\"} 5\na 4\n", "a").as_deref(), Some("4"));
        assert_eq!(sample("a_b 3\na{x=\"1\"} 5\na 4\n", "a{x=\"1\"}").as_deref(), Some("5"));
    }

    #[test]
    fn screens() {
        assert_eq!(
            screen("\u{1b}[2J\u{1b}[31mMem\u{1b}[39m[\u{1b}(B2M/\u{1b}[1m5M\u{1b}[3;4Hx"),
            " Mem[2M/5M x"
        );
        assert_eq!(screen("\u{1b}[2"), "");
    }

    #[test]
    fn units() {
        assert_eq!(mebibytes("512M").as_deref(), Some("512"));
        assert_eq!(mebibytes("2G").as_deref(), Some("2048"));
        assert_eq!(mebibytes("x"), None);
    }
}
