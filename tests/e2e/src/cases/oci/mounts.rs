//! Options of mounts: owners, copies, attributes of whole trees, and what of them reaches whom.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use super::{Oci, eventually};
use crate::case::{Doing, Outcome, check, check_eq};

/// A container with a tmpfs of the host's for a source, and another mounted on `below` in that. Both go with the bundle.
struct Disk {
    oci: Oci,
    dir: PathBuf,
}

impl Disk {
    fn new(name: &str, script: &str) -> Outcome<Self> {
        let oci = Oci::new(name, script)?;
        for applet in ["mount", "stat"] {
            symlink("busybox", oci.bundle.root().join("bin").join(applet))?;
        }
        let dir = oci.bundle.dir.join("disk");
        let disk = Self { oci, dir };
        for place in [disk.dir.clone(), disk.dir.join("below")] {
            std::fs::create_dir(&place)?;
            mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), Some("size=1m,mode=777"))
                .doing(place.display())?;
            std::fs::write(place.join("file"), "text\n")?;
            chown(place.join("file"), Some(5), Some(6))?;
        }
        Ok(disk)
    }

    /// Mounts it on /disk with these options, and fields beside them.
    fn with(&self, options: &[&str], fields: Value) -> Outcome {
        self.oci.change(|config| {
            let mut mount =
                json!({ "destination": "/disk", "type": "bind", "source": self.dir, "options": options });
            for (key, value) in fields.as_object().into_iter().flatten() {
                mount[key] = value.clone();
            }
            if let Some(all) = config["mounts"].as_array_mut() {
                all.retain(|one| one["destination"] != json!("/disk"));
                all.push(mount);
            }
        })
    }

    fn run(&self) -> Outcome<String> {
        let output = self.oci.output(&["run", &self.oci.id])?;
        check_eq!(output.code, 0, "exit code ({})", output.stderr);
        Ok(output.stdout)
    }
}

fn map(inside: u32, outside: u32) -> Value {
    json!([{ "containerID": inside, "hostID": outside, "size": 65_536 }])
}

pub fn owners() -> Outcome {
    let disk = Disk::new("idmap", "stat -c %u:%g /disk/file /disk/below/file")?;
    let (uids, gids) = (map(0, 1000), map(0, 2000));
    let maps = json!({ "uidMappings": uids, "gidMappings": gids });
    for (options, below) in
        [(["rbind", "idmap"], "5:6"), (["rbind", "ridmap"], "1005:2006"), (["rbind", ""], "1005:2006")]
    {
        disk.with(&options, maps.clone())?;
        check_eq!(disk.run()?, format!("1005:2006\n{below}\n"), "owners with {options:?}");
    }
    // as the container's users: those on disk are those inside
    disk.oci.change(|config| {
        config["process"]["args"][2] =
            json!("stat -c %u:%g /disk/file; echo x >/disk/new; stat -c %u /disk/new");
        config["linux"]["uidMappings"] = map(0, 100_000);
        config["linux"]["gidMappings"] = map(0, 100_000);
        if let Some(all) = config["linux"]["namespaces"].as_array_mut() {
            all.push(json!({ "type": "user" }));
        }
    })?;
    disk.with(&["bind"], json!({}))?;
    check!(disk.run()?.starts_with("65534:65534\n"), "owners without a map of the mount's");
    std::fs::remove_file(disk.dir.join("new"))?;
    disk.with(&["bind", "idmap"], json!({}))?;
    check_eq!(disk.run()?, "5:6\n0\n", "owners with the container's own map");
    use std::os::unix::fs::MetadataExt;
    check_eq!(
        std::fs::metadata(disk.dir.join("new"))?.uid(),
        0,
        "owner on disk of what the container's root made"
    );

    for (options, fields, word) in [
        (&["bind", "idmap"][..], json!({ "source": "/proc" }), "cannot map the owners"),
        (&["bind"][..], json!({ "uidMappings": uids }), "give both"),
        (&[][..], json!({ "type": "tmpfs", "uidMappings": uids, "gidMappings": gids }), "bind mount"),
    ] {
        disk.with(options, fields)?;
        let output = disk.oci.output(&["run", &disk.oci.id])?;
        check!(output.code != 0 && output.stderr.contains(word), "{options:?}: {output:?}");
    }
    Ok(())
}

