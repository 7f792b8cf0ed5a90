//! What `exec` is asked to start: `process.json`, or the container's process with changes.

use oci_spec::runtime::{Capability, Process as OciProcess};

use super::super::args::ExecArgs;
use super::super::store::Record;
use super::super::{OciError, bundle};

/// The process that is asked for: a whole one from a file, or the container's with changes.
pub fn process(record: &Record, args: &ExecArgs) -> Result<OciProcess, OciError> {
    if let Some(path) = &args.process {
        return bundle::read(path);
    }
    let mut process = record.spec.process().clone().unwrap_or_default();
    if args.command.is_empty() {
        return Err(OciError::Setup("no command: give one behind the name, or --process FILE".to_owned()));
    }
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(args.env.iter().cloned());
    process.set_env(Some(env));
    if let Some(user) = &args.user {
        let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
        let number = |text: &str| {
            text.parse::<u32>().map_err(|_| OciError::Setup(format!("--user {user}: give UID or UID:GID")))
        };
        process.user_mut().set_uid(number(uid)?);
        if !gid.is_empty() {
            process.user_mut().set_gid(number(gid)?);
        }
    }
    if !args.additional_gids.is_empty() {
        process.user_mut().set_additional_gids(Some(args.additional_gids.clone()));
    }
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    for name in &args.cap {
        let upper = name.to_ascii_uppercase();
        let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        let capability: Capability = serde_json::from_value(serde_json::Value::String(name.clone()))
            .map_err(|_| OciError::Setup(format!("--cap {name}: no capability; see capabilities(7)")))?;
        let mut sets = process.capabilities().clone().unwrap_or_default();
        for set in
            [sets.bounding().clone(), sets.effective().clone(), sets.permitted().clone()].iter().enumerate()
        {
            let mut with = set.1.clone().unwrap_or_default();
            with.insert(capability);
            match set.0 {
                0 => sets.set_bounding(Some(with)),
                1 => sets.set_effective(Some(with)),
                _ => sets.set_permitted(Some(with)),
            };
        }
        process.set_capabilities(Some(sets));
    }
    Ok(process)
}
