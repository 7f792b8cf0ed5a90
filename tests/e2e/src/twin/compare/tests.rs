use super::*;

fn side(files: &[(&str, &str)]) -> Collected {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    Collected { files, ..Collected::default() }
}

fn judge(machine: &str, container: &str, verdict: Option<Verdict>) -> Report {
    let rules: Vec<Rule> = verdict
        .into_iter()
        .map(|verdict| Rule { file: "proc/x", lines: "b", columns: &[], verdict })
        .collect();
    compare(&side(&[("proc/x", machine)]), &side(&[("proc/x", container)]), &rules)
}

const TEXT: &str = "a: 1 kB\nb: 5 kB\nc: 7 kB\n";
const OTHER: &str = "a: 1 kB\nb: 9 kB\nc: 7 kB\n";

#[test]
fn equal_files() {
    let report = judge(TEXT, TEXT, None);
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.rows["proc/x"], Row { lines: 3, equal: 3, ..Row::default() });
}

#[test]
fn a_difference_without_a_rule_fails() {
    assert_eq!(judge(TEXT, OTHER, None).problems.len(), 1);
    for (container, what) in [
        ("a: 1 kB\nc: 7 kB\n", "a line less"),
        ("a: 1 kB\nb: 5 kB\nc: 7 kB\nd: 1 kB\n", "a line more"),
        ("b: 5 kB\na: 1 kB\nc: 7 kB\n", "another order"),
        ("a: 1 kB\nb: 5 MB\nc: 7 kB\n", "another unit"),
        ("a:  1 kB\nb: 5 kB\nc: 7 kB\n", "another padding"),
        ("a: 1 kB\nb: 5 kB\nc: 7 kB", "no line end"),
        ("a: 1 kB\nb: 5 kB\nc: 7 kB\n\n", "an empty line"),
        ("a: 1 kB\nb: 5.0 kB\nc: 7 kB\n", "decimals"),
    ] {
        assert!(!judge(TEXT, container, None).problems.is_empty(), "{what}");
    }
}

#[test]
fn a_file_that_one_side_lacks_fails() {
    let both = side(&[("proc/x", TEXT), ("proc/y", "")]);
    assert!(!compare(&both, &side(&[("proc/x", TEXT)]), &[]).problems.is_empty());
    assert!(!compare(&side(&[("proc/x", TEXT)]), &both, &[]).problems.is_empty());
}

#[test]
fn rules_excuse_what_they_cover_alone() {
    let near = |plus| Some(Verdict::Within { percent: 0.0, plus, unit: "", reason: "" });
    assert!(judge(TEXT, OTHER, near(4.0)).problems.is_empty());
    assert_eq!(judge(TEXT, OTHER, near(3.0)).problems.len(), 1);
    assert!(judge(TEXT, OTHER, Some(Verdict::Differs(""))).problems.is_empty());
    assert!(judge(TEXT, OTHER, Some(Verdict::Varies(""))).problems.is_empty());
    // the number's form must still be the kernel's
    assert_eq!(judge(TEXT, "a: 1 kB\nb: 9.0 kB\nc: 7 kB\n", Some(Verdict::Varies(""))).problems.len(), 1);
    assert_eq!(judge("b: 8 kB\n", "b: 6 kB\n", Some(Verdict::Varies(""))).problems.len(), 1, "no pages");
    assert_eq!(judge(TEXT, "a: 2 kB\nb: 9 kB\nc: 7 kB\n", Some(Verdict::Varies(""))).problems.len(), 1);
    let without = "a: 1 kB\nc: 7 kB\n";
    assert!(judge(TEXT, without, Some(Verdict::OnlyMachine(""))).problems.is_empty());
    assert_eq!(judge(TEXT, without, Some(Verdict::OnlyContainer(""))).problems.len(), 1);
    assert!(judge("b: 1 2 3\n", "b: 1 2\n", Some(Verdict::Width(""))).problems.is_empty());
    assert_eq!(judge("b: 1 2 3\n", "b: 1 4\n", Some(Verdict::Width(""))).problems.len(), 1);
}

#[test]
fn stale_rules_are_named() {
    assert_eq!(judge("a: 1 kB\n", "a: 1 kB\n", Some(Verdict::Varies(""))).stale.len(), 1, "covers nothing");
    assert_eq!(judge(TEXT, TEXT, Some(Verdict::Differs(""))).stale.len(), 1, "covers what is equal");
    assert!(judge(TEXT, TEXT, Some(Verdict::Varies(""))).stale.is_empty());
    assert_eq!(judge(TEXT, TEXT, Some(Verdict::OnlyMachine(""))).stale.len(), 1, "the line is there");
    assert_eq!(judge(TEXT, TEXT, Some(Verdict::Width(""))).stale.len(), 1, "as many values");
}

#[test]
fn lines_are_counted_by_what_covers_them() {
    let covered = judge(TEXT, TEXT, Some(Verdict::Varies("")));
    assert_eq!(covered.rows["proc/x"].equal, 2, "equal by chance is not counted as equal");
    assert_eq!(covered.rows["proc/x"].differing, 1);
    assert_eq!(row_of("sys/devices/system/cpu/cpu0/online"), "sys/devices/system/cpu/");
}

#[test]
fn what_the_workload_adds_is_compared() {
    let grown = |before: &str, after: &str| {
        let pair = (before.to_owned(), after.to_owned());
        Collected { growth: [("proc/x".to_owned(), pair)].into(), ..Collected::default() }
    };
    let (machine, container) = (grown("b: 100 kB\n", "b: 150 kB\n"), grown("b: 7 kB\n", "b: 57 kB\n"));
    assert!(compare(&machine, &container, &[]).problems.is_empty());
    assert_eq!(compare(&machine, &grown("b: 7 kB\n", "b: 56 kB\n"), &[]).problems.len(), 1);
}
