//! `ownproc detach`: the virtual files out of containers that run.

use super::args::DetachArgs;
use super::failure::Failure;
use super::host::{Known, client_if_any};
use super::running;
use crate::attach::Order;
use crate::attach::report::Action;
use crate::model::HostPid;

/// Needs no daemon: what a daemon left that is gone is taken away as well.
pub(super) fn run(args: &DetachArgs) -> Result<(), Failure> {
    let paths = args.mount.paths();
    let client = client_if_any(paths.clone());
    let order = Order {
        action: Action::Detach,
        device: client.as_ref().and_then(|_| super::attach::device(&paths).ok()),
        daemon: client.as_ref().and_then(|client| HostPid::new(client.hello().pid)),
        mount: paths.mount,
        name: None,
    };
    let known = Known::take(client.as_ref())?;
    let selection = running::select(&known, &args.targets)?;
    let rows = selection
        .chosen
        .iter()
        .map(|chosen| running::enter(chosen, &order))
        .collect::<Result<Vec<_>, _>>()?;
    running::tell("detach", &rows, selection.hosts, args.format)
}
