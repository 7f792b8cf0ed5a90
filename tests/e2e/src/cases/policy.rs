//! Policies: what each changes, which choice counts, and their change while the container runs.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::Row;
use super::cpu::shown;
use super::live::{again, keeping};
use crate::case::Needs::{Nothing, Swap};
use crate::case::{Doing, Outcome, check, check_eq, check_in, fail};
use crate::daemon::{self, Daemon, ownproc, ownproc_at};
use crate::groups::Group;
use crate::output::run;
use crate::parse::{Stat, processors, uptime};
use crate::programs::{self, OWN_INSIDE};
use crate::shell::{Shell, launch, launch_named, launched, new_name};

/// Cases whose subject depends on the cgroup version.
pub const OF_CGROUPS: &[Row] = &[
    ("policy_cpus_cpuset", Nothing, cpus),
    ("policy_swap_hide", Swap, swap),
    ("policy_view_changes_a_kept_file", Nothing, kept_by_view),
    ("policy_reload_reaches_unregistered_containers", Nothing, unregistered),
];

/// All others.
pub const CASES: &[Row] = &[
    ("policy_numbering_compact", Nothing, numbering),
    ("policy_uptime_host", Nothing, uptime_of_host),
    ("policy_counters_host", Nothing, counters),
    ("policy_bad_launch_view", Nothing, bad_launch_view),
    ("policy_view_tells_and_changes", Nothing, view),
    ("policy_changes_lower_no_counter", Nothing, lower_no_counter),
    ("policy_reload_changes_a_kept_file", Nothing, kept_by_reload),
    ("policy_precedence_and_patterns", Nothing, precedence),
    ("policy_bad_configuration", Nothing, bad_configuration),
    ("policy_choices_survive_the_daemon", Nothing, survive),
    ("policy_launcher_s_daemon_reads_the_configuration", Nothing, launchers_daemon),
    ("policy_on_unreadable", Nothing, on_unreadable),
];

fn cpus() -> Outcome {
    let flags = ["--cpus", "1", "--cpuset-cpus", "0-1"];
    check_eq!(shown(&mut Shell::launch(&flags)?)?, [0], "CPUs shown under --cpus 1");
    let mut whole = Shell::launch(&[&flags[..], &["--view", "cpus=cpuset"]].concat())?;
    check_eq!(shown(&mut whole)?, [0, 1], "CPUs shown with cpus=cpuset");
    Ok(())
}

fn numbering() -> Outcome {
    let mut shell = Shell::launch(&["--cpuset-cpus", "1", "--view", "numbering=compact"])?;
    check_eq!(shown(&mut shell)?, [0], "CPUs shown with numbering=compact on CPU 1");
    check_eq!(shell.read_cpu("cpu0/online").unwrap_or_else(|_| "1\n".into()), "1\n", "cpu0/online");
    shell.run(&format!("{OWN_INSIDE} tool burn --cpu-ms 300 >/dev/null"))?;
    let used = shell.stat()?.cpus.get(&0).doing("cpu0 in stat")?.used();
    check_in!(used, 25..=100, "ticks of cpu0 after 30 were burned");
    Ok(())
}

fn swap() -> Outcome {
    let flags = ["-m", "100M", "--memory-swap", "200M"];
    check_eq!(Shell::launch(&flags)?.meminfo()?.get("SwapTotal"), 102_400, "SwapTotal");
    let mut hidden = Shell::launch(&[&flags[..], &["--view", "swap=hide"]].concat())?;
    let meminfo = hidden.meminfo()?;
    check_eq!((meminfo.get("SwapTotal"), meminfo.get("SwapFree")), (0, 0), "swap with swap=hide");
    // It is a limit all the same.
    let limits = ownproc(&["limits", hidden.name(), "--bytes"])?.ok()?;
    let row = limits.lines().find(|line| line.starts_with("swap")).doing("swap in limits")?;
    check!(row.contains("104857600"), "limits of a container with hidden swap: {row:?}");
    Ok(())
}

fn host_uptime() -> Outcome<f64> {
    Ok(uptime(&std::fs::read_to_string("/proc/uptime")?)?.0)
}

