use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text.as_bytes(), Path::new("/etc/ownproc/config.toml")).map_err(|error| {
        let error = error.to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    })
}

#[test]
fn sections_and_their_lines() {
    let text = "# a comment\n\n[defaults]\ncpus = \"cpuset\"\non-unreadable = 'error'\n\n\
        [containers.db]\nswap = \"hide\"  # here\n[containers.\"web.1*\"]\n";
    let config = parse(text).unwrap();
    assert_eq!(config.defaults.choices.get(PolicyKey::Cpus), Some("cpuset"));
    assert_eq!(config.defaults.choices.get(PolicyKey::OnUnreadable), Some("error"));
    assert_eq!(config.defaults.lines, BTreeMap::from([(PolicyKey::Cpus, 4), (PolicyKey::OnUnreadable, 5)]));
    let names: Vec<String> = config.containers.iter().map(|(pattern, _)| pattern.to_string()).collect();
    assert_eq!(names, ["db", "web.1*"]);
    assert_eq!(config.containers[0].1.lines, BTreeMap::from([(PolicyKey::Swap, 8)]));
    for empty in ["", "\n", "# nothing\n", "[defaults]\n", "[containers]\n", "\u{feff}[defaults]\r\n"] {
        assert_eq!(parse(empty).map(|config| config.defaults), Ok(Section::default()), "{empty:?}");
    }
    // TOML's other ways to say the same.
    let inline = parse("defaults = { cpus = \"cpuset\" }\ncontainers.db.swap = \"hide\"\n").unwrap();
    assert_eq!(inline.defaults.lines, BTreeMap::from([(PolicyKey::Cpus, 1)]));
    assert_eq!(inline.containers[0].1.lines, BTreeMap::from([(PolicyKey::Swap, 2)]));
}

#[test]
fn o4_what_is_wrong_is_said_with_its_place_and_what_is_right() {
    let cpus = "it must be \"quota\" or \"cpuset\"";
    for (text, line, said) in [
        ("[defaults]\ncpus = \"all\"\n", 2, format!("cpus = \"all\": {cpus}")),
        ("[defaults]\n\ncpus = \"Quota\"\n", 3, format!("cpus = \"Quota\": {cpus}")),
        ("[defaults]\ncpu = \"quota\"\n", 2, "\"cpu\" is no policy: did you mean cpus?".into()),
        (
            "[defaults]\nmemory = \"1\"\n",
            2,
            "there are cpus, numbering, swap, uptime, counters, on-unreadable".into(),
        ),
        ("[defaults]\ncpus = 3\n", 2, format!("cpus = 3: a number where {cpus}")),
        ("[defaults]\ncpus = true\n", 2, "cpus = true: true or false where".into()),
        ("[defaults]\ncpus = [\n\"quota\"]\n", 2, "cpus = [: a list where".into()),
        ("[defaults]\ncpus = {}\n", 2, "a section where".into()),
        ("[defaults]\n[defaults.cpus]\n", 2, "a section where".into()),
        ("[defaults]\ncpus = 1979-05-27\n", 2, "a date where".into()),
        ("[defaults]\nswap = \"hide\"\nswap = \"show\"\n", 3, "swap stands twice".into()),
        ("[defaults]\n[containers.a]\n[defaults]\n", 3, "[defaults] stands twice".into()),
        ("[containers.a]\n[containers.a]\n", 2, "[containers.a] stands twice".into()),
        ("cpus = \"quota\"\n", 1, "cpus stands outside a section: write it below [defaults]".into()),
        ("[default]\n", 1, "[default] is no section: there are [defaults] and [containers.NAME]".into()),
        ("\n[[defaults]]\n", 2, "defaults is no section: write [defaults]".into()),
        ("defaults = 3\n", 1, "defaults is no section".into()),
        (
            "[containers]\nweb = \"cpuset\"\n",
            2,
            "containers.web is no section: write [containers.web]".into(),
        ),
        ("[containers]\ncpus = \"cpuset\"\n", 2, "containers.cpus is no section".into()),
        (
            "[containers.web-*]\n",
            1,
            "[containers.web-*]: a name with a dot or a star is quoted: [containers.\"web-*\"]".into(),
        ),
        ("[containers.web.1]\ncpus = \"quota\"\n", 1, "[containers.\"web.1\"]".into()),
        ("[containers.\"123\"]\n", 1, "[containers.\"123\"]: ".into()),
        ("[containers.\"a b\"]\n", 1, "[containers.\"a b\"]: ".into()),
        ("[containers.\"\"]\n", 1, "[containers.\"\"]: ".into()),
        ("[containers.\"a*b\"]\n", 1, "[containers.\"a*b\"]: ".into()),
        ("[containers.\"a**\"]\n", 1, "may end in one star".into()),
        ("[containers.\"-*\"]\n", 1, "may end in one star".into()),
        (
            "[containers.a]\non-unreadable = \"error\"\n",
            2,
            "on-unreadable is about readers without a container".into(),
        ),
        ("[containers.a]\ncolour = \"x\"\n", 2, "there are cpus, numbering, swap, uptime, counters".into()),
        ("[defaults]\ncpus = quota\n", 2, "not TOML: ".into()),
        ("[defaults]\ncpus \"quota\"\n", 2, "not TOML: ".into()),
        ("[defaults\n", 1, "not TOML: ".into()),
        ("[defaults]\ncpus = \"quota\n", 2, "not TOML: ".into()),
        ("[defaults]\ncpus = \"x\u{1b}[31m\"\n", 2, "not TOML: ".into()),
        ("[defaults]\ncpus = \"\"\"a\nb\"\"\"\n", 2, "cpus = \"a\\nb\": it must be".into()),
    ] {
        let error = parse(text).expect_err(text);
        let place = format!("/etc/ownproc/config.toml:{line}: ");
        assert!(error.starts_with(&place) && error.contains(&said), "{text:?}: {error}");
        assert!(!error.contains('\u{1b}'), "{error}");
    }
}

