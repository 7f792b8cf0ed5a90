//! What of the host a launch looks up: users of the container's root, devices.

use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::OFlags;
use serde_json::{Value, json};

use super::LaunchError;
use super::config::{Device, User};
use super::users;
use crate::rootfs::{mounts, resolve};
use crate::spec::{DeviceFlag, IoMax, Spec};

/// The most that is read of /etc/passwd or /etc/group, in bytes.
const LARGEST: u64 = 4 << 20;

/// The user that `--user` means. Names are those of the container's own files.
pub fn user(spec: &Spec) -> Result<User, LaunchError> {
    let Some(wanted) = &spec.user else { return Ok(User::default()) };
    let root = spec.rootfs.as_deref().unwrap_or(Path::new("/"));
    let read = |name: &str| -> Result<String, LaunchError> {
        let fail = |source: io::Error| LaunchError::User {
            user: wanted.clone(),
            reason: format!("cannot read /etc/{name} of the container: {source}"),
        };
        let tree = mounts::open_host(root).map_err(fail)?;
        // a fifo there must not hold the launcher up
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match resolve::open_in(&tree, &Path::new("etc").join(name), flags) {
            Err(rustix::io::Errno::NOENT) => return Ok(String::new()),
            other => std::fs::File::from(other.map_err(|error| fail(error.into()))?),
        };
        if !file.metadata().map_err(fail)?.is_file() {
            return Err(fail(io::Error::other("no regular file")));
        }
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).map_err(fail)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    users::find(wanted, &read("passwd")?, &read("group")?)
        .map_err(|reason| LaunchError::User { user: wanted.clone(), reason })
}

/// The nodes that `--device` names.
pub fn devices(flags: &[DeviceFlag]) -> Result<Vec<Device>, LaunchError> {
    flags
        .iter()
        .map(|flag| {
            let fail = |reason: String| LaunchError::Device { path: flag.source.clone(), reason };
            let meta = std::fs::metadata(&flag.source).map_err(|error| fail(error.to_string()))?;
            let kind = if meta.file_type().is_block_device() {
                'b'
            } else if meta.file_type().is_char_device() {
                'c'
            } else {
                return Err(fail("is no device".to_owned()));
            };
            Ok(Device {
                path: flag.target.clone(),
                kind,
                major: rustix::fs::major(meta.rdev()),
                minor: rustix::fs::minor(meta.rdev()),
                access: flag.access.clone(),
                mode: meta.mode() & 0o777,
                owner: (meta.uid(), meta.gid()),
            })
        })
        .collect()
}

/// `--io-max` as `linux.resources.blockIO`.
pub fn block_io(flags: &[IoMax]) -> Result<Value, LaunchError> {
    let mut found = json!({});
    for flag in flags {
        let (major, minor) = block_device(&flag.device)?;
        for (key, value) in &flag.limits {
            let field = match *key {
                "rbps" => "throttleReadBpsDevice",
                "wbps" => "throttleWriteBpsDevice",
                "riops" => "throttleReadIOPSDevice",
                _ => "throttleWriteIOPSDevice",
            };
            let rule = json!({ "major": major, "minor": minor, "rate": value });
            match found[field].as_array_mut() {
                Some(rules) => rules.push(rule),
                None => found[field] = json!([rule]),
            }
        }
    }
    Ok(found)
}

/// `/dev/sda` or `8:0`.
fn block_device(text: &str) -> Result<(u32, u32), LaunchError> {
    let fail = |reason: String| LaunchError::Device { path: text.into(), reason };
    if let Some((major, minor)) =
        text.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))
    {
        return Ok((major, minor));
    }
    let meta = std::fs::metadata(text).map_err(|error| fail(error.to_string()))?;
    if !meta.file_type().is_block_device() {
        return Err(fail("is no block device".to_owned()));
    }
    Ok((rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())))
}
