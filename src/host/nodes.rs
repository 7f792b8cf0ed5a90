//! The host's NUMA nodes.

use std::path::Path;
use std::sync::Arc;

use super::error::HostError;
use super::files::Host;
use super::parse;
use crate::cgroup::ParseError;
use crate::model::{CpuSet, HostNode, HostNodes};

impl Host {
    /// The nodes, at most one second old and never older than the last change of the online CPUs. ENOENT on a host
    /// without NUMA (no `/sys/devices/system/node`).
    pub fn nodes(&self) -> Result<Arc<HostNodes>, HostError> {
        let tree = self.node_tree().ok_or_else(|| self.no_nodes())?;
        let text = |path: &str| tree.read(Path::new(path), |text| String::from_utf8_lossy(text).into_owned());
        let list = |path: &str| -> Result<CpuSet, HostError> {
            let text = text(path)?;
            CpuSet::parse(&text).map_err(|_| HostError::Parse {
                path: self.root().join("sys/devices/system/node").join(path),
                source: ParseError::new("expected a list such as 0-3,8", text.as_bytes()),
            })
        };
        self.cached_nodes(|| {
            let online = list("online")?;
            let node = |number| {
                let cpus = list(&format!("node{number}/cpulist")).unwrap_or_default();
                let total = text(&format!("node{number}/meminfo")).ok();
                let total = total.and_then(|text| parse::node::total(&text)).unwrap_or_default();
                HostNode { number, cpus, total }
            };
            let nodes = online.iter().map(node).collect();
            Ok(HostNodes { online, nodes })
        })
    }

    fn no_nodes(&self) -> HostError {
        HostError::io(self.root().join("sys/devices/system/node"), rustix::io::Errno::NOENT)
    }

    /// The text of a file below `/sys/devices/system/node`, as it is now.
    pub fn node_file(&self, path: &str) -> Result<String, HostError> {
        let tree = self.node_tree().ok_or_else(|| self.no_nodes())?;
        tree.read(Path::new(path), |text| String::from_utf8_lossy(text).into_owned())
    }
}