#[test]
fn o4_the_first_mistake_is_told() {
    let error = parse("[defaults]\nuptime = \"x\"\ncpus = \"y\"\n[a]\n").unwrap_err();
    assert!(error.contains(":2: uptime"), "{error}");
}

#[test]
fn o4_bytes_that_are_no_text() {
    let file = Path::new("f");
    let error = Config::parse(b"[defaults]\n# \xff\n", file).unwrap_err();
    assert_eq!((error.line, &error.problem), (Some(2), &Problem::NotUtf8));
    assert_eq!(error.to_string(), "f:2: the configuration is not UTF-8 text: save it as such");
    let error = Config::parse("\u{0}".as_bytes(), file).unwrap_err();
    assert!(matches!(error.problem, Problem::Syntax(_)), "{error}");
    let long = format!("[defaults]\n#{}\n", "x".repeat(MOST_LINE));
    let error = Config::parse(long.as_bytes(), file).unwrap_err();
    assert_eq!((error.line, error.problem), (Some(2), Problem::LongLine));
}

/// Nothing that fits into the limits is nested so deep that taking it apart exhausts the stack.
#[test]
fn deep_nesting_is_survived() {
    let deep = "a.".repeat(MOST_LINE / 2 - 3);
    let _ = parse(&format!("{deep}a = 1\n"));
    let _ = parse(&format!("[{deep}a]\n"));
    let _ = parse(&format!("x = {}{}", "[".repeat(500), "\n[".repeat(10_000)));
    let inline = format!("x = {{\n{}", format!("{deep}a = {{\n").repeat(1000));
    let _ = parse(&inline);
    let headers: String = (0..200).map(|depth| format!("[{}]\n", vec!["a"; depth + 1].join("."))).collect();
    let _ = parse(&headers);
}

#[test]
fn a_pattern_fits_names() {
    for (pattern, fits, not) in [
        ("web", &["web"][..], &["web1", "we"][..]),
        ("web*", &["web", "web1", "web-x"], &["we", "aweb"]),
        ("*", &["web", "0x"], &[]),
        ("1*", &["1a", "12b"], &["a1"]),
    ] {
        let pattern = Pattern::new(pattern).unwrap();
        let name = |text: &&str| ContainerName::new(text).unwrap();
        assert!(fits.iter().map(name).all(|name| pattern.fits(&name)), "{pattern}");
        assert!(!not.iter().map(name).any(|name| pattern.fits(&name)), "{pattern}");
    }
}

/// The file that is shipped says what is built in, with and without its comment signs.
#[test]
fn the_shipped_file_says_what_is_built_in() {
    let text = include_str!("../../../packaging/config.toml");
    assert_eq!(parse(text), Ok(Config::default()));
    let settings: String = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#'])).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    let config = parse(&settings).unwrap();
    for key in PolicyKey::ALL {
        assert_eq!(config.defaults.choices.get(key), key.values().first().copied(), "{}", key.name());
    }
    let names: Vec<String> = config.containers.iter().map(|(pattern, _)| pattern.to_string()).collect();
    assert_eq!(names, ["db", "web-*"]);
    for key in PolicyKey::ALL {
        for value in key.values() {
            assert!(text.contains(&format!("(\"{value}\")")), "{value} is explained");
        }
    }
}
