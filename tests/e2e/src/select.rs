//! Which cases a run executes: the options of the command line, and the sets that they name.

use std::collections::BTreeSet;

use crate::case::{Case, Doing, Outcome, check, fail};

/// The cases of `tests/run` without arguments.
const QUICK: &str = include_str!("../quick.txt");

/// Cases that cannot run on every test machine: name, tab, reason.
const ONLY_IN_VM: &str = include_str!("../only-in-vm.tsv");

/// The lines of a list that are neither empty nor comments.
fn lines(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

/// A named set of cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// `quick.txt`.
    Quick,
    /// Cases whose subject depends on the cgroup version.
    Cgroup,
}

impl Set {
    fn named(word: Option<&&str>) -> Outcome<Self> {
        match word {
            Some(&"quick") => Ok(Self::Quick),
            Some(&"cgroup") => Ok(Self::Cgroup),
            _ => fail!("the sets of cases are quick and cgroup"),
        }
    }

    fn holds(self, case: &Case) -> bool {
        match self {
            Self::Quick => lines(QUICK).any(|name| name == case.name),
            Self::Cgroup => case.on_cgroups,
        }
    }
}

/// The K-th of N shares of a list; neighbours in the list go to different shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// 1 to `of`.
    number: usize,
    of: usize,
}

impl Share {
    /// `K/N`.
    fn parse(word: Option<&&str>) -> Outcome<Self> {
        let parsed = word.and_then(|word| word.split_once('/'));
        let parsed = parsed.and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => fail!("a share is K/N, with K from 1 to N"),
        }
    }

    fn of<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter().skip(self.number.saturating_sub(1)).step_by(self.of.max(1)).collect()
    }
}

/// What the command line asks for.
#[derive(Debug, Default)]
pub struct Options {
    /// Print the names instead of running the cases.
    pub list: bool,
    only: Option<Set>,
    except: Option<Set>,
    /// Beside the cases of `only`, this share of those that it leaves out.
    others: Option<Share>,
    /// The K-th of N parts of all that; a part of that part where it stands twice.
    parts: Vec<Share>,
    filters: Vec<String>,
}

impl Options {
    /// Reads the words of the command line.
    pub fn parse(words: &[&str]) -> Outcome<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            match word {
                "--list" => options.list = true,
                "--only" | "--except" => {
                    let set = Set::named(words.next())?;
                    let place = if word == "--only" { &mut options.only } else { &mut options.except };
                    check!(place.replace(set).is_none(), "{word} stands there twice");
                }
                "--others" => options.others = Some(Share::parse(words.next())?),
                "--part" => options.parts.push(Share::parse(words.next())?),
                _ if word.starts_with('-') => fail!("unknown option {word}"),
                filter => options.filters.push(filter.to_owned()),
            }
        }
        check!(options.others.is_none() || options.only.is_some(), "--others needs --only");
        Ok(options)
    }

    /// The cases that are asked for, in the order of the list.
    ///
    /// # Errors
    ///
    /// Where a filter matches no case, or a list names a case that does not exist.
    pub fn choose<'a>(&self, all: &'a [Case]) -> Outcome<Vec<&'a Case>> {
        check_lists(all)?;
        for filter in &self.filters {
            check!(
                all.iter().any(|case| case.name.contains(filter.as_str())),
                "no case's name contains {filter:?}; tests/run --list prints all names"
            );
        }
        let matches = |case: &Case| {
            self.filters.is_empty() || self.filters.iter().any(|f| case.name.contains(f.as_str()))
        };
        let (mut chosen, mut others) = (Vec::new(), Vec::new());
        for case in all.iter().filter(|case| matches(case)) {
            if self.except.is_some_and(|set| set.holds(case)) {
                continue;
            }
            let list = if self.only.is_none_or(|set| set.holds(case)) { &mut chosen } else { &mut others };
            list.push(case);
        }
        for filter in &self.filters {
            let asked = chosen.iter().chain(others.iter().filter(|_| self.others.is_some()));
            check!(
                asked.into_iter().any(|case| case.name.contains(filter.as_str())),
                "no case of the set that is asked for has {filter:?} in its name"
            );
        }
        if let Some(share) = self.others {
            chosen.extend(share.of(others));
        }
        Ok(self.parts.iter().fold(chosen, |chosen, part| part.of(chosen)))
    }
}

