//! Which container manager made a group, and what it calls the container: from the group's path alone.

/// A container as its manager names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Managed {
    /// The manager: `docker`, `podman`, `crio`, `containerd`, `lxc`, `machined`, `systemd`, `ownproc`.
    pub source: &'static str,
    /// Its name or id for the container.
    pub name: String,
}

/// Names of scopes that managers make under the systemd cgroup driver: `PREFIX-ID.scope`.
const SCOPES: [(&str, &str); 7] = [
    ("docker-", "docker"),
    ("libpod-payload-", "podman"),
    ("libpod-", "podman"),
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("crio-", "crio"),
    ("machine-", "machined"),
];

/// Directories that managers make under the cgroupfs driver: `.../DIR/ID`.
const PARENTS: [(&str, &str); 6] = [
    ("docker", "docker"),
    ("libpod_parent", "podman"),
    ("lxc", "lxc"),
    ("nerdctl", "containerd"),
    ("containerd", "containerd"),
    ("ownproc", "ownproc"),
];

/// The innermost component of the path that a manager is known to make.
pub(super) fn identify(group: &str) -> Option<Managed> {
    let components: Vec<&str> = group.split('/').filter(|part| !part.is_empty()).collect();
    (0..components.len()).rev().find_map(|index| {
        let part = components.get(index)?;
        let parent = index.checked_sub(1).and_then(|index| components.get(index)).copied();
        component(part, parent)
    })
}

fn component(part: &str, parent: Option<&str>) -> Option<Managed> {
    let managed = |source, name: &str| (!name.is_empty()).then(|| Managed { source, name: name.to_owned() });
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return managed("lxc", name);
    }
    if let Some(scope) = part.strip_suffix(".scope") {
        // podman's monitor is in a scope of its own beside the container's.
        if scope.starts_with("libpod-conmon-") || scope.starts_with("crio-conmon-") {
            return None;
        }
        return SCOPES
            .iter()
            .find_map(|(prefix, source)| managed(source, &unescape(scope.strip_prefix(prefix)?)));
    }
    if let Some(id) = part.strip_prefix("libpod-").or_else(|| part.strip_prefix("crio-")) {
        let source = if part.starts_with("crio-") { "crio" } else { "podman" };
        return managed(source, id).filter(|_| is_id(id));
    }
    let parent = parent?;
    // Kubernetes with the cgroupfs driver: .../kubepods/burstable/podUID/ID.
    if parent.starts_with("pod") && is_id(part) {
        return managed("kubernetes", part);
    }
    PARENTS.iter().find(|(dir, _)| *dir == parent).and_then(|(_, source)| managed(source, part))
}

/// 64 hexadecimal digits.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// systemd writes `-` within a part of a unit's name as `\x2d`.
fn unescape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("\\x") {
        out.push_str(&rest[..at]);
        let digits = rest.get(at + 2..at + 4);
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(u8::is_ascii) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push_str("\\x");
                rest = &rest[at + 2..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_are_recognised() {
        let id = "0123456789abcdef".repeat(4);
        for (path, source, name) in [
            (format!("/system.slice/docker-{id}.scope"), "docker", id.as_str()),
            (format!("/docker/{id}"), "docker", &id),
            (format!("/docker/{id}/init.scope"), "docker", &id),
            (format!("/machine.slice/libpod-{id}.scope/container"), "podman", &id),
            (format!("/libpod_parent/libpod-{id}"), "podman", &id),
            (format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"), "containerd", &id),
            (format!("/kubepods.slice/crio-{id}.scope"), "crio", &id),
            (format!("/kubepods/burstable/pod0d-1/{id}"), "kubernetes", &id),
            ("/lxc.payload.web/init.scope".into(), "lxc", "web"),
            ("/lxc/web".into(), "lxc", "web"),
            ("/machine.slice/machine-deb\\x2d12.scope/payload".into(), "machined", "deb-12"),
            ("/ownproc/web".into(), "ownproc", "web"),
            // The inner one of two: a container within a container.
            (format!("/docker/{id}/lxc.payload.in"), "lxc", "in"),
        ] {
            let found = identify(&path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((found.source, found.name.as_str()), (source, name), "{path}");
        }
    }

    #[test]
    fn others_are_not() {
        for path in [
            "/",
            "",
            "/system.slice/cron.service",
            "/user.slice/session-1.scope",
            "/docker-.scope",
            "/a/libpod-conmon-1.scope",
            "/libpod-short",
            "/docker",
            "/machine.slice",
        ] {
            assert_eq!(identify(path), None, "{path}");
        }
    }

    #[test]
    fn unescape_is_total() {
        assert_eq!(unescape("a\\x2db"), "a-b");
        assert_eq!(unescape("a\\x"), "a\\x");
        assert_eq!(unescape("\\xzz\\xff\\x2"), "\\xzz\\xff\\x2");
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_harmless(path in "[/.a-z0-9\\\\x-]{0,60}|\\PC{0,40}") {
            if let Some(managed) = identify(&path) {
                proptest::prop_assert!(!managed.name.is_empty());
            }
        }
    }
}
