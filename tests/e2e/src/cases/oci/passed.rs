//! Descriptors of the caller: those that are asked for are passed on, and no other.

use std::process::Command;

use super::Oci;
use crate::case::{Outcome, check, check_eq};
use crate::output::{Output, run};

/// `ownproc-run WORDS` by a shell that does `before` first, and has the file `mark` to open.
fn by_shell(oci: &Oci, before: &str, words: &str) -> Outcome<Output> {
    let dir = &oci.bundle.dir;
    std::fs::write(dir.join("mark"), "mark\n")?;
    let runtime = oci.runtime.display();
    let script = format!("{before}; exec {runtime} --root {} {words}", dir.join("states").display());
    run(Command::new("sh").args(["-c", &script]).current_dir(dir))
}

/// By number, and by systemd's variables.
pub fn descriptors() -> Outcome {
    let oci = Oci::new("passed", "echo $LISTEN_FDS,$LISTEN_PID,$LISTEN_FDNAMES; cat <&3; ls /proc/self/fd")?;
    let id = oci.id.clone();
    let passed = by_shell(&oci, "exec 3<mark 4<mark", &format!("run --preserve-fds 1 {id}"))?;
    check_eq!(passed.stdout, ",,\nmark\n0\n1\n2\n3\n4\n", "one that is asked for ({})", passed.stderr);
    let passed = by_shell(
        &oci,
        "exec 3<mark; export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=x",
        &format!("run {id}"),
    )?;
    check_eq!(passed.stdout, "1,1,x\nmark\n0\n1\n2\n3\n4\n", "a socket of systemd's ({})", passed.stderr);
    // those of another process: the shell's own descriptor is the third then, if anything is
    let other = by_shell(&oci, "exec 3<mark; export LISTEN_FDS=1 LISTEN_PID=1", &format!("run {id}"))?;
    check!(other.stdout.starts_with(",,\n") && !other.stdout.contains("mark"), "of another: {other:?}");
    let refused = |before: &str, words: &str, number: &str| -> Outcome {
        let output = by_shell(&oci, before, words)?;
        let said = format!("descriptor {number} is not open");
        check!(output.code != 0 && output.stderr.contains(&said), "{before}; {words}: {output:?}");
        Ok(())
    };
    refused("true", &format!("run --preserve-fds 8 {id}"), "3")?;
    refused("exec 3<mark 5<mark", &format!("run --preserve-fds 3 {id}"), "4")?;
    refused("exec 3<mark; export LISTEN_FDS=4294967295 LISTEN_PID=$$", &format!("run {id}"), "4")?;
    oci.nothing_is_left()?;

    oci.change(|config| config["process"]["args"] = serde_json::json!(["sleep", "600"]))?;
    oci.leave(&["run", "--detach", &id])?;
    refused("true", &format!("exec --preserve-fds 8 {id} true"), "3")?;
    let passed = by_shell(
        &oci,
        "exec 3<mark 4<mark",
        &format!("exec --preserve-fds 1 {id} sh -c 'cat <&3; ls /proc/self/fd'"),
    )?;
    check_eq!(passed.stdout, "mark\n0\n1\n2\n3\n4\n", "to a process of exec ({})", passed.stderr);
    // a descriptor of the runtime's own as the way to the interpreter
    let script = oci.bundle.root().join("bin/way");
    for number in 3..20 {
        std::fs::write(&script, format!("#!/proc/self/fd/{number}/../../../bin/sh\necho out\n"))?;
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let output = oci.output(&["exec", &id, "/bin/way"])?;
        check!(output.code != 0 && !output.stdout.contains("out"), "by descriptor {number}: {output:?}");
    }
    oci.run(&["delete", "--force", &id])?;
    oci.nothing_is_left()
}