pub fn copies() -> Outcome {
    let script = "cat /data/sub/file; stat -c %u:%a /data /data/sub /data/sub/file; ls -l /data/link; \
        echo new >/data/new && cat /data/new";
    let oci = Oci::new("copyup", script)?;
    symlink("busybox", oci.bundle.root().join("bin/stat"))?;
    let data = oci.bundle.root().join("data");
    std::fs::create_dir_all(data.join("sub"))?;
    std::fs::write(data.join("sub/file"), "of the image\n")?;
    symlink("/etc/shadow", data.join("link"))?;
    for (path, mode, owner) in [("", 0o711, 0), ("sub", 0o1750, 0), ("sub/file", 0o644, 7)] {
        chown(data.join(path), Some(owner), Some(8))?;
        std::fs::set_permissions(data.join(path), PermissionsExt::from_mode(mode))?;
    }
    let with = |options: &[&str]| {
        oci.change(|config| {
            config["root"]["readonly"] = json!(false);
            if let Some(all) = config["mounts"].as_array_mut() {
                all.retain(|one| one["destination"] != json!("/data"));
                all.push(
                    json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": options }),
                );
            }
        })
    };
    with(&["tmpcopyup", "size=1m"])?;
    let output = oci.output(&["run", &oci.id])?;
    check_eq!(output.code, 0, "exit code ({})", output.stderr);
    check!(
        output.stdout.starts_with("of the image\n0:711\n0:1750\n7:644\n")
            && output.stdout.ends_with("\nnew\n"),
        "the copy: {output:?}"
    );
    check!(output.stdout.contains("/data/link -> /etc/shadow"), "a link stays one: {output:?}");
    check!(!data.join("new").exists(), "what was written went into the root");
    with(&["tmpcopyup", "ro"])?;
    let output = oci.output(&["run", &oci.id])?;
    check!(output.stdout.starts_with("of the image\n") && output.code != 0, "read-only: {output:?}");
    check!(output.stderr.contains("Read-only"), "read-only: {output:?}");
    std::fs::write(data.join("large"), vec![0; 2 << 20])?;
    with(&["tmpcopyup", "size=1m"])?;
    let output = oci.output(&["run", &oci.id])?;
    check!(output.code != 0 && output.stderr.contains("tmpcopyup"), "more than fits: {output:?}");
    with(&["tmpcopyup", "bind"])?;
    check!(oci.output(&["run", &oci.id])?.stderr.contains("tmpcopyup"), "a bind mount");
    oci.nothing_is_left()
}

/// Attributes of a mount alone, and of all below it.
pub fn trees() -> Outcome {
    let script = "for at in /disk /disk/below; do (echo x >$at/new) 2>/dev/null && echo yes || echo no; \
        grep \" $at \" /proc/self/mountinfo; done";
    let disk = Disk::new("trees", script)?;
    for (options, writes) in [
        (&["rbind", "ro"][..], ["no", "yes"]),
        (&["rbind", "rro"][..], ["no", "no"]),
        (&["rbind", "ro", "rrw"][..], ["yes", "yes"]),
        (&["rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnoatime", "rnosymfollow"][..], ["no", "no"]),
    ] {
        disk.with(options, json!({}))?;
        let said = disk.run()?;
        let words: Vec<&str> = said.lines().filter(|line| matches!(*line, "yes" | "no")).collect();
        check_eq!(words, writes, "what can be written with {options:?}");
        for option in options.iter().filter_map(|option| option.strip_prefix("rno")) {
            let flag = format!("no{option}");
            let flagged = said.lines().filter(|line| line.contains(" - tmpfs ") && line.contains(&flag));
            check_eq!(flagged.count(), 2, "mounts with {flag} in {said}");
        }
    }
    Ok(())
}

