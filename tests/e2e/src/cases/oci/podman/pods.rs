//! Pods, health checks, and what podman tells and changes of a running container.

use std::process::Command;

use super::Podman;
use crate::case::{Doing, Outcome, check, check_eq};
use crate::parse::Meminfo;

const IMAGE: &str = "localhost/e2e";

/// Two containers in a pod, and one by itself.
pub fn pods() -> Outcome {
    let it = Podman::new("oci-pods")?;
    // free(1) that reads /proc/meminfo
    it.bundle.add_program("free")?;
    let archive = it.bundle.dir.join("image.tar");
    let tar =
        Command::new("tar").arg("-C").arg(it.bundle.root()).arg("-cf").arg(&archive).arg(".").status()?;
    check!(tar.success(), "tar: {tar}");
    it.run(&["import", &archive.display().to_string(), IMAGE])?;
    let outcome = alone(&it).and_then(|()| pod(&it));
    let removed = it.call(&["rm", "--all", "--force", "--time", "0"])?;
    let pods = it.call(&["pod", "rm", "--all", "--force", "--time", "0"])?;
    outcome?;
    removed.ok().doing("podman rm --all")?;
    pods.ok().doing("podman pod rm --all").map(drop)
}

fn alone(it: &Podman) -> Outcome {
    let parent = it.bundle.parent.as_str();
    let options = ["--network", "none", "--cgroup-parent", parent, "--memory", "96m", "--cpus", "1"];
    let mut words = vec!["run", "--detach", "--name", "alone", "--cpuset-cpus", "0"];
    words.extend(options);
    words.extend(["--health-cmd", "cat /tmp/healthy", "--health-interval", "disable", IMAGE, "sleep", "600"]);
    it.run(&words)?;
    check_eq!(it.call(&["healthcheck", "run", "alone"])?.code, 1, "exit code of a health check that fails");
    it.run(&["exec", "alone", "sh", "-c", "echo >/tmp/healthy"])?;
    it.run(&["healthcheck", "run", "alone"])?;
    let health = it.run(&["inspect", "--format", "{{.State.Health.Status}}", "alone"])?;
    check_eq!(health.trim(), "healthy", "health");

    let seen = |mib: &str| -> Outcome {
        let free = it.run(&["exec", "alone", "free", "-m"])?;
        let total = free.lines().nth(1).and_then(|line| line.split_whitespace().nth(1));
        check_eq!(total, Some(mib), "total of free -m: {free}");
        Ok(())
    };
    seen("96")?;
    check_eq!(it.run(&["exec", "alone", "nproc"])?, "1\n", "nproc");
    let stats = it.run(&["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "alone"])?;
    check!(stats.contains("/ 100.7MB") && stats.trim_end().ends_with('1'), "stats: {stats}");
    it.run(&["update", "--memory", "64m", "alone"])?;
    seen("64")?;
    let top = it.run(&["top", "alone", "pid", "comm"])?;
    let rows: Vec<Vec<&str>> = top.lines().map(|line| line.split_whitespace().collect()).collect();
    check_eq!(rows, [["PID", "COMMAND"], ["1", "sleep"]], "top");
    let (there, back) = (it.bundle.dir.join("there"), it.bundle.dir.join("back"));
    std::fs::write(&there, "copied\n")?;
    it.run(&["cp", &there.display().to_string(), "alone:/tmp/file"])?;
    check_eq!(it.run(&["exec", "alone", "cat", "/tmp/file"])?, "copied\n", "what came in");
    it.run(&["cp", "alone:/tmp/file", &back.display().to_string()])?;
    check_eq!(std::fs::read_to_string(&back)?, "copied\n", "what came out");
    it.run(&["rm", "--force", "--time", "0", "alone"]).map(drop)
}

fn pod(it: &Podman) -> Outcome {
    let parent = it.bundle.parent.as_str();
    let infra = ["--infra-image", IMAGE, "--infra-command", "sleep 600"];
    let mut words = vec!["pod", "create", "--name", "pod", "--network", "none", "--cgroup-parent", parent];
    words.extend(infra);
    // podman 4.3 forbids all devices in a pod's own group on v2, where runc and crun fail likewise
    words.push("--share-parent=false");
    it.run(&words)?;
    for (name, memory) in [("one", "96m"), ("two", "64m")] {
        let words =
            ["run", "--detach", "--pod", "pod", "--name", name, "--memory", memory, IMAGE, "sleep", "600"];
        it.run(&words)?;
    }
    // one exec for all: each is seconds of podman's in software emulation
    const LINKS: &str = "for kind in net ipc uts pid mnt; do busybox readlink /proc/self/ns/$kind; done";
    let spaces = |name: &str| -> Outcome<Vec<String>> {
        Ok(it.run(&["exec", name, "sh", "-c", LINKS])?.lines().map(str::to_owned).collect())
    };
    let (one, two) = (spaces("one")?, spaces("two")?);
    check!(one.len() == 5 && two.len() == 5, "namespaces: {one:?}, {two:?}");
    let shared: Vec<bool> = one.iter().zip(&two).map(|(one, two)| one == two).collect();
    check_eq!(shared, [true, true, true, false, false], "the same net, ipc, uts, pid, mnt namespace");
    it.run(&["exec", "one", "sh", "-c", "echo of-one >/dev/shm/file"])?;
    check_eq!(it.run(&["exec", "two", "cat", "/dev/shm/file"])?, "of-one\n", "shared memory of a pod");
    for (name, mib) in [("one", 96), ("two", 64)] {
        let text = it.run(&["exec", name, "cat", "/proc/meminfo"])?;
        check_eq!(Meminfo::parse(&text)?.get("MemTotal"), mib << 10, "MemTotal of {name}");
    }
    it.run(&["pod", "kill", "pod"])?;
    it.run(&["pod", "start", "pod"])?;
    check_eq!(it.run(&["exec", "two", "nproc"])?.lines().count(), 1, "nproc after a new start");
    it.run(&["pod", "rm", "--force", "--time", "0", "pod"]).map(drop)
}
