//! Files of one NUMA node.

use crate::cgroup::parse::scalar::number;
use crate::model::Bytes;

/// `MemTotal` of `nodeN/meminfo`, whose lines are `Node 0 MemTotal:       24684096 kB`.
#[must_use]
pub fn total(text: &str) -> Option<Bytes> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let _node = (words.next()? == "Node").then(|| words.next())??;
        if words.next()? != "MemTotal:" {
            return None;
        }
        Some(Bytes::from_kib(number(words.next()?.as_bytes())?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_keys() {
        let text = "Node 1 MemTotalX:  7 kB\nNode 1 MemTotal:       24684096 kB\nNode 1 MemFree: 5 kB\n";
        assert_eq!(total(text), Some(Bytes::from_kib(24_684_096)));
        for bad in ["", "MemTotal: 5 kB\n", "Node 0 MemTotal: x kB\n", "Node 0 MemTotal:\n", "Node\n"] {
            assert_eq!(total(bad), None, "{bad}");
        }
    }
}
