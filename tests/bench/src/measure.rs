//! Interleaves small batches of all sources, so that whatever drifts on the machine hits all of them alike.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::reader::{Batch, MAX_READERS, Way};
use crate::stage::Stage;
use crate::stats::Cell;

/// Set by SIGINT and SIGTERM; looked at between batches.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Who runs where. Where the scheduler puts a server's thread decides between one and three times the latency of
/// the same read, hence the second kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placement {
    /// Reader i on the i-th CPU of the group, servers wherever the scheduler puts them.
    Pinned,
    /// Readers and servers all on the first CPU of the group: no wake-up across CPUs, steady numbers.
    OneCpu,
    /// Readers on all CPUs of the group, servers wherever the scheduler puts them.
    Free,
}

/// One table: how the files are read, by how many, where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// Readers at once, 1 to [`MAX_READERS`].
    pub readers: usize,
    /// Who runs where.
    pub placement: Placement,
    /// How they read.
    pub way: Way,
}

/// What is measured.
#[derive(Debug)]
pub struct Plan {
    /// Files, relative to a source's root.
    pub files: Vec<String>,
    /// Timed reads per cell.
    pub reads: usize,
    /// Timed reads per batch, all readers together.
    pub batch: usize,
    /// The tables to fill.
    pub blocks: Vec<Block>,
    /// The group's CPUs.
    pub cpus: Vec<usize>,
    /// The CPUs that servers run on, where nothing else is asked.
    pub server_cpus: Vec<usize>,
}

/// Untimed reads of each thread at the start of each batch: the server's caches and its sleep state are then
/// those of a server in use.
pub const WARM_PER_BATCH: usize = 4;
/// Untimed reads of each source and file before anything is measured.
pub const WARM_UP: usize = 300;

/// Which cell of which table (file and source as positions in the plan and the stage).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The table.
    pub block: Block,
    /// Position in [`Plan::files`].
    pub file: usize,
    /// Position in [`Stage::sources`].
    pub source: usize,
}

/// All cells.
pub type Cells = BTreeMap<Key, Cell>;

/// Runs the plan. Sources that do not have a file get no cell for it.
///
/// # Errors
/// A read or a server fails, or the bench is interrupted.
pub fn run(stage: &mut Stage, plan: &Plan) -> Result<Cells> {
    let mut paths: BTreeMap<(usize, usize), PathBuf> = BTreeMap::new();
    for (source, column) in stage.sources.iter().zip(0_usize..) {
        for (file, row) in plan.files.iter().zip(0_usize..) {
            match stage.bind(source, file)? {
                Some(path) => _ = paths.insert((row, column), path),
                None => eprintln!("ownproc-bench: {} has no {file}: its cells stay empty", source.name),
            }
        }
    }
    let mut cells = Cells::new();
    let warm_up = Block { readers: 1, placement: Placement::Pinned, way: Way::Cat };
    for (&(file, source), path) in &paths {
        one_batch(stage, plan, Key { block: warm_up, file, source }, path, WARM_UP, &mut Cells::new())?;
    }
    let rounds = plan.reads.div_ceil(plan.batch.max(1));
    let columns = stage.sources.len();
    for round in 0..rounds {
        for &block in &plan.blocks {
            let everywhere = block.placement != Placement::OneCpu;
            let server_cpus = if everywhere { plan.server_cpus.get(..) } else { plan.cpus.get(..1) };
            for server in &stage.servers {
                server.process.move_to(server_cpus.unwrap_or_default())?;
            }
            for file in 0..plan.files.len() {
                // Each round starts with another source, so that none always follows the same pause.
                for source in (0..columns).map(|column| (column + round) % columns) {
                    let Some(path) = paths.get(&(file, source)) else { continue };
                    one_batch(stage, plan, Key { block, file, source }, path, plan.batch, &mut cells)?;
                }
            }
        }
    }
    Ok(cells)
}

fn one_batch(
    stage: &mut Stage,
    plan: &Plan,
    key: Key,
    path: &std::path::Path,
    timed: usize,
    cells: &mut Cells,
) -> Result<()> {
    if STOP.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    let Some(source) = stage.sources.get(key.source) else { return Ok(()) };
    let server = source.server.and_then(|server| stage.servers.get(server));
    let Block { readers, placement, way } = key.block;
    let readers = readers.clamp(1, MAX_READERS);
    let first = plan.cpus.get(..1).unwrap_or_default();
    let batch = Batch {
        path: path.to_owned(),
        way,
        readers,
        pinned: placement != Placement::Free,
        cpus: if placement == Placement::OneCpu { first.to_vec() } else { plan.cpus.clone() },
        warm: WARM_PER_BATCH,
        timed: timed.div_ceil(readers),
    };
    let before = server.map_or(0, |server| server.process.cpu_nanos());
    let Some(reader) = stage.readers.get_mut(source.reader) else { return Ok(()) };
    let (wall, samples) = reader.batch(&batch)?;
    let used = server.map_or(0, |server| server.process.cpu_nanos().saturating_sub(before));
    let all = readers.saturating_mul(batch.timed.saturating_add(batch.warm));
    cells.entry(key).or_default().add(samples, wall, used, u64::try_from(all).unwrap_or(u64::MAX));
    Ok(())
}