fn uptime_of_host() -> Outcome {
    let mut shell = Shell::launch(&["--view", "uptime=host"])?;
    let (up, host) = (uptime(&shell.read("uptime")?)?.0, host_uptime()?);
    check_in!(up, host - 20.0..=host, "uptime with uptime=host");
    let own = std::fs::read_link("/proc/self/ns/time")?.display().to_string();
    check_eq!(shell.run("readlink /proc/self/ns/time")?.trim(), own, "time namespace with uptime=host");
    ownproc(&["view", shell.name(), "uptime=container"])?.ok()?;
    check_in!(uptime(&shell.read("uptime")?)?.0, 0.0..60.0, "uptime after uptime=container");
    Ok(())
}

fn counters() -> Outcome {
    let script = "cat /proc/stat";
    for (view, zero) in [("counters=zero", true), ("counters=host", false)] {
        let stat = Stat::parse(&launched(&["--view", view], script)?)?;
        let ctxt = stat.single.get("ctxt").copied();
        check_eq!(ctxt == Some(0), zero, "ctxt is {ctxt:?} with {view}");
    }
    Ok(())
}

fn bad_launch_view() -> Outcome {
    for (view, word) in [
        ("cpus=all", "\"quota\" or \"cpuset\""),
        ("cpu=quota", "did you mean cpus?"),
        ("colour=red", "cpus, numbering, swap, uptime, counters"),
        ("cpus", "KEY=VALUE"),
        ("", "KEY=VALUE"),
        ("cpus=quota,cpus=cpuset", "twice"),
        ("on-unreadable=error", "[defaults]"),
    ] {
        let output = run(launch(&["--view", view])?.arg("true"))?;
        check_eq!(output.code, 125, "exit code of launch --view {view:?} ({})", output.stderr);
        check_eq!(output.stderr.lines().count(), 1, "lines said about --view {view:?}: {}", output.stderr);
        check!(
            output.stderr.contains("--view") && output.stderr.contains(word),
            "{view:?}: {}",
            output.stderr
        );
    }
    Ok(())
}

/// VALUE and FROM of a policy, by `ownproc view --json`.
fn told(mount: &std::path::Path, target: &str, key: &str) -> Outcome<(String, String)> {
    let text = ownproc_at(mount, &["view", target, "--json"])?.ok()?;
    let json: Value = serde_json::from_str(&text)?;
    let settings = json["settings"].as_array().doing("settings")?;
    let setting = settings.iter().find(|setting| setting["key"] == key).doing(key)?;
    let from = match setting["from"].as_str() {
        Some("config") => format!("{}:{}", setting["section"].as_str().unwrap_or_default(), setting["line"]),
        other => other.unwrap_or_default().to_owned(),
    };
    Ok((setting["value"].as_str().unwrap_or_default().to_owned(), from))
}

fn is(value: &str, from: &str) -> (String, String) {
    (value.to_owned(), from.to_owned())
}

fn view() -> Outcome {
    let mount = daemon::shared_mount()?;
    let mut shell = Shell::launch(&["--cpus", "1", "--cpuset-cpus", "0-1", "--view", "numbering=physical"])?;
    check_eq!(told(&mount, shell.name(), "numbering")?, is("physical", "container"), "numbering");
    check_eq!(told(&mount, shell.name(), "cpus")?, is("quota", "default"), "cpus");
    for (change, cpus) in [("cpus=cpuset", &[0, 1][..]), ("cpus=quota", &[0]), ("cpus=cpuset", &[0, 1])] {
        ownproc(&["view", shell.name(), change])?.ok()?;
        check_eq!(shown(&mut shell)?, cpus, "CPUs shown after {change}");
    }
    ownproc(&["view", shell.name(), "cpus=default", "swap=hide,counters=host"])?.ok()?;
    check_eq!(shown(&mut shell)?, [0], "CPUs shown after cpus=default");
    check_eq!(told(&mount, shell.name(), "cpus")?, is("quota", "default"), "cpus after cpus=default");
    check_eq!(told(&mount, shell.name(), "swap")?, is("hide", "container"), "swap after swap=hide");
    let bad = ownproc(&["view", shell.name(), "cpus=cpuset", "swap=no"])?;
    check!(bad.code == 2 && bad.stderr.lines().count() == 1, "a bad change: {bad:?}");
    check_eq!(
        told(&mount, shell.name(), "cpus")?,
        is("quota", "default"),
        "cpus after a change that was refused"
    );
    let group = Group::create("foreign")?;
    let foreign = Shell::in_pid_namespace(&group, &[])?;
    let target = format!("group:{}", group.path());
    check_eq!(told(&mount, &target, "cpus")?, is("quota", "default"), "cpus of {}", foreign.name());
    let refused = ownproc(&["view", &target, "cpus=cpuset"])?;
    check!(
        refused.code == 2 && refused.stderr.contains("not registered"),
        "a change for nobody: {refused:?}"
    );
    Ok(())
}

