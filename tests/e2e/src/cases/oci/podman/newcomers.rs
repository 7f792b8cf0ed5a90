//! Containers of podman that lie in wait for what comes in by `podman exec` and `--pid container:`.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::Podman;
use crate::case::{Doing, Outcome, check, check_eq};
use crate::output::run_within;

/// Nothing with more rights than the container can be seen in it; one that stops all newcomers can
/// be removed.
pub fn newcomers() -> Outcome {
    let it = Podman::new("oci-podman-new")?;
    let mark = format!("tmp/mark-{}", std::process::id());
    std::fs::write(format!("/{mark}"), "")?;
    let outcome = reach(&it, &mark).and_then(|()| stop(&it));
    let _ = std::fs::remove_file(format!("/{mark}"));
    outcome
}

/// The words of `podman run` for the tool in a container of that name.
fn tool(it: &Podman, name: &str, flags: &[&str], words: &[&str]) -> Outcome<Vec<String>> {
    let own = std::env::current_exe()?;
    it.bundle.add_libraries(&own)?;
    let tmp = it.bundle.root().join("tmp");
    std::fs::set_permissions(tmp, std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
    let directory = own.parent().doing("the directory of the program")?.display().to_string();
    let volume = format!("{directory}:/e2e:ro");
    let common = ["--network", "none", "--cgroup-parent", &it.bundle.parent];
    let root = it.bundle.root().display().to_string();
    let all = ["run", "--detach", "--name", name, "-v", &volume].into_iter().chain(common);
    let all =
        all.chain(flags.iter().copied()).chain(["--rootfs", &root, "/e2e/ownproc-e2e", "tool", "newcomers"]);
    Ok(all.chain(words.iter().copied()).map(str::to_owned).collect())
}

fn removed(it: &Podman, name: &str, outcome: Outcome) -> Outcome {
    let removed =
        run_within(&mut it.command(&["rm", "--force", "--time", "0", name]), Duration::from_secs(60))?;
    outcome?;
    removed.ok().doing("podman rm").map(drop)
}

fn reach(it: &Podman, mark: &str) -> Outcome {
    let name = format!("e2e-reach-{}", std::process::id());
    let words = tool(it, &name, &["--cap-add", "SYS_PTRACE"], &["reach", mark, "100"])?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    it.run(&words)?;
    let work = || -> Outcome {
        let logs = || Ok::<_, crate::case::Failure>(it.call(&["logs", &name])?.stderr);
        for _ in 0..3 {
            let output = it.call(&["exec", &name, "true"])?;
            check!(output.code == 0, "podman exec: {output:?}; {}", logs()?);
        }
        let root = it.bundle.root().display().to_string();
        let pids = format!("container:{name}");
        let parent = &it.bundle.parent;
        let guest = ["run", "--rm", "--network", "none", "--cgroup-parent", parent, "--pid", &pids];
        let guest: Vec<&str> =
            guest.into_iter().chain(["--rootfs", &root, "ls", "-d", "/proc/1", "/proc/self"]).collect();
        let output = it.call(&guest)?;
        check!(output.code == 0, "a guest: {output:?}; {}", logs()?);
        check_eq!(output.stdout, "/proc/1\n/proc/self\n", "what a guest sees");
        let state = it.run(&["inspect", "--format", "{{.State.Status}}", &name])?;
        check!(state.trim() == "running", "it is {state}: {}", logs()?);
        Ok(())
    };
    removed(it, &name, work())
}

fn stop(it: &Podman) -> Outcome {
    let name = format!("e2e-stop-{}", std::process::id());
    std::fs::remove_file(it.bundle.root().join("tmp/waiting"))?; // root's, of the container before
    let words = tool(it, &name, &["--user", "1000", "--cap-drop", "all"], &["stop", "100"])?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    it.run(&words)?;
    let work = || -> Outcome {
        let mut waiting: Command = it.command(&["exec", &name, "sleep", "100"]);
        let mut waiting = waiting.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_secs(1));
        for words in [&["pause", &name] as &[&str], &["unpause", &name], &["kill", "--signal", "USR1", &name]]
        {
            let output = run_within(&mut it.command(words), Duration::from_secs(60))?;
            check!(output.code == 0, "podman {words:?}: {output:?}");
        }
        waiting.kill()?;
        waiting.wait()?;
        Ok(())
    };
    removed(it, &name, work())
}
