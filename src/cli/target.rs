//! TARGET on the command line: a container's name or the beginning of its id, a pid, a group or a systemd unit.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::runtime::{Managed, identify};
use super::survey::{Init, main_group};
use crate::cgroup::Layout;
use crate::control::ContainerInfo;
use crate::model::HostPid;

/// What a TARGET names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A registered container.
    Registered(ContainerInfo),
    /// A process: of a container that is not registered, or any other.
    Process(HostPid),
    /// A group: its directory in each hierarchy that has it.
    Group(Vec<PathBuf>),
}

impl Target {
    /// In words, for a list of matches.
    fn describe(&self) -> String {
        match self {
            Self::Registered(info) => format!("name:{}", info.name),
            Self::Process(pid) => format!("pid:{pid}"),
            Self::Group(dirs) => match dirs.first() {
                Some(dir) => format!("group:{}", dir.display()),
                None => "group:/".to_owned(),
            },
        }
    }
}

/// What targets are looked for among.
pub(super) struct Candidates<'a> {
    /// `/`, or a fixture tree.
    pub root: &'a Path,
    pub layout: &'a Layout,
    pub registered: &'a [ContainerInfo],
    pub inits: &'a [Init],
}

/// A unit's group is looked for in this many directories at most.
const UNIT_SEARCH: usize = 20_000;
/// An ambiguous target lists this many matches at most.
const LISTED: usize = 8;

