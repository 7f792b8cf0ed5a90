use super::*;

const RULES: &[Rule] = &[
    Rule {
        file: "proc/x",
        lines: "a|b*",
        columns: &[],
        verdict: Verdict::Within { percent: 5.0, plus: 0.0, unit: "", reason: "why" },
    },
    Rule { file: "proc/x", lines: "c", columns: &[], verdict: Verdict::Differs("so") },
    Rule { file: "proc/x", lines: "d", columns: &[], verdict: Verdict::OnlyMachine("none here") },
    Rule { file: "proc/x", lines: "e", columns: &[], verdict: Verdict::Varies("so") },
];

fn report() -> Report {
    let row = Row { lines: 9, equal: 4, within: 2, differing: 3, rules: (0..4).collect() };
    Report { rows: [("proc/x".to_owned(), row)].into(), ..Report::default() }
}

#[test]
fn a_row_says_everything() {
    let table = render(&report(), RULES, "6.12");
    assert!(table.starts_with("Linux 6.12\n"));
    let row =
        "| `proc/x` | 9 | 4 | 2: `a`, `b*` 5 %: why | 3: `c`, `e`: so; `d` only in the machine: none here |";
    assert_eq!(table.lines().last(), Some(row));
}

#[test]
fn the_page_keeps_the_rest() {
    let page = format!("# Top\n\n{BEGIN}\n{END}\n\nBottom\n");
    let written = replace(&page, "table\n").unwrap();
    assert_eq!(written, format!("# Top\n\n{BEGIN}\ntable\n{END}\n\nBottom\n"));
    assert_eq!(in_page(&written), Some("table"));
    assert_eq!(in_page("no marks"), None);
    assert_eq!(replace("no marks", "table"), None);
}

#[test]
fn counts_matter_on_the_same_kernel_only() {
    let known = render(&report(), RULES, "6.12");
    assert!(differences(&known, &known).is_empty());
    let mut more = report();
    if let Some(row) = more.rows.get_mut("proc/x") {
        row.lines = 10;
    }
    assert_eq!(differences(&known, &render(&more, RULES, "6.12")).len(), 2);
    assert!(differences(&known, &render(&more, RULES, "6.13")).is_empty());
    assert_eq!(differences(&known, &render(&Report::default(), RULES, "6.13")).len(), 1);
}
