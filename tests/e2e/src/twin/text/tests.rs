use super::*;

fn keys(path: &str, text: &str) -> Vec<String> {
    keyed(path, text).into_iter().map(|line| line.key).collect()
}

fn alike(one: &str, other: &str) -> bool {
    layout(&Line::split(one), &Line::split(other), true).is_none()
}

#[test]
fn splitting_loses_nothing() {
    for text in ["", " ", "MemTotal:   12 kB", "some avg10=0.00 total=5", "0.10 1/190 7", "a,,b "] {
        let line = Line::split(text);
        let mut whole = String::new();
        for (at, gap) in line.gaps.iter().enumerate() {
            whole += gap;
            whole += line.words.get(at).unwrap_or(&"");
        }
        assert_eq!(whole, text);
        assert_eq!(line.gaps.len(), line.words.len() + 1);
    }
}

#[test]
fn formats() {
    for (word, expected) in [
        ("12", Format::Number(0)),
        ("0", Format::Number(0)),
        ("-5", Format::Number(0)),
        ("0.25", Format::Number(2)),
        ("00000003", Format::Digits(8)),
        ("kB", Format::Word),
        ("1.2.3", Format::Word),
        ("3f", Format::Word),
        (".5", Format::Word),
    ] {
        assert_eq!(format(word), expected, "{word}");
    }
}

#[test]
fn keys_of_lines() {
    assert_eq!(keys("proc/meminfo", "MemTotal: 5 kB\nActive(anon): 6 kB\n"), ["MemTotal", "Active(anon)"]);
    assert_eq!(keys("proc/uptime", "1.00 2.00\n"), [""]);
    assert_eq!(
        keys("proc/cpuinfo", "processor : 0\nMHz : 1\n\nprocessor : 1\nMHz : 1\n"),
        ["processor 0", "processor 0 > MHz", "processor 0 > ", "processor 1", "processor 1 > MHz"]
    );
    assert_eq!(keys("proc/diskstats", " 8 0 sda 1 2\n 8 1 sda1 1 2\n"), ["8 0 sda", "8 1 sda1"]);
    assert_eq!(keys("proc/interrupts", "  CPU0\n  0: 5 x\nNMI: 0\n"), ["CPU0", "0", "NMI"]);
    assert_eq!(
        keys("proc/zoneinfo", "Node 0, zone DMA\n  pages free 5\n  pagesets\n    cpu: 0\n      count: 1\n"),
        [
            "Node 0 zone DMA",
            "Node 0 zone DMA > pages free",
            "Node 0 zone DMA > pagesets",
            "Node 0 zone DMA > pagesets > cpu 0",
            "Node 0 zone DMA > pagesets > cpu 0 > count"
        ]
    );
    assert_eq!(keys("sys/devices/system/cpu/", "cpu0/\nonline\n"), ["cpu0", "online"]);
    assert_eq!(keys("proc/x", "a 1\na 2\n"), ["a", "a #2"]);
}

#[test]
fn a_missing_line_end_and_an_empty_file_are_seen() {
    assert_eq!(keyed("proc/x", "a 1\n\n").len(), 2);
    assert_eq!(keyed("proc/x", "a 1").len(), 1);
    assert_eq!(keyed("proc/x", "").len(), 0);
    assert_eq!(keyed("proc/x", "\n").len(), 1);
}

#[test]
fn columns_keep_their_padding() {
    assert!(alike("MemTotal:      990500 kB", "MemTotal:     1048576 kB"), "right-aligned");
    assert!(
        !alike("Buffers:              88 kB", "Buffers:              0 kB"),
        "a padded column that is not"
    );
    assert!(!alike("Buffers:              88 kB", "Buffers:               88 kB"), "one blank more");
    assert!(alike("cpu  252 0 580", "cpu  22 0 41"), "not padded");
    assert!(!alike("cpu  252 0 580", "cpu 252 0 580"), "one blank less");
    assert!(!alike("a 1", "a 1 "), "a blank at the end");
    assert!(!alike("a 1", "a\t1"), "a tab");
    assert!(!alike("a 1", "a 1 2"), "a value more");
    assert!(alike("name-a      5", "name-bcd    7"), "left-aligned");
    assert!(alike("x:     12345 kB", "x: 12345678901 kB"), "too long for its column");
    assert!(alike("0.10 0.05 1/190 77", "0.00 0.00 1/3 5"), "loadavg");
    assert!(!alike("0.10 1/190", "0.10 1 190"), "another separator");
}

#[test]
fn growth_of_numbers() {
    assert_eq!(
        growth("proc/x", "a: 5 kB x\nb 1.50\n", "b 2.00 7\na: 3 kB x\nc 4\n"),
        "b 0.50 7\na: -2 kB x\nc 4\n"
    );
    let stat = "cpu  10 1 5 66 3 1 1 3 9 9\ncpu0 1\ncpu1 1\nintr 5\n";
    assert_eq!(used(stat, (10.0, 4.0)), "used 0.0\n");
    assert_eq!(used(stat, (10.0, 2.0)), "used 10.0\n");
    assert_eq!(ahead("5.10 7.00\n", (5.0, 1.0)), "ahead 0.10\nidle 7.00\n");
}