impl Candidates<'_> {
    /// The one thing that `text` names. Nothing: exit code 3; several: exit code 2, with a list.
    pub(super) fn find(&self, text: &str) -> Result<Target, Failure> {
        let found = match text.split_once(':') {
            Some(("name", rest)) => self.names(rest),
            Some(("pid", rest)) => return self.pid(rest),
            Some(("group", rest)) => {
                let mut found = self.group(rest);
                if found.is_empty() && !rest.contains('/') {
                    found = self.unit(rest);
                }
                found
            }
            _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => return self.pid(text),
            _ if text.contains('/') => self.group(text),
            _ => {
                let mut found = self.names(text);
                if [".service", ".scope", ".slice"].iter().any(|suffix| text.ends_with(suffix)) {
                    found.extend(self.unit(text));
                }
                found
            }
        };
        match found.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(Failure::NoTarget(format!(
                "no container, process, group or unit is called {text:?}; `ownproc ls` lists containers"
            ))),
            several => {
                let mut names: Vec<String> = several.iter().take(LISTED).map(Target::describe).collect();
                if several.len() > LISTED {
                    names.push(format!("{} more", several.len() - LISTED));
                }
                Err(Failure::Error(format!("{text:?} is ambiguous: {}; name one of these", names.join(", "))))
            }
        }
    }

    fn pid(&self, text: &str) -> Result<Target, Failure> {
        let pid = text.parse().ok().and_then(HostPid::new).ok_or_else(|| {
            Failure::Error(format!("{text:?} is not a pid: a number from 1 to {} is", i32::MAX))
        })?;
        if let Some(info) = self.registered.iter().find(|info| info.pid == pid) {
            return Ok(Target::Registered(info.clone()));
        }
        if !self.root.join(format!("proc/{pid}")).exists() {
            return Err(Failure::NoTarget(format!(
                "no process has pid {pid}; name:{pid} looks for a container whose id begins so"
            )));
        }
        Ok(Target::Process(pid))
    }

    /// Containers by name: a whole name goes before the beginning of one.
    fn names(&self, text: &str) -> Vec<Target> {
        if text.is_empty() {
            return Vec::new();
        }
        let named = self.named();
        let matching = |test: &dyn Fn(&str) -> bool| -> Vec<Target> {
            let mut found: Vec<Target> = Vec::new();
            for (name, target) in &named {
                if test(name) && !found.contains(target) {
                    found.push(target.clone());
                }
            }
            found
        };
        let whole = matching(&|name| name == text);
        if whole.is_empty() { matching(&|name| name.starts_with(text)) } else { whole }
    }

    /// All names and whose they are: the registered ones, and those that managers gave. Of several inits in one
    /// manager's container the outermost counts.
    fn named(&self) -> Vec<(String, Target)> {
        let mut named: Vec<(String, Target)> = self
            .registered
            .iter()
            .map(|info| (info.name.to_string(), Target::Registered(info.clone())))
            .collect();
        let mut managed: Vec<(Managed, &Init)> = Vec::new();
        for init in self.inits {
            let Some(name) = identify(main_group(&init.cgroup)) else { continue };
            match managed.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) if init.depth < known.depth => *known = init,
                Some(_) => {}
                None => managed.push((name, init)),
            }
        }
        for (Managed { name, .. }, init) in managed {
            let registered = self.registered.iter().find(|info| info.pid == init.pid);
            let target =
                registered.map_or(Target::Process(init.pid), |info| Target::Registered(info.clone()));
            if !named.contains(&(name.clone(), target.clone())) {
                named.push((name, target));
            }
        }
        named
    }

    /// A group by its directory, or by its path within the hierarchies. The group of that path in every other
    /// hierarchy belongs to it.
    fn group(&self, text: &str) -> Vec<Target> {
        let given = Path::new(text);
        let hierarchies = self.layout.hierarchies();
        let inside = hierarchies
            .iter()
            .filter_map(|hierarchy| given.strip_prefix(hierarchy.mountpoint()).ok())
            .min_by_key(|rest| rest.components().count());
        let path = Path::new("/").join(inside.unwrap_or(given));
        if path.components().any(|part| part == std::path::Component::ParentDir) {
            return Vec::new();
        }
        let dirs: Vec<PathBuf> = hierarchies
            .iter()
            .map(|hierarchy| hierarchy.file_path(&path, ""))
            .filter(|dir| self.below_root(dir).join("cgroup.procs").exists())
            .collect();
        if dirs.is_empty() { Vec::new() } else { vec![Target::Group(dirs)] }
    }

    /// The group of a systemd unit: a directory of that name in systemd's own hierarchy or in the v2 one.
    fn unit(&self, unit: &str) -> Vec<Target> {
        let hierarchies = self.layout.hierarchies();
        let systemd = hierarchies.iter().find(|hierarchy| hierarchy.name() == Some("systemd"));
        let v2 = self.layout.v2().and_then(|number| self.layout.get(number));
        let Some(hierarchy) = systemd.or(v2) else { return Vec::new() };
        let top = self.below_root(hierarchy.mountpoint());
        let (mut waiting, mut found, mut looked) = (vec![top.clone()], Vec::new(), 0);
        while let Some(dir) = waiting.pop() {
            looked += 1;
            if looked > UNIT_SEARCH {
                break;
            }
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            for entry in entries.filter_map(Result::ok) {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if entry.file_name() == unit {
                    let path = entry.path();
                    let inside = path.strip_prefix(&top).unwrap_or(&path).to_owned();
                    found.extend(self.group(&Path::new("/").join(inside).to_string_lossy()));
                } else {
                    waiting.push(entry.path());
                }
            }
        }
        found
    }

    fn below_root(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::survey::{self, tests::process};
    use crate::model::{ContainerName, Nsec, Policies};

    const DOCKER: &str = "aaaa0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab";

    fn info(name: &str, pid: i32) -> ContainerInfo {
        ContainerInfo {
            name: ContainerName::new(name).unwrap(),
            pid: HostPid::new(pid).unwrap(),
            slot: 1,
            groups: Vec::new(),
            policies: Policies::default(),
            start: Nsec(0),
        }
    }

    /// A v2 host with two docker containers, one with a pid namespace inside, and two registered containers.
    struct Fixture {
        dir: tempfile::TempDir,
        layout: Layout,
        registered: Vec<ContainerInfo>,
        inits: Vec<Init>,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path();
            std::fs::create_dir_all(root.join("proc/self")).unwrap();
            let mountinfo = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
            std::fs::write(root.join("proc/self/mountinfo"), mountinfo).unwrap();
            let groups = [
                "",
                "web",
                "system.slice",
                "system.slice/cron.service",
                "user.slice",
                "user.slice/u",
                "user.slice/u/cron.service",
                "system.slice/dbus.service",
            ];
            for group in groups {
                let group = root.join("sys/fs/cgroup").join(group);
                std::fs::create_dir_all(&group).unwrap();
                std::fs::write(group.join("cgroup.procs"), "").unwrap();
            }
            process(root, 10, "10\t1", &format!("0::/docker/{DOCKER}\n"));
            process(root, 11, "11\t5\t1", &format!("0::/docker/{DOCKER}\n"));
            process(root, 12, "12\t1", &format!("0::/docker/aabb{}\n", &DOCKER[4..]));
            process(root, 20, "20\t1", "0::/ownproc/web\n");
            process(root, 30, "30", "0::/system.slice/cron.service\n");
            Self {
                layout: Layout::discover(root).unwrap(),
                registered: vec![info("web", 20), info("webshop", 21), info("dbus.service", 22)],
                inits: survey::inits(root).unwrap(),
                dir,
            }
        }

        fn find(&self, text: &str) -> Result<Target, Failure> {
            let candidates = Candidates {
                root: self.dir.path(),
                layout: &self.layout,
                registered: &self.registered,
                inits: &self.inits,
            };
            candidates.find(text)
        }

        fn found(&self, text: &str) -> String {
            self.find(text).unwrap_or_else(|failure| panic!("{text}: {failure}")).describe()
        }

        fn failure(&self, text: &str) -> (u8, String) {
            let failure = self.find(text).unwrap_err();
            (failure.code(), failure.to_string())
        }
    }

    #[test]
    fn every_kind_is_found() {
        let fixture = Fixture::new();
        let cron = "group:/sys/fs/cgroup/system.slice/cron.service";
        for (text, target) in [
            ("web", "name:web"),
            ("name:webs", "name:webshop"),
            ("aaaa", "pid:10"),
            (DOCKER, "pid:10"),
            ("12", "pid:12"),
            ("pid:30", "pid:30"),
            ("20", "name:web"),
            ("/sys/fs/cgroup/web", "group:/sys/fs/cgroup/web"),
            ("/web", "group:/sys/fs/cgroup/web"),
            ("group:web", "group:/sys/fs/cgroup/web"),
            ("group:/", "group:/sys/fs/cgroup"),
            ("system.slice/cron.service", cron),
            ("/sys/fs/cgroup/system.slice/cron.service/", cron),
            ("user.slice", "group:/sys/fs/cgroup/user.slice"),
            ("group:dbus.service", "group:/sys/fs/cgroup/system.slice/dbus.service"),
            ("name:dbus.service", "name:dbus.service"),
        ] {
            assert_eq!(fixture.found(text), target, "{text}");
        }
    }

    #[test]
    fn nothing_found_is_3() {
        let fixture = Fixture::new();
        for text in [
            "nobody",
            "",
            "name:",
            "99999",
            "pid:99999",
            "/no/group",
            "group:nobody",
            "x.service",
            "/sys/fs/cgroup/../../proc",
            "name:12",
            "web\n",
            ":",
            "a:b",
        ] {
            assert_eq!(fixture.failure(text).0, 3, "{text}");
        }
    }

    #[test]
    fn ambiguous_is_2_and_lists_the_matches() {
        let fixture = Fixture::new();
        for (text, matches) in [
            ("aa", "pid:10, pid:12"),
            ("we", "name:web, name:webshop"),
            ("dbus.service", "name:dbus.service, group:/sys/fs/cgroup/system.slice/dbus.service"),
        ] {
            let (code, message) = fixture.failure(text);
            assert_eq!((code, message.contains(matches)), (2, true), "{message}");
        }
        let (code, message) = fixture.failure("cron.service");
        assert!(code == 2 && message.matches("cron.service").count() == 3, "{message}");
        for text in ["pid:x", "pid:0", "pid:-1", "0", "99999999999999999999"] {
            assert_eq!(fixture.failure(text).0, 2, "{text}");
        }
    }
}
