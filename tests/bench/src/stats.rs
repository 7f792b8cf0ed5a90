//! Percentiles and the numbers collected for one cell of the table.

/// The value below which `percent` of the samples lie (nearest rank); 0 without samples. Sorts in place.
pub fn percentile(samples: &mut [u64], percent: u32) -> u64 {
    samples.sort_unstable();
    let rank = samples.len().saturating_mul(percent as usize).div_ceil(100);
    samples.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// Everything measured for one source, file, way of reading and number of readers.
#[derive(Debug, Default, Clone)]
pub struct Cell {
    /// Nanoseconds of each timed read.
    pub samples: Vec<u64>,
    /// p50 of each batch in nanoseconds: their spread tells how noisy the machine was.
    pub batch_p50: Vec<u64>,
    /// Wall-clock nanoseconds of all batches, for the aggregate rate.
    pub wall: u64,
    /// CPU time of the daemon in nanoseconds (user + system), warm-up reads included.
    pub daemon_cpu: u64,
    /// Reads behind `daemon_cpu`: timed and warm-up.
    pub all_reads: u64,
}

/// One cell reduced to what is printed; microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Timed reads.
    pub reads: usize,
    /// Median latency.
    pub p50: f64,
    /// 99th percentile of the latency.
    pub p99: f64,
    /// Wall-clock time over reads, all readers together.
    pub aggregate: f64,
    /// CPU time of the daemon per read.
    pub daemon_cpu: f64,
    /// p90 over p50 of the batches' medians; 1 on a silent machine.
    pub spread: f64,
}

impl Cell {
    /// Adds one batch: its samples and wall time in nanoseconds, daemon CPU in nanoseconds over `all_reads`.
    pub fn add(&mut self, mut samples: Vec<u64>, wall: u64, daemon_cpu: u64, all_reads: u64) {
        self.batch_p50.push(percentile(&mut samples, 50));
        self.samples.append(&mut samples);
        self.wall = self.wall.saturating_add(wall);
        self.daemon_cpu = self.daemon_cpu.saturating_add(daemon_cpu);
        self.all_reads = self.all_reads.saturating_add(all_reads);
    }

    /// The printed numbers.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let mut samples = self.samples.clone();
        let mut batches = self.batch_p50.clone();
        let typical = percentile(&mut batches, 50).max(1);
        Summary {
            reads: samples.len(),
            p50: micros(percentile(&mut samples, 50)),
            p99: micros(percentile(&mut samples, 99)),
            aggregate: micros(self.wall) / (self.samples.len().max(1) as f64),
            daemon_cpu: micros(self.daemon_cpu) / (self.all_reads.max(1) as f64),
            spread: percentile(&mut batches, 90) as f64 / typical as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rank() {
        let mut samples: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut samples, 50), 50);
        assert_eq!(percentile(&mut samples, 99), 99);
        assert_eq!(percentile(&mut samples, 100), 100);
        assert_eq!(percentile(&mut [7], 50), 7);
        assert_eq!(percentile(&mut [], 99), 0);
    }

    #[test]
    fn a_cell_divides_by_the_right_counts() {
        let mut cell = Cell::default();
        cell.add(vec![10_000, 20_000], 40_000, 8_000, 4);
        cell.add(vec![30_000, 30_000], 60_000, 8_000, 4);
        let summary = cell.summary();
        assert_eq!((summary.reads, summary.p50, summary.p99), (4, 20.0, 30.0));
        assert_eq!((summary.aggregate, summary.daemon_cpu, summary.spread), (25.0, 2.0, 3.0));
    }
}
