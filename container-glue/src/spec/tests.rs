use clap::Parser;
use proptest::prelude::*;

use super::limits::Max;
use super::*;
use crate::args::{Cli, Verb};

fn spec(words: &[&str]) -> Result<Spec, SpecError> {
    let words = ["ownproc-run", "launch"].iter().chain(words).chain(&["--", "true"]);
    let Ok(Cli { verb: Verb::Launch(args), .. }) = Cli::try_parse_from(words) else { panic!("not parsed") };
    Spec::new(&args, &[("TERM", "vt100"), ("A", "caller")].map(|(k, v)| (k.into(), v.into())).into())
}

fn error(words: &[&str]) -> String {
    let message = spec(words).map(|spec| format!("{spec:?}")).expect_err("accepted").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn limits() {
    let limits =
        spec(&["-m", "256M", "--cpus", "1.5", "--cpuset-cpus", "0-1", "--cpu-weight", "50"]).unwrap().limits;
    assert_eq!(limits.memory, Some(256 << 20));
    assert_eq!(limits.memory_swap, Some(Max::At(512 << 20)));
    assert_eq!(limits.swap(), Some(Max::At(256 << 20)));
    assert!(!limits.memory_swap_asked);
    assert_eq!(limits.cpus, Some(150_000));
    assert_eq!(limits.whole_cpus(), Some(2));
    assert_eq!(limits.cpu_shares(), Some(512));
    assert_eq!(limits.cpuset_cpus.unwrap().to_string(), "0-1");
}

#[test]
fn swap_forms() {
    let swap = |both: &str| spec(&["-m", "100m", "--memory-swap", both]).unwrap().limits.swap();
    assert_eq!(swap("-1"), Some(Max::Unlimited));
    assert_eq!(swap("100m"), Some(Max::At(0)));
    assert_eq!(swap("0"), Some(Max::At(100 << 20)));
    assert!(error(&["-m", "100m", "--memory-swap", "99m"]).contains("smaller than -m"));
    assert!(error(&["--memory-swap", "99m"]).contains("needs -m"));
}

#[test]
fn cpu_numbers() {
    for (text, quota) in
        [("1", 100_000), ("0.01", 1000), ("0.5", 50_000), ("2.123456", 212_345), ("1.0", 100_000)]
    {
        assert_eq!(spec(&["--cpus", text]).unwrap().limits.cpus, Some(quota), "{text}");
    }
    for text in ["0", "0.001", "0.0", "x", "1.", ".5", "1,5", "99999", "1e2", "", "99999999999999999999999"] {
        assert!(error(&["--cpus", text]).starts_with("--cpus"), "{text}");
    }
    assert_eq!(spec(&["--cpus", "0.2"]).unwrap().limits.whole_cpus(), Some(1));
}

#[test]
fn weights_keep_their_ratio() {
    for (weight, shares) in [("1", 10), ("100", 1024), ("10000", 102_400)] {
        assert_eq!(spec(&["--cpu-weight", weight]).unwrap().limits.cpu_shares(), Some(shares));
    }
    for weight in ["0", "10001", "x"] {
        error(&["--cpu-weight", weight]);
    }
}

#[test]
fn one_line_errors() {
    for words in [
        &["-m", "4"][..],
        &["-m", "5x"],
        &["--pids-limit", "0"],
        &["--pids-limit", "-2"],
        &["--cpuset-cpus", ""],
        &["--cpuset-cpus", "1-"],
        &["--cpuset-mems", "9999"],
        &["--name", "123"],
        &["--name", "../x"],
        &["--hostname", "a b"],
        &["--net", "veth"],
        &["--workdir", "x"],
        &["--pin"],
        &["-e", "=x"],
        &["--cgroup-parent", "/a/../.."],
        &["-v", "/a"],
        &["-v", "a:/b"],
        &["-v", "/a:b"],
        &["-v", "/a:/"],
        &["-v", "/a:/proc/x"],
        &["-v", "/a:/b/../proc"],
        &["-v", "/a:/b:rx"],
    ] {
        error(words);
    }
}

#[test]
fn names() {
    let spec_default = spec(&[]).unwrap();
    assert_eq!(spec_default.name.as_str().len(), 12);
    assert_eq!(spec_default.hostname, spec_default.name.as_str());
    assert_eq!(spec(&["--name", "web"]).unwrap().hostname, "web");
    assert_eq!(spec(&["--name", "web", "--hostname", "h.x"]).unwrap().hostname, "h.x");
    for _ in 0..1000 {
        assert!(!random_name().as_str().bytes().all(|b| b.is_ascii_digit()));
    }
}

#[test]
fn environment_is_clean() {
    let env = spec(&["-e", "A", "-e", "B=1", "-e", "B=2=3", "-e", "MISSING"]).unwrap().env;
    assert_eq!(env["TERM"], "vt100");
    assert_eq!(env["A"], "caller");
    assert_eq!(env["B"], "2=3");
    assert!(!env.contains_key("MISSING"));
    assert_eq!(env["PATH"], DEFAULT_PATH);
    assert_eq!(spec(&["-e", "PATH=/x"]).unwrap().env["PATH"], "/x");
}

#[test]
fn parents() {
    for (text, path) in [("/ownproc", "ownproc"), ("a/b/", "a/b"), ("//a/./b", "a/b"), ("/", "")] {
        assert_eq!(spec(&["--cgroup-parent", text]).unwrap().cgroup_parent, PathBuf::from(path));
    }
}

#[test]
fn volumes() {
    let volume = &spec(&["-v", "/a:/b:ro"]).unwrap().volumes[0];
    assert_eq!(
        (volume.source.to_str(), volume.target.to_str(), volume.read_only),
        (Some("/a"), Some("/b"), true)
    );
    assert!(!spec(&["-v", "/a:/b"]).unwrap().volumes[0].read_only);
}

proptest! {
    #[test]
    fn no_value_panics(a in "[ -~]{0,12}", b in "[ -~]{0,24}") {
        for flag in ["--cpus=", "--memory=", "--memory-swap=", "--volume=", "--env=", "--cgroup-parent=", "--hostname="] {
            let _ = spec(&[&format!("{flag}{a}")]);
            let _ = spec(&[&format!("{flag}{b}")]);
        }
    }
}

#[test]
fn view_flags_add_up() {
    use ownproc::model::{CpusPolicy, Numbering, SwapPolicy};
    assert_eq!(spec(&[]).unwrap().view, PolicyChoices::default());
    let view = spec(&["--view", "cpus=cpuset,numbering=compact", "--view=swap=hide"]).unwrap().view;
    let (cpus, numbering) = (Some(CpusPolicy::Cpuset), Some(Numbering::Compact));
    let swap = Some(SwapPolicy::Hide);
    assert_eq!(view, PolicyChoices { cpus, numbering, swap, ..Default::default() });
    for (flags, said) in [
        (&["--view", "cpus=all"][..], "--view cpus=all: cpus = \"all\": it must be \"quota\" or \"cpuset\""),
        (&["--view", "cpu=quota"], "did you mean cpus?"),
        (&["--view", "cpus=quota", "--view", "cpus=quota"], "cpus is given twice"),
        (&["--view", ""], "not KEY=VALUE"),
    ] {
        let error = error(flags);
        assert!(error.contains(said), "{error}");
    }
}
