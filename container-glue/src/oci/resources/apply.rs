//! Planned values into the groups' files.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use super::{Missing, ResourceError, Write};

/// Writes all values, in their order; stops at the first that cannot be. `group_of` gives the path of the container's
/// group by the controller's name on v2.
pub fn apply(writes: &[Write], group_of: &dyn Fn(&str) -> Option<PathBuf>) -> Result<(), ResourceError> {
    apply_with(writes, group_of, &mut write_file)
}

/// The same with another way to write a file.
pub(super) fn apply_with(
    writes: &[Write],
    group_of: &dyn Fn(&str) -> Option<PathBuf>,
    to_file: &mut dyn FnMut(&Path, &str) -> io::Result<()>,
) -> Result<(), ResourceError> {
    let mut refused: Vec<&Write> = Vec::new();
    for write in writes {
        let done = apply_one(write, group_of, to_file);
        match done {
            Err(ResourceError::Io { source, .. })
                if write.again && source.raw_os_error() == Some(libc::EINVAL) =>
            {
                refused.push(write);
            }
            other => other?,
        }
        if !write.again {
            for write in refused.drain(..) {
                apply_one(write, group_of, to_file)?;
            }
        }
    }
    // a plan that ends with a write to be tried again is none of ours; still, no refusal is lost
    refused.into_iter().try_for_each(|write| apply_one(write, group_of, to_file))
}

fn apply_one(
    write: &Write,
    group_of: &dyn Fn(&str) -> Option<PathBuf>,
    to_file: &mut dyn FnMut(&Path, &str) -> io::Result<()>,
) -> Result<(), ResourceError> {
    let Some(group) = group_of(&write.controller) else {
        return Err(ResourceError::NoController {
            field: write.field.clone(),
            controller: write.controller.clone(),
        });
    };
    if let Some(file) = write.not_below {
        check_use(write, group.join(file))?;
    }
    let path = group.join(&write.file);
    if write.may_be_invalid {
        return apply_valid(write, path, to_file);
    }
    match (to_file(&path, &write.value), &write.missing) {
        (Ok(()), _) => Ok(()),
        (Err(error), Missing::Ignore) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        (Err(error), Missing::Else(other)) if error.kind() == io::ErrorKind::NotFound => {
            apply_one(other, group_of, to_file)
        }
        (Err(source), _) => Err(ResourceError::Io {
            field: write.field.clone(),
            action: format!("write {} to", write.value),
            path,
            source,
        }),
    }
}

/// Writes, and takes it back where the kernel says that it does not hold.
fn apply_valid(
    write: &Write,
    path: PathBuf,
    to_file: &mut dyn FnMut(&Path, &str) -> io::Result<()>,
) -> Result<(), ResourceError> {
    let field = || write.field.clone();
    let io = |action: String, path: &Path, source| ResourceError::Io {
        field: field(),
        action,
        path: path.to_owned(),
        source,
    };
    let read = || std::fs::read_to_string(&path).map_err(|source| io("read".to_owned(), &path, source));
    let before = read()?;
    to_file(&path, &write.value).map_err(|source| io(format!("write {} to", write.value), &path, source))?;
    let now = read()?;
    let Some((_, reason)) = now.split_once(" invalid") else { return Ok(()) };
    // one that was invalid already stays what it was asked to be then
    let _ = to_file(&path, before.split_ascii_whitespace().next().unwrap_or("member"));
    let reason = reason.trim().trim_start_matches('(').trim_end_matches(')');
    let reason = if reason.is_empty() { "the kernel gives no reason" } else { reason };
    Err(ResourceError::Invalid {
        field: field(),
        value: write.value.clone(),
        reason: reason.to_owned(),
        path,
    })
}

/// The kernel would reclaim and then kill to get below the use: with this it is not asked to.
fn check_use(write: &Write, path: PathBuf) -> Result<(), ResourceError> {
    let io = |path: PathBuf, source| ResourceError::Io {
        field: write.field.clone(),
        action: "read".to_owned(),
        path,
        source,
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(io(path, source)),
    };
    let used: u64 = match text.trim().parse() {
        Ok(used) => used,
        Err(error) => return Err(io(path, io::Error::new(io::ErrorKind::InvalidData, error))),
    };
    match write.value.parse::<u64>() {
        Ok(value) if value < used => Err(ResourceError::BelowUse {
            field: write.field.clone(),
            value: write.value.clone(),
            used,
            path,
        }),
        _ => Ok(()),
    }
}

/// One write(2), as cgroup files want it. Never makes the file.
fn write_file(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write as _;
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}
