use super::*;

#[test]
fn scopes() {
    let path = |text: &str| {
        scope(text).map(|(path, _)| path.display().to_string()).map_err(|error| error.to_string())
    };
    assert_eq!(path("machine.slice:libpod:abc").unwrap(), "machine.slice/libpod-abc.scope");
    assert_eq!(path("a-b-c.slice::x").unwrap(), "a.slice/a-b.slice/a-b-c.slice/x.scope");
    assert_eq!(path(":docker:x").unwrap(), "system.slice/docker-x.scope");
    assert_eq!(path("-.slice:p:x").unwrap(), "p-x.scope");
    for bad in [
        "",
        "a.slice",
        "a.slice:b",
        "a:b:c",
        "a.slice:b:",
        "a.slice:b/c:d",
        "a--b.slice:c:d",
        "a.slice:b:c:d",
    ] {
        assert!(path(bad).is_err(), "{bad}");
    }
    let (path, scope) = cgroup(None, "web", true).unwrap();
    assert_eq!(path, Path::new("system.slice/ownproc-web.scope"));
    assert_eq!(
        scope.map(|scope| (scope.unit, scope.slice)).unwrap(),
        ("ownproc-web.scope".into(), "system.slice".into())
    );
    assert_eq!(cgroup(None, "web", false).unwrap(), (Path::new("ownproc/web").to_owned(), None));
}

#[test]
fn paths_stay_inside() {
    let of = |path: &str| inside("x", Path::new(path)).map(|path| path.display().to_string());
    assert_eq!(of("/proc/sys").unwrap(), "proc/sys");
    assert_eq!(of("a/./b//c").unwrap(), "a/b/c");
    assert_eq!(of("/").unwrap(), "");
    for bad in ["/a/../b", "..", "/.."] {
        assert!(of(bad).is_err(), "{bad}");
    }
}

#[test]
fn versions() {
    for good in ["1.0.0", "1.2.0", "1.0.2-dev", "1.1.0+x"] {
        assert!(version(good).is_ok(), "{good}");
    }
    for bad in ["", "1", "1.0", "2.0.0", "0.9.0", "1.x.0"] {
        assert!(version(bad).is_err(), "{bad}");
    }
}

/// The template of `spec`, with a change.
fn changed(change: impl FnOnce(&mut serde_json::Value)) -> Result<Config, String> {
    let mut value = serde_json::to_value(Spec::default()).unwrap();
    change(&mut value);
    let spec: Spec = serde_json::from_value(value).map_err(|error| error.to_string())?;
    Config::new(&spec, Path::new("/bundle"), "id", false).map_err(|error| error.to_string())
}

#[test]
fn the_template_is_a_configuration() {
    let config = changed(|_| {}).unwrap();
    assert_eq!(config.root, Path::new("/bundle/rootfs"));
    assert_eq!(config.cgroup, Path::new("ownproc/id"));
    assert!(config.namespaces.has_own(libc::CLONE_NEWPID) && !config.namespaces.new_user());
    assert!(config.mounts.iter().any(|mount| mount.destination == Path::new("proc")));
    assert_eq!(config.process.umask, 0o022);
}

#[test]
fn what_is_not_supported_is_named() {
    use serde_json::json;
    let said = |change: &dyn Fn(&mut serde_json::Value)| changed(change).map(|_| ()).unwrap_err();
    assert!(said(&|c| c["windows"] = json!({})).contains("windows"));
    assert!(said(&|c| c["linux"]["intelRdt"] = json!({})).contains("linux.intelRdt"));
    assert!(said(&|c| c["mounts"][0]["options"] = json!(["idmap"])).contains("mounts[0]"));
    assert!(said(&|c| c["mounts"][0]["options"] = json!(["tmpcopyup"])).contains("tmpcopyup"));
    assert!(
        said(&|c| c["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 1}})).contains("time namespace")
    );
    assert!(
        said(&|c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]))
            .contains("RLIMIT_CORE")
    );
}

#[test]
fn maps_do_not_overlap() {
    use serde_json::json;
    let with = |lines: serde_json::Value| {
        changed(|c| {
            c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            c["linux"]["uidMappings"] = lines.clone();
            c["linux"]["gidMappings"] = lines;
        })
    };
    let line = |inside: u32, outside: u32, size: u32| json!({"containerID": inside, "hostID": outside, "size": size});
    let config = with(json!([line(0, 100_000, 10), line(10, 1000, 1)])).unwrap();
    assert_eq!(config.namespaces.maps.unwrap().0, "0 100000 10\n10 1000 1\n");
    for bad in [
        json!([]),
        json!([line(0, 1000, 0)]),
        json!([line(0, 1000, 10), line(9, 5000, 1)]),
        json!([line(0, 1000, 10), line(50, 1005, 1)]),
        json!([line(1, u32::MAX, 10)]),
    ] {
        assert!(with(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn options_of_mounts() {
    use rustix::mount::{MountAttrFlags as Attr, MountPropagationFlags as Propagation};
    use serde_json::json;
    let with = |options: &[&str]| {
        changed(|c| {
            c["mounts"] = json!([{"destination": "/x", "type": "bind", "source": "src", "options": options}]);
        })
        .map(|config| config.mounts[0].clone())
    };
    let mount = with(&["rbind", "ro", "nosuid", "exec", "rslave", "rro", "noatime"]).unwrap();
    assert_eq!(mount.kind, mounts::Kind::Bind { source: "/bundle/src".into(), recursive: true });
    let wanted = Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOATIME;
    assert_eq!(mount.attributes.set, wanted);
    assert!(mount.attributes.clear.contains(Attr::MOUNT_ATTR_NOEXEC | Attr::MOUNT_ATTR__ATIME));
    assert_eq!(mount.recursive.set, Attr::MOUNT_ATTR_RDONLY);
    assert_eq!(mount.propagation, [Propagation::DOWNSTREAM | Propagation::REC]);
    // the last of two opposites counts
    assert!(with(&["ro", "rw"]).unwrap().attributes.set.is_empty());
    assert!(with(&["bind", "size=5"]).is_err());
}

#[test]
fn settings_of_the_host_are_refused() {
    use serde_json::json;
    let with = |key: &str| changed(|c| c["linux"]["sysctl"] = json!({key: "1"}));
    let file = |key: &str| with(key).unwrap().sysctl[0].0.clone();
    assert_eq!(file("net.ipv4.ip_forward"), Path::new("net/ipv4/ip_forward"));
    assert_eq!(file("net/ipv4/conf/eth0.1/rp_filter"), Path::new("net/ipv4/conf/eth0.1/rp_filter"));
    assert_eq!(file("kernel.shmmax"), Path::new("kernel/shmmax"));
    for bad in ["vm.swappiness", "kernel.panic", "net/../kernel/panic", "fs.file-max", ""] {
        assert!(with(bad).is_err(), "{bad}");
    }
}