fn kept_by_view() -> Outcome {
    let flags = ["--cpus", "1", "--cpuset-cpus", "0-1"];
    let mut stat = keeping(&flags, "stat")?;
    check_eq!(Stat::parse(&again(&mut stat)?)?.numbers(), [0], "cpuN lines");
    ownproc(&["view", stat.name(), "cpus=cpuset", "counters=host"])?.ok()?;
    let now = Stat::parse(&again(&mut stat)?)?;
    check_eq!(now.numbers(), [0, 1], "cpuN lines read again");
    check!(now.single.get("ctxt").is_some_and(|ctxt| *ctxt > 0), "ctxt read again");
    let mut cpuinfo = keeping(&["--cpuset-cpus", "1"], "cpuinfo")?;
    check_eq!(processors(&again(&mut cpuinfo)?)?, [1], "processors");
    ownproc(&["view", cpuinfo.name(), "numbering=compact"])?.ok()?;
    check_eq!(processors(&again(&mut cpuinfo)?)?, [0], "processors read again");
    Ok(())
}

/// Changes of cpus and numbering under load: no line of stat that was shown before is ever lower.
fn lower_no_counter() -> Outcome {
    let mut shell = Shell::launch(&["--cpus", "1", "--cpuset-cpus", "0-1"])?;
    shell.run(&format!("{OWN_INSIDE} tool burn --threads 2 --seconds 6 >/dev/null 2>&1 &"))?;
    let mut last = shell.stat()?;
    let (_, mut idle) = uptime(&shell.read("uptime")?)?;
    let end = Instant::now() + Duration::from_secs(7);
    let changes = [
        "cpus=cpuset",
        "numbering=compact",
        "cpus=quota",
        "numbering=physical",
        "cpus=cpuset,numbering=compact",
    ];
    let mut rounds = 0;
    for change in changes.iter().cycle().take_while(|_| Instant::now() < end) {
        ownproc(&["view", shell.name(), change])?.ok()?;
        let next = shell.stat()?;
        next.total.since(&last.total).doing(format!("cpu after {change}"))?;
        for (number, line) in &next.cpus {
            let before = last.cpus.get(number).copied().unwrap_or_default();
            line.since(&before).doing(format!("cpu{number} after {change}"))?;
        }
        let now = uptime(&shell.read("uptime")?)?.1;
        check!(now >= idle, "idle time of uptime fell from {idle} to {now} after {change}");
        (idle, last.total) = (now, next.total);
        // A line that is gone for a while must not come back lower either.
        last.cpus.extend(next.cpus);
        rounds += 1;
    }
    check!(rounds >= 5, "only {rounds} changes were made");
    Ok(())
}

/// A daemon with a configuration of its own.
struct Configured {
    daemon: Daemon,
    file: PathBuf,
}

fn config_file(name: &str) -> PathBuf {
    PathBuf::from(format!("/var/tmp/ownproc-e2e-{}-{name}.toml", std::process::id()))
}

impl Configured {
    fn start(name: &str, text: &str, flags: &[&str]) -> Outcome<Self> {
        let file = config_file(name);
        std::fs::write(&file, text)?;
        let path = file.display().to_string();
        let mut command = programs::ownproc()?;
        command.env("OWNPROC_LOG", "off");
        let flags = [&["--config", &path][..], flags].concat();
        let daemon = Daemon::spawn(command, daemon::fresh_mount_point(name), &flags)?;
        Ok(Self { daemon, file })
    }

    fn mount(&self) -> String {
        self.daemon.mount().display().to_string()
    }

    /// Writes the configuration and has it read.
    fn reload(&self, text: &str) -> Outcome {
        std::fs::write(&self.file, text)?;
        self.daemon.signal(Signal::SIGHUP)
    }

