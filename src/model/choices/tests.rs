use super::*;

#[test]
fn o1_keys_and_values_have_names() {
    for key in PolicyKey::ALL {
        let built_in = DaemonChoices::default();
        assert_eq!(built_in.get(key), None, "nothing is chosen");
        for value in key.values() {
            let mut choices = DaemonChoices::default();
            choices.set(key, value).unwrap();
            assert_eq!(choices.get(key), Some(value));
            let others = PolicyKey::ALL.into_iter().filter(|other| *other != key);
            assert!(others.map(|other| choices.get(other)).all(|value| value.is_none()), "{}", key.name());
        }
        let error = DaemonChoices::default().set(key, "x").unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} = \"x\": it must be ", key.name())), "{error}");
        assert!(key.values().iter().all(|value| error.contains(value)), "{error}");
    }
}

#[test]
fn o1_the_first_value_is_built_in() {
    let policies = PolicyChoices::default().complete();
    assert_eq!(policies, Policies::default());
    for key in PolicyKey::CONTAINER {
        assert_eq!(policies.get(key), key.values().first().copied());
    }
    assert_eq!(OnUnreadable::default().name(), "host");
}

#[test]
fn o2_an_earlier_choice_goes_first_key_by_key() {
    let (mut first, mut second) = (PolicyChoices::default(), PolicyChoices::default());
    first.set(PolicyKey::Cpus, Some("quota")).unwrap();
    second.set(PolicyKey::Cpus, Some("cpuset")).unwrap();
    second.set(PolicyKey::Swap, Some("hide")).unwrap();
    let both = first.or(second);
    let names = PolicyKey::CONTAINER.map(|key| both.get(key));
    assert_eq!(names, [Some("quota"), None, Some("hide"), None, None]);
    assert_eq!(PolicyChoices::from(both.complete()).complete(), both.complete());
    for key in PolicyKey::CONTAINER {
        let mut all = PolicyChoices::default();
        all.set(key, key.values().last().copied()).unwrap();
        assert_eq!(PolicyChoices::default().or(all), all);
        assert_eq!(all.complete().get(key), key.values().last().copied());
    }
}

fn error(words: &[&str]) -> String {
    let error = PolicyChange::parse_all(words).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn changes_are_read_and_made() {
    let changes = PolicyChange::parse_all(&["cpus=cpuset,numbering=compact", "swap=default"]).unwrap();
    let mut choices = PolicyChoices { swap: Some(SwapPolicy::Hide), ..Default::default() };
    for change in &changes {
        change.apply(&mut choices).unwrap();
    }
    let cpus = Some(CpusPolicy::Cpuset);
    let numbering = Some(Numbering::Compact);
    assert_eq!(choices, PolicyChoices { cpus, numbering, ..Default::default() });
    for (words, said) in [
        (&["cpu=cpuset"][..], "\"cpu\" is no policy: did you mean cpus?"),
        (&["Numberin=compact"], "did you mean numbering?"),
        (&["colour=red"], "there are cpus, numbering, swap, uptime, counters"),
        (&["cpus=all"], "cpus = \"all\": it must be \"quota\" or \"cpuset\""),
        (&["cpus="], "cpus = \"\": it must be"),
        (&["cpus"], "\"cpus\" is not KEY=VALUE; the keys are cpus, "),
        (&[""], "\"\" is not KEY=VALUE"),
        (&["cpus=quota,"], "\"\" is not KEY=VALUE"),
        (&["swap=hide", "swap=show"], "swap is given twice"),
        (&["on-unreadable=error"], "on-unreadable is about readers without a container"),
        (&["a\nb=c"], "\"a\\nb\" is no policy"),
    ] {
        let error = error(words);
        assert!(error.contains(said), "{words:?}: {error}");
    }
    assert!(error(&[&"x".repeat(5000)]).len() < 200);
}

#[test]
fn a_key_that_was_meant_is_named() {
    let names = || PolicyKey::ALL.iter().map(|key| key.name());
    for (typed, meant) in [
        ("cpu", Some("cpus")),
        ("on_unreadable", Some("on-unreadable")),
        ("Swap", Some("swap")),
        ("counter", Some("counters")),
        ("wsap", None),
        ("", None),
        ("numbers", Some("numbering")),
        ("memory", None),
    ] {
        assert_eq!(nearest(typed, names()), meant, "{typed}");
    }
    assert_eq!(distance(b"kitten", b"sitting"), 3);
    assert_eq!((distance(b"", b"abc"), distance(b"abc", b""), distance(b"a", b"a")), (3, 3, 0));
}

/// What an older launcher sends, and what an older daemon reads.
#[test]
fn older_peers_understand() {
    let full = serde_json::to_string(&Policies::default()).unwrap();
    let read: PolicyChoices = serde_json::from_str(&full).unwrap();
    assert_eq!(read, Policies::default().into());
    let choices = PolicyChoices { cpus: Some(CpusPolicy::Cpuset), ..Default::default() };
    let sent = serde_json::to_string(&choices).unwrap();
    assert_eq!(sent, r#"{"cpus":"cpuset"}"#);
    assert_eq!(serde_json::from_str::<Policies>(&sent).unwrap(), choices.complete());
    assert_eq!(serde_json::from_str::<PolicyChoices>("{}").unwrap(), PolicyChoices::default());
}
