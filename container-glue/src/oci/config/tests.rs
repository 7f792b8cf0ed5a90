use super::*;

#[test]
fn scopes() {
    let path = |text: &str| {
        cgroup::scope(text).map(|(path, _)| path.display().to_string()).map_err(|error| error.to_string())
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
    let (path, scope) = cgroup::path(None, "web", true).unwrap();
    assert_eq!(path, Path::new("system.slice/ownproc-web.scope"));
    assert_eq!(
        scope.map(|scope| (scope.unit, scope.slice)).unwrap(),
        ("ownproc-web.scope".into(), "system.slice".into())
    );
    assert_eq!(cgroup::path(None, "web", false).unwrap(), (Path::new("ownproc/web").to_owned(), None));
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
    assert!(config.namespaces.has_own(libc::CLONE_NEWPID) && !config.namespaces.has_own(libc::CLONE_NEWUSER));
    assert!(config.mounts.iter().any(|mount| mount.destination == Path::new("proc")));
    assert_eq!(config.process.umask, 0o022);
}

#[test]
fn what_is_not_supported_is_named() {
    use serde_json::json;
    let said = |change: &dyn Fn(&mut serde_json::Value)| changed(change).map(|_| ()).unwrap_err();
    assert!(said(&|c| c["windows"] = json!({})).contains("windows"));
    assert!(said(&|c| c["linux"]["intelRdt"] = json!({})).contains("linux.intelRdt"));
    assert!(said(&|c| c["mounts"][0]["options"] = json!(["remount"])).contains("mounts[0]"));
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
    assert_eq!(config.namespaces.maps.unwrap().uids, "0 100000 10\n10 1000 1\n");
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
    for bad in [["bind", "size=5"], ["size=5", "bind"]] {
        assert!(with(&bad).unwrap_err().contains("size=5"));
    }
}

#[test]
fn settings_of_the_host_are_refused() {
    use serde_json::json;
    let with = |key: &str| changed(|c| c["linux"]["sysctl"] = json!({key: "1"}));
    let file = |key: &str| with(key).unwrap().sysctl[0].0.clone();
    assert_eq!(file("net.ipv4.ip_forward"), Path::new("net/ipv4/ip_forward"));
    assert_eq!(file("net/ipv4/conf/eth0.1/rp_filter"), Path::new("net/ipv4/conf/eth0.1/rp_filter"));
    assert_eq!(file("kernel.shmmax"), Path::new("kernel/shmmax"));
    let bad = [
        "vm.swappiness",
        "kernel.panic",
        "net/../kernel/panic",
        "fs.file-max",
        "fs.mqueue",
        "",
        "net.",
        "net",
        "net.x\0",
        "/net/x",
    ];
    for bad in bad {
        assert!(with(bad).is_err(), "{bad}");
    }
    let value = changed(|c| c["linux"]["sysctl"] = json!({"kernel.shmmax": "1\u{0}2"}));
    assert!(value.unwrap_err().contains("NUL"));
}

#[test]
fn joining() {
    use serde_json::json;
    let with = |namespaces: serde_json::Value, change: &dyn Fn(&mut serde_json::Value)| {
        changed(|c| {
            c["linux"]["namespaces"] = namespaces;
            c.as_object_mut().unwrap().remove("hostname");
            change(c);
        })
    };
    let user = json!({"type": "user", "path": "/proc/7/ns/user"});
    let mount = json!({"type": "mount", "path": "/proc/7/ns/mnt"});
    let config = with(json!([{"type": "mount"}, user]), &|_| {}).unwrap();
    assert!(config.namespaces.has_own(libc::CLONE_NEWUSER) && config.namespaces.maps.is_none());
    // podman's dummy map
    let line = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    let mapped = |c: &mut serde_json::Value| {
        c["linux"]["uidMappings"] = line.clone();
        c["linux"]["gidMappings"] = line.clone();
    };
    assert!(with(json!([{"type": "mount"}, user]), &mapped).unwrap().namespaces.maps.is_none());
    let bare = |c: &mut serde_json::Value| {
        c["root"] = json!({"path": "/"});
        for field in ["maskedPaths", "readonlyPaths"] {
            c["linux"].as_object_mut().unwrap().remove(field);
        }
        c.as_object_mut().unwrap().remove("mounts");
    };
    let config = with(json!([mount, user]), &bare).unwrap();
    assert_eq!(config.namespaces.joined(), libc::CLONE_NEWNS | libc::CLONE_NEWUSER);
    let said = |namespaces: serde_json::Value, change: &dyn Fn(&mut serde_json::Value)| {
        with(namespaces, change).map(|_| ()).unwrap_err().to_string()
    };
    assert!(said(json!([mount]), &|_| {}).contains("root.path"));
    for (field, value) in [
        ("mounts", json!([{"destination": "/x", "type": "tmpfs"}])),
        ("root", json!({"path": "/", "readonly": true})),
    ] {
        let reason = said(json!([mount]), &|c| {
            bare(c);
            c[field] = value.clone();
        });
        assert!(reason.contains(field) && reason.contains("joined"), "{reason}");
    }
    let both = json!([mount, {"type": "user"}]);
    let reason = said(both, &|c| {
        bare(c);
        mapped(c);
    });
    assert!(reason.contains("join its user namespace"), "{reason}");
    assert!(said(json!([{"type": "mount", "path": "relative"}]), &bare).contains("not absolute"));
    assert!(said(json!([mount, {"type": "mount"}]), &bare).contains("twice"));
}

#[test]
fn mounts_with_owners_of_their_own() {
    use serde_json::json;
    let with = |mount: serde_json::Value, user: bool| {
        changed(|c| {
            c["mounts"] = json!([mount]);
            if user {
                c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
                let all = json!([{"containerID": 0, "hostID": 7, "size": 9}]);
                c["linux"]["uidMappings"] = all.clone();
                c["linux"]["gidMappings"] = all;
            }
        })
        .map(|config| config.mounts[0].idmap.clone())
    };
    let line = |inside: u32| json!([{"containerID": inside, "hostID": 1000, "size": 2}]);
    let bind = |options: &[&str], uids: serde_json::Value, gids: serde_json::Value| {
        let mut mount = json!({"destination": "/x", "type": "bind", "source": "/y", "options": options});
        if !uids.is_null() {
            mount["uidMappings"] = uids;
        }
        if !gids.is_null() {
            mount["gidMappings"] = gids;
        }
        mount
    };
    let none = serde_json::Value::Null;
    assert_eq!(with(bind(&["rbind"], none.clone(), none.clone()), true).unwrap(), None);
    let own = with(bind(&["rbind", "ridmap"], line(0), line(5)), false).unwrap().unwrap();
    assert_eq!(own.maps.as_ref().unwrap().gids, "5 1000 2\n");
    assert!(own.recursive);
    // as recursive as the bind where no word says so
    assert!(with(bind(&["rbind"], line(0), line(0)), false).unwrap().unwrap().recursive);
    assert!(!with(bind(&["rbind", "idmap"], line(0), line(0)), false).unwrap().unwrap().recursive);
    // the container's own maps
    assert_eq!(with(bind(&["bind", "idmap"], none.clone(), none.clone()), true).unwrap().unwrap().maps, None);
    let said = |mount, user| with(mount, user).map(|_| ()).unwrap_err();
    assert!(said(bind(&["idmap"], none.clone(), none.clone()), false).contains("user namespace"));
    assert!(said(bind(&[], line(0), none.clone()), false).contains("both"));
    assert!(said(bind(&[], line(0), json!([])), false).contains("both"));
    let tmpfs = json!({"destination": "/x", "type": "tmpfs", "uidMappings": line(0), "gidMappings": line(0)});
    assert!(said(tmpfs, false).contains("bind"));
    let twice =
        json!([{"containerID": 0, "hostID": 5, "size": 2}, {"containerID": 1, "hostID": 9, "size": 2}]);
    assert!(said(bind(&[], twice, line(0)), false).contains("mounts[0].uidMappings"));
}

#[test]
fn copying_up() {
    use serde_json::json;
    let with = |mount: serde_json::Value| {
        changed(|c| c["mounts"] = json!([mount])).map(|config| config.mounts[0].clone())
    };
    let mount =
        with(json!({"destination": "/x", "type": "tmpfs", "options": ["ro", "tmpcopyup", "size=1m"]}))
            .unwrap();
    assert!(mount.copy_up && mount.data == ["size=1m"]);
    let bind = json!({"destination": "/x", "type": "bind", "source": "/y", "options": ["tmpcopyup"]});
    assert!(with(bind).unwrap_err().contains("tmpfs"));
}

#[test]
fn scheduling_and_personality() {
    use serde_json::json;
    let of = |key: &str, value: serde_json::Value| changed(|c| c["process"][key] = value);
    let affinity = of("execCPUAffinity", json!({"initial": "0", "final": "1-2,4"})).unwrap().process.affinity;
    assert_eq!(affinity.initial.unwrap().to_string(), "0");
    assert_eq!(affinity.last.unwrap().to_string(), "1-2,4");
    assert!(of("execCPUAffinity", json!({})).unwrap().process.affinity.last.is_none());
    for bad in ["3-1", "8192", "99999999999999999999", "a", "1,,2"] {
        let said = of("execCPUAffinity", json!({"final": bad})).map(|_| ()).unwrap_err();
        assert!(said.contains("execCPUAffinity") || said.contains("CPU"), "{bad}: {said}");
    }
    let personality = |value: serde_json::Value| {
        changed(|c| c["linux"]["personality"] = value).map(|config| config.personality)
    };
    assert_eq!(personality(json!({"domain": "LINUX"})).unwrap(), Some(0));
    assert_eq!(personality(json!({"domain": "LINUX32", "flags": []})).unwrap(), Some(8));
    assert!(personality(json!({"domain": "LINUX32", "flags": ["X"]})).unwrap_err().contains("personality"));
    assert!(personality(json!({"domain": "BSD"})).is_err());
    assert_eq!(changed(|_| {}).unwrap().personality, None);
}

#[test]
fn labels_of_mounts() {
    use serde_json::json;
    let with = |label: &str| {
        changed(|c| {
            c["linux"]["mountLabel"] = json!(label);
            c["mounts"] = json!([
                {"destination": "/proc", "type": "proc"},
                {"destination": "/t", "type": "tmpfs", "options": ["size=1m"]},
                {"destination": "/b", "type": "bind", "source": "/y"},
            ]);
        })
        .map(|config| config.mounts.into_iter().map(|mount| mount.data).collect::<Vec<_>>())
    };
    let data = with("system_u:object_r:container_file_t:s0:c1,c2").unwrap();
    assert!(data[0].is_empty() && data[2].is_empty());
    assert_eq!(data[1], ["size=1m", "context=system_u:object_r:container_file_t:s0:c1,c2"]);
    assert_eq!(with("").unwrap()[1], ["size=1m"]);
    assert!(with("a\"b").unwrap_err().contains("mountLabel"));
}

#[test]
fn minus_one_is_nobody() {
    let none = u32::MAX;
    for (change, field) in [
        (serde_json::json!({ "uid": none, "gid": 0 }), "process.user.uid"),
        (serde_json::json!({ "uid": 0, "gid": none }), "process.user.gid"),
        (
            serde_json::json!({ "uid": 0, "gid": 0, "additionalGids": [1, none] }),
            "process.user.additionalGids",
        ),
    ] {
        let refused = changed(|config| config["process"]["user"] = change.clone()).unwrap_err();
        assert!(refused.contains(field) && refused.contains("4294967294"), "{refused}");
    }
    let highest = serde_json::json!({ "uid": none - 1, "gid": none - 1 });
    assert_eq!(changed(|config| config["process"]["user"] = highest).unwrap().process.uid, none - 1);
    let device = serde_json::json!([{ "path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": none }]);
    assert!(changed(|config| config["linux"]["devices"] = device).unwrap_err().contains("devices.uid"));
}

#[test]
fn names_of_the_host_and_its_domain() {
    for field in ["hostname", "domainname"] {
        for bad in ["a\0b", &"x".repeat(65)] {
            let refused = changed(|config| config[field] = bad.into()).unwrap_err();
            assert!(refused.contains(field), "{refused}");
        }
        changed(|config| config[field] = "x".repeat(64).into()).unwrap();
    }
}