    fn told(&self, target: &str, key: &str) -> Outcome<(String, String)> {
        told(self.daemon.mount(), target, key)
    }

    fn stop(self) -> Outcome {
        std::fs::remove_file(&self.file)?;
        self.daemon.stop()
    }
}

/// Until it is so; a reload takes place at some time after the signal.
fn soon(what: &str, mut test: impl FnMut() -> Outcome<bool>) -> Outcome {
    let end = Instant::now() + Duration::from_secs(20);
    while !test()? {
        check!(Instant::now() < end, "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn kept_by_reload() -> Outcome {
    let own = Configured::start("reload", "", &[])?;
    let mut kept = keeping(&["--mount", &own.mount(), "--cpus", "1", "--cpuset-cpus", "0-1"], "stat")?;
    check_eq!(Stat::parse(&again(&mut kept)?)?.numbers(), [0], "cpuN lines");
    own.reload("[defaults]\ncpus = \"cpuset\"\n")?;
    soon("two cpuN lines after a reload", || Ok(Stat::parse(&again(&mut kept)?)?.numbers() == [0, 1]))?;
    own.reload(&format!("[defaults]\ncpus = \"cpuset\"\n[containers.{}]\ncpus = \"quota\"\n", kept.name()))?;
    soon("one cpuN line after a reload", || Ok(Stat::parse(&again(&mut kept)?)?.numbers() == [0]))?;
    // What the container chose stays so.
    ownproc_at(own.daemon.mount(), &["view", kept.name(), "cpus=cpuset"])?.ok()?;
    own.reload("[defaults]\nswap = \"hide\"\n")?;
    soon("the reload", || Ok(own.told(kept.name(), "swap")? == is("hide", "defaults:2")))?;
    check_eq!(Stat::parse(&again(&mut kept)?)?.numbers(), [0, 1], "cpuN lines with a choice of its own");
    drop(kept);
    own.stop()
}

fn unregistered() -> Outcome {
    let own = Configured::start("foreign", "", &[])?;
    let group = Group::create("foreign")?;
    group.set_quota(100)?;
    group.set_cpuset("0-1")?;
    let mut reader = Shell::in_pid_namespace(&group, &[])?;
    let stat = own.daemon.mount().join("proc/stat").display().to_string();
    let mut numbers = |what: &str| -> Outcome<Vec<usize>> {
        Ok(Stat::parse(&reader.run(&format!("cat {stat}")).doing(what)?)?.numbers())
    };
    check_eq!(numbers("before")?, [0], "cpuN lines of an unregistered container");
    own.reload("[defaults]\ncpus = \"cpuset\"\n[containers.\"*\"]\ncpus = \"quota\"\n")?;
    soon("two cpuN lines after a reload", || Ok(numbers("after")? == [0, 1]))?;
    own.stop()
}

fn precedence() -> Outcome {
    let base = new_name();
    let text = format!(
        "[defaults]\ncpus = \"quota\"\nswap = \"hide\"\nuptime = \"host\"\n\
         [containers.\"{base}*\"]\nnumbering = \"compact\"\ncounters = \"host\"\n\
         [containers.\"{base}x*\"]\ncounters = \"zero\"\n\
         [containers.{base}xy]\nnumbering = \"physical\"\n"
    );
    let own = Configured::start("precedence", &text, &["--cpus", "cpuset", "--swap", "show"])?;
    let mount = own.mount();
    let start = |suffix: &str, flags: &[&str]| -> Outcome<Shell> {
        let name = format!("{base}{suffix}");
        let flags = [&["--mount", &mount, "--cpus", "1", "--cpuset-cpus", "0-1"][..], flags].concat();
        let mut command = launch_named(&name, &flags)?;
        command.arg("sh");
        Shell::running(command, name)
    };
    let (mut plain, mut chosen) = (start("-a", &[])?, start("xy", &["--view", "cpus=quota"])?);
    for (shell, cpus, expected) in [
        (
            &mut plain,
            &[0, 1][..],
            [
                ("cpus", is("cpuset", "flag")),
                ("numbering", is("compact", &format!("containers.{base}*:6"))),
                ("swap", is("show", "flag")),
                ("uptime", is("host", "defaults:4")),
                ("counters", is("host", &format!("containers.{base}*:7"))),
            ],
        ),
        (
            &mut chosen,
            &[0],
            [
                ("cpus", is("quota", "container")),
                ("numbering", is("physical", &format!("containers.{base}xy:11"))),
                ("swap", is("show", "flag")),
                ("uptime", is("host", "defaults:4")),
                ("counters", is("zero", &format!("containers.{base}x*:9"))),
            ],
        ),
    ] {
        check_eq!(shown(shell)?, cpus, "CPUs shown to {}", shell.name());
        for (key, expected) in expected {
            check_eq!(own.told(shell.name(), key)?, expected, "{key} of {}", shell.name());
        }
    }
    let table = ownproc_at(own.daemon.mount(), &["config", "--no-headers"])?.ok()?;
    check_eq!(table.lines().count(), 10, "rows of ownproc config: {table:?}");
    check!(table.contains("serve --cpus") && table.contains(&format!("containers.{base}x*")), "{table:?}");
    drop((plain, chosen));
    own.stop()
}

fn bad_configuration() -> Outcome {
    let file = config_file("bad");
    let path = file.display().to_string();
    let mount = daemon::fresh_mount_point("bad").display().to_string();
    let bad = "[defaults]\ncpus = \"all\"\n";
    let said = format!("{path}:2: cpus = \"all\": it must be \"quota\" or \"cpuset\"");
    std::fs::write(&file, bad)?;
    let output = run(programs::ownproc()?.args(["serve", &mount, "--config", &path]))?;
    check_eq!(output.code, 2, "exit code of serve with a bad configuration ({})", output.stderr);
    check_eq!(output.stderr, format!("ownproc: {said}\n"), "what serve says");
    check!(!PathBuf::from(&mount).exists(), "serve made its mount point before it read its configuration");
    std::fs::remove_file(&file)?;
    let output = run(programs::ownproc()?.args(["serve", &mount, "--config", &path]))?;
    check!(output.code == 2 && output.stderr.contains(&path), "a named file that is missing: {output:?}");

    let own = Configured::start("bad", "[defaults]\nswap = \"hide\"\n", &[])?;
    let config = || ownproc_at(own.daemon.mount(), &["config"]);
    check_eq!(config()?.code, 0, "exit code of ownproc config");
    for (text, said) in [
        (bad, &said[..]),
        ("[defaults]\nswap = 1\n", ":2: swap = 1: a number where"),
        ("swap = \"hide\"\n", ":1: swap stands outside a section"),
        ("[defaults]\nswap = \"show\"\nswap = \"show\"\n", ":3: swap stands twice"),
        ("[defaults]\nwsap = \"show\"\n", ":2: \"wsap\" is no policy: "),
    ] {
        own.reload(text)?;
        soon(text, || Ok(config()?.stderr.contains(said)))?;
        let output = config()?;
        check_eq!(output.code, 1, "exit code of ownproc config after a bad reload");
        check!(output.stdout.contains("hide"), "what was in force before: {}", output.stdout);
    }
    std::fs::remove_file(&own.file)?;
    own.daemon.signal(Signal::SIGHUP)?;
    soon("a missing file is told", || Ok(config()?.stderr.contains("cannot read the configuration")))?;
    own.reload("[defaults]\nswap = \"show\"\n")?;
    soon("a good file is taken", || Ok(config()?.code == 0))?;
    check!(!config()?.stdout.contains("hide"), "swap after a good reload");
    own.stop()
}

fn survive() -> Outcome {
    let mount = daemon::fresh_mount_point("survive");
    let text = mount.display().to_string();
    let first = Daemon::start(mount.clone())?;
    let shell =
        Shell::launch(&["--mount", &text, "--cpus", "1", "--cpuset-cpus", "0-1", "--view", "cpus=cpuset"])?;
    ownproc_at(&mount, &["view", shell.name(), "swap=hide"])?.ok()?;
    first.crash()?;
    let second = Daemon::start_with(mount.clone(), &["--cpus", "quota", "--numbering", "compact"])?;
    for (key, expected) in [
        ("cpus", is("cpuset", "container")),
        ("swap", is("hide", "container")),
        ("numbering", is("compact", "flag")),
    ] {
        check_eq!(told(&mount, shell.name(), key)?, expected, "{key} after a restart of the daemon");
    }
    let cpuinfo = std::fs::read_to_string(mount.join("containers").join(shell.name()).join("proc/cpuinfo"))?;
    check_eq!(processors(&cpuinfo)?, [0, 1], "processors after a restart of the daemon");
    drop(shell);
    soon("the container goes", || {
        Ok(ownproc_at(&mount, &["ls", "--json"])?.ok()?.matches("\"registered\": true").count() == 0)
    })?;
    second.stop()
}

/// The daemon that `launch` starts has nobody to name a file: it reads /etc/ownproc/config.toml.
fn launchers_daemon() -> Outcome {
    let dir = format!("/var/tmp/ownproc-e2e-{}-etc", std::process::id());
    let mount = daemon::fresh_mount_point("etc").display().to_string();
    let launch = |text: &str| -> Outcome<crate::output::Output> {
        std::fs::create_dir_all(format!("{dir}/etc/ownproc"))?;
        std::fs::write(format!("{dir}/etc/ownproc/config.toml"), text)?;
        let run_it = format!(
            "{}/ownproc-run launch --name {} --mount {mount} --cpus 1 --cpuset-cpus 0-1 -- grep -c ^processor /proc/cpuinfo",
            programs::bin_dir()?.display(),
            new_name()
        );
        let end = format!("{}/ownproc umount {mount} 2>/dev/null", programs::bin_dir()?.display());
        let script = format!(
            "mount -t overlay -o lowerdir={dir}/etc:/etc overlay /etc && {run_it}; code=$?; {end}; exit $code"
        );
        run(Command::new("unshare").args(["--mount", "sh", "-c", &script]))
    };
    let check = || -> Outcome {
        let output = launch("[defaults]\ncpus = \"cpuset\"\n")?;
        check_eq!((output.code, output.stdout.trim()), (0, "2"), "processors ({})", output.stderr);
        let output = launch("[defaults]\ncpus = 2\n")?;
        let said = "/etc/ownproc/config.toml:2: cpus = 2: a number where";
        check_eq!(output.code, 125, "exit code of launch with a bad configuration ({})", output.stderr);
        check!(
            output.stderr.contains(said) && output.stderr.lines().count() == 1,
            "said: {:?}",
            output.stderr
        );
        Ok(())
    };
    let outcome = check();
    std::fs::remove_dir_all(&dir)?;
    daemon::clean(&PathBuf::from(mount));
    outcome
}

/// What a process outside the daemon's pid namespace reads.
fn on_unreadable() -> Outcome {
    for (flags, readable) in [("", true), ("--on-unreadable error", false), ("--on-unreadable host", true)] {
        let mount = daemon::fresh_mount_point("outside");
        let script = format!(
            "mount -t proc proc /proc && exec {}/ownproc serve {} {flags}",
            programs::bin_dir()?.display(),
            mount.display()
        );
        let mut child = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child=TERM", "--mount", "sh", "-c", &script])
            .env("OWNPROC_LOG", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let look = || -> Outcome {
            let mut file = PathBuf::new();
            soon("the daemon in a pid namespace", || {
                let pids = std::fs::read_to_string(&children)?;
                let Some(pid) = pids.split_whitespace().next() else { return Ok(false) };
                let inside = mount.strip_prefix("/")?;
                file = PathBuf::from("/proc").join(pid).join("root").join(inside).join("proc/meminfo");
                Ok(file.exists())
            })?;
            match (std::fs::read_to_string(&file), readable) {
                (Ok(text), true) => {
                    let total = |text: &str| text.lines().next().map(str::to_owned);
                    let host = std::fs::read_to_string("/proc/meminfo")?;
                    check_eq!(total(&text), total(&host), "MemTotal for a reader outside");
                }
                (Err(error), false) => {
                    check_eq!(error.raw_os_error(), Some(libc::EIO), "the error for a reader outside");
                }
                (other, _) => {
                    fail!("serve {flags}: a reader outside gets {:?}", other.map(|text| text.len()))
                }
            }
            Ok(())
        };
        let outcome = look();
        // unshare ends its child with it, and the mount goes with the namespace.
        let pids = std::fs::read_to_string(&children).unwrap_or_default();
        for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM);
        }
        child.wait()?;
        daemon::clean(&mount);
        outcome?;
    }
    Ok(())
}
