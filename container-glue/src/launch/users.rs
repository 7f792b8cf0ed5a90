//! `--user USER[:GROUP]` in the container's /etc/passwd and /etc/group (passwd(5), group(5)). Pure.

use super::config::User;

/// The numbers. A number need not be in the files; its group is then 0, as in Docker. Without a group the user's own
/// count, with those that list it as a member.
pub fn find(wanted: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (name, group_name) = match wanted.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (wanted, None),
    };
    if name.is_empty() || group_name == Some("") {
        return Err("give USER or USER:GROUP".to_owned());
    }
    // NAME:PASSWORD:UID:GID:...
    let entry = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 4 && (fields[0] == name || fields[2] == name));
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number != u32::MAX);
    let (user_name, uid, gid) = match entry {
        Some(fields) => match (number(fields[2]), number(fields[3])) {
            (Some(uid), Some(gid)) => (Some(fields[0]), uid, gid),
            _ => {
                return Err(format!(
                    "its line in /etc/passwd of the container is not understood: {}",
                    fields.join(":")
                ));
            }
        },
        None => match number(name) {
            Some(uid) => (None, uid, 0),
            None => return Err("no such user in /etc/passwd of the container: give its number".to_owned()),
        },
    };
    // NAME:PASSWORD:GID:MEMBER,MEMBER
    let groups =
        || group.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 4);
    if let Some(wanted) = group_name {
        let found = groups().find(|fields| fields[0] == wanted).and_then(|fields| number(fields[2]));
        let gid = found.or_else(|| number(wanted));
        let gid = gid.ok_or("no such group in /etc/group of the container: give its number")?;
        return Ok(User { uid, gid, groups: Vec::new() });
    }
    let member =
        |fields: &Vec<&str>| user_name.is_some_and(|name| fields[3].split(',').any(|member| member == name));
    let groups = groups()
        .filter(member)
        .filter_map(|fields| number(fields[2]))
        .filter(|other| *other != gid)
        .collect();
    Ok(User { uid, gid, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/:/bin/false\nbad:x:y:0::/:\n77\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nvideo:x:44:tv,web\naudio:x:29:webb\nempty:x:5:\n";

    #[test]
    fn names_and_numbers() {
        let find = |wanted: &str| find(wanted, PASSWD, GROUP).map(|user| (user.uid, user.gid, user.groups));
        assert_eq!(find("root"), Ok((0, 0, vec![])));
        assert_eq!(find("web"), Ok((33, 34, vec![44])));
        assert_eq!(find("33"), Ok((33, 34, vec![44])));
        assert_eq!(find("web:video"), Ok((33, 44, vec![])));
        assert_eq!(find("1000"), Ok((1000, 0, vec![])));
        assert_eq!(find("1000:1001"), Ok((1000, 1001, vec![])));
        for bad in ["", ":", "web:", ":web", "nobody", "bad", "web:none", "4294967295", "-1"] {
            assert!(find(bad).is_err(), "{bad}");
        }
    }
}