/// What is mounted later, on either side.
pub fn propagation() -> Outcome {
    let script =
        "mount -t tmpfs own /disk/own && echo mine >/disk/own/mark && echo done >/ready/done; sleep 600";
    let disk = Disk::new("propagation", script)?;
    mount(None::<&str>, &disk.dir, None::<&str>, MsFlags::MS_SHARED, None::<&str>)?;
    for place in ["own", "late"] {
        std::fs::create_dir(disk.dir.join(place))?;
    }
    let ready = disk.oci.bundle.dir.join("ready");
    std::fs::create_dir(&ready)?;
    disk.oci.change(|config| {
        for set in ["bounding", "effective", "permitted"] {
            if let Some(all) = config["process"]["capabilities"][set].as_array_mut() {
                all.push(json!("CAP_SYS_ADMIN"));
            }
        }
        if let Some(all) = config["mounts"].as_array_mut() {
            all.push(
                json!({ "destination": "/ready", "type": "bind", "source": ready, "options": ["bind"] }),
            );
        }
    })?;
    let id = &disk.oci.id;
    for (root, option, in_container, on_host) in [
        ("", "rprivate", false, false),
        ("rslave", "rslave", true, false),
        ("", "rshared", true, false),
        ("rshared", "rshared", true, true),
    ] {
        disk.with(&["rbind", option], json!({}))?;
        disk.oci.change(|config| config["linux"]["rootfsPropagation"] = json!(root))?;
        disk.oci.leave(&["run", "--detach", id])?;
        eventually("it has mounted", || Ok(ready.join("done").exists()))?;
        let late = disk.dir.join("late");
        mount(Some("late"), &late, Some("tmpfs"), MsFlags::empty(), Some("size=64k"))?;
        std::fs::write(late.join("mark"), "late")?;
        let seen = disk.oci.output(&["exec", id, "cat", "/disk/late/mark"])?.stdout == "late";
        let shown = disk.dir.join("own/mark").exists();
        nix::mount::umount(&late)?;
        if shown {
            nix::mount::umount(&disk.dir.join("own"))?;
        }
        check_eq!(
            (seen, shown),
            (in_container, on_host),
            "seen inside, and on the host, with {root:?} and {option}"
        );
        disk.oci.run(&["delete", "--force", id])?;
        std::fs::remove_file(ready.join("done"))?;
    }
    Ok(())
}

/// --no-pivot: the same mounts as with pivot_root and none of the host's; `exec` enters the same root; and one that may change its
/// root cannot climb out of it.
pub fn without_pivot() -> Outcome {
    let oci = Oci::new("pivot", "cat /proc/self/mountinfo; ls /")?;
    let exe = std::env::current_exe()?;
    let dir = exe.parent().doing("directory of this program")?;
    oci.bundle.add_libraries(&exe)?;
    for applet in ["unshare", "mount"] {
        symlink("busybox", oci.bundle.root().join("bin").join(applet))?;
    }
    oci.change(|config| {
        let rights = json!(["CAP_SYS_CHROOT", "CAP_DAC_OVERRIDE", "CAP_SETFCAP"]);
        config["process"]["capabilities"] =
            json!({ "bounding": rights, "effective": rights, "permitted": rights });
        let own = json!({ "destination": "/e2e", "type": "bind", "source": dir, "options": ["bind", "ro"] });
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.push(own);
        }
    })?;
    let seen = |flags: &[&str]| -> Outcome<(Vec<String>, String)> {
        let text = oci.run(&[&["run"], flags, &[oci.id.as_str()]].concat())?;
        let (mounts, files): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.contains(" - "));
        let point = |line: &&str| line.split(' ').nth(4).unwrap_or_default().to_owned();
        let mut points: Vec<String> = mounts.iter().map(point).collect();
        points.sort();
        Ok((points, files.join("\n")))
    };
    let (pivoted, covered) = (seen(&[])?, seen(&["--no-pivot"])?);
    check!(pivoted.0.len() > 20 && pivoted.1.contains("e2e"), "mounts and files: {pivoted:?}");
    check_eq!(covered, pivoted, "mounts and files with --no-pivot");
    oci.change(|config| config["process"]["args"] = json!(["sleep", "600"]))?;
    for flags in [&["--detach"][..], &["--detach", "--no-pivot"]] {
        oci.leave(&[&["run"], flags, &[oci.id.as_str()]].concat())?;
        let here = oci.run(&["exec", &oci.id, "ls", "/"])?;
        check_eq!(here.trim(), pivoted.1, "what exec finds");
        let climbed = oci.run(&["exec", &oci.id, crate::programs::OWN_INSIDE, "tool", "climb"])?;
        check_eq!(climbed, here, "what lies at the end of all ..");
        // the kernel refuses another /proc where each in this namespace hides something
        let another = ["exec", &oci.id, "unshare", "-Urmpf", "mount", "-t", "proc", "proc", "/tmp"];
        let output = oci.output(&another)?;
        check!(output.stderr.contains("ermission denied"), "another /proc: {output:?}");
        oci.run(&["delete", "--force", &oci.id])?;
    }
    oci.nothing_is_left()
}