/// Why a case may be left out on a machine that lacks what it needs; `None` where it must not be.
pub fn may_be_left_out(name: &str) -> Option<&'static str> {
    lines(ONLY_IN_VM)
        .filter_map(|line| line.split_once('\t'))
        .find(|(case, _)| *case == name)
        .map(|(_, why)| why)
}

/// Every line of the lists names a case, once, and those of `only-in-vm.tsv` give a reason.
fn check_lists(all: &[Case]) -> Outcome {
    let names: BTreeSet<&str> = all.iter().map(|case| case.name).collect();
    check!(names.len() == all.len(), "two cases have one name");
    let mut seen = BTreeSet::new();
    for name in lines(QUICK) {
        check!(names.contains(name), "quick.txt: no case is named {name}");
        check!(seen.insert(name), "quick.txt: {name} stands twice");
    }
    for line in lines(ONLY_IN_VM) {
        let (name, reason) = line.split_once('\t').doing(format!("only-in-vm.tsv: no reason in {line:?}"))?;
        check!(names.contains(name), "only-in-vm.tsv: no case is named {name}");
        check!(!reason.trim().is_empty(), "only-in-vm.tsv: no reason for {name}");
        check!(seen.insert(name), "{name} stands twice in only-in-vm.tsv, or in quick.txt as well");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;

    fn chosen(words: &[&str]) -> Vec<&'static str> {
        let all = cases::all();
        Options::parse(words).unwrap().choose(&all).unwrap().iter().map(|case| case.name).collect()
    }

    #[test]
    fn shares_are_all_cases_and_each_once() {
        let mut parts: Vec<&str> = (1..=3).flat_map(|k| chosen(&["--part", &format!("{k}/3")])).collect();
        let mut all = chosen(&[]);
        assert_eq!(parts.len(), all.len());
        parts.sort_unstable();
        all.sort_unstable();
        assert_eq!(parts, all);
    }

    #[test]
    fn a_part_has_parts() {
        let half = chosen(&["--part", "2/2"]);
        let [one, two] = ["1/2", "2/2"].map(|part| chosen(&["--part", "2/2", "--part", part]));
        assert_eq!(one.len() + two.len(), half.len());
        assert!(one.iter().chain(&two).all(|name| half.contains(name)));
    }

    #[test]
    fn quick_and_the_rest_are_all_cases() {
        let (quick, rest) = (chosen(&["--only", "quick"]), chosen(&["--except", "quick"]));
        assert_eq!(quick.len() + rest.len(), chosen(&[]).len());
        assert!(rest.iter().all(|name| !quick.contains(name)));
    }

    #[test]
    fn all_shares_of_the_others_make_the_whole_list() {
        let cgroup = chosen(&["--only", "cgroup"]).len();
        let with_others = |k| chosen(&["--only", "cgroup", "--others", &format!("{k}/4")]).len() - cgroup;
        assert_eq!((1..=4).map(with_others).sum::<usize>(), chosen(&[]).len() - cgroup);
    }

    #[test]
    fn wrong_words_are_refused() {
        for words in [
            &["--part", "0/3"][..],
            &["--part", "4/3"],
            &["--part", "x"],
            &["--part"],
            &["--only", "slow"],
            &["--others", "1/2"],
            &["--only", "quick", "--only", "cgroup"],
            &["--fast"],
        ] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
        let all = cases::all();
        assert!(Options::parse(&["no_such_case"]).unwrap().choose(&all).is_err());
        assert!(Options::parse(&["--only", "quick", "oci_docker"]).unwrap().choose(&all).is_err());
    }
}
