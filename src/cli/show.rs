//! `ownproc show FILE TARGET`: the bytes that it reads.

use serde::Serialize;

use super::args::ShowArgs;
use super::failure::Failure;
use super::host::Look;
use super::output;
use super::target::Target;
use crate::control::RefusalKind;
use crate::model::choices::nearest;
use crate::render::PROC_FILES;

const SYS_CPU: &str = "sys/devices/system/cpu/";
const SYS_NODE: &str = "sys/devices/system/node/";

#[derive(Serialize)]
struct Document<'a> {
    target: &'a str,
    file: &'a str,
    text: &'a str,
}

pub(super) fn run(args: &ShowArgs) -> Result<(), Failure> {
    let file = path_below_mount(&args.file)?;
    let look = Look::take(args.mount.paths())?;
    let target = look.find(&args.target)?;
    let bytes = match &look.client {
        Some(client) => client.show(target.ask(), file.clone()).map_err(|error| match error.refusal() {
            Some(RefusalKind::NotFound) => Failure::NoTarget(format!("{}: {error}", args.target)),
            _ => Failure::error(error),
        })?,
        None => {
            let mount = args.mount.paths().mount;
            output::complain(&format!("no daemon serves {}: computed here", mount.display()));
            compute(&look, &target, &file, &args.target)?
        }
    };
    if args.json {
        let text = String::from_utf8_lossy(&bytes);
        return output::json(&Document { target: &args.target, file: &file, text: &text });
    }
    output::bytes(&bytes)
}

/// `meminfo`, `proc/meminfo` and `/proc/meminfo` are the same.
fn path_below_mount(file: &str) -> Result<String, Failure> {
    let path = file.trim_start_matches('/');
    let in_proc = format!("proc/{path}");
    let path = if PROC_FILES.iter().any(|(name, _)| *name == in_proc) { in_proc } else { path.to_owned() };
    let known = PROC_FILES.iter().any(|(name, _)| *name == path)
        || path.strip_prefix(SYS_CPU).or_else(|| path.strip_prefix(SYS_NODE)).is_some_and(|rest| {
            !rest.is_empty() && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
        });
    if known {
        return Ok(path);
    }
    let names = PROC_FILES.iter().map(|(name, _)| name.strip_prefix("proc/").unwrap_or(name));
    let hint = nearest(file.trim_start_matches("./"), names).map_or_else(
        || {
            "the file comes first, then whose: `ls` in the mount point's proc/ and sys/ lists all files"
                .to_owned()
        },
        |name| format!("did you mean {name}?"),
    );
    Err(Failure::Error(format!("{file:?} is no virtual file: {hint}")))
}

/// What the daemon would render.
fn compute(look: &Look, target: &Target, file: &str, text: &str) -> Result<Vec<u8>, Failure> {
    let view = look.view(target).ok_or_else(|| {
        Failure::NoTarget(format!("{text} cannot be looked at: it has ended, or its namespaces may not be read (CAP_SYS_PTRACE); `ownproc ls` lists containers"))
    })?;
    look.tree().show(&view, file).map_err(|refusal| {
        let why = format!("{file} for {text}: {}", refusal.0.desc());
        match refusal.0 {
            nix::errno::Errno::ENOENT => Failure::NoTarget(why),
            _ => Failure::Error(why),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_short_names() {
        for (typed, path) in [
            ("meminfo", "proc/meminfo"),
            ("proc/stat", "proc/stat"),
            ("pressure/cpu", "proc/pressure/cpu"),
            ("sys/fs/file-nr", "proc/sys/fs/file-nr"),
            ("/proc/uptime", "proc/uptime"),
            ("sys/devices/system/cpu/online", "sys/devices/system/cpu/online"),
            ("/sys/devices/system/cpu/cpu0/topology/core_id", "sys/devices/system/cpu/cpu0/topology/core_id"),
        ] {
            assert_eq!(path_below_mount(typed).unwrap(), path);
        }
        for typed in [
            "",
            "/",
            "nothing",
            "proc/",
            "proc/../stat",
            "sys",
            "sys/devices/system/cpu/../x",
            "a/b",
            "sys/devices/system/cpu/",
        ] {
            assert_eq!(path_below_mount(typed).unwrap_err().code(), 2, "{typed}");
        }
    }
}
