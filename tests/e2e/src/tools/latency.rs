//! `latency SECONDS PAUSE_US KIB FILE...`: opens each file, reads it to its end and closes it, over and over; says how long
//! that took. What meminfo says must be the container's own limit of KIB each time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use crate::case::{Doing, Failure, Outcome, check};

/// Times in microseconds, in order.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<u32>);

impl Times {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// That of which a share of all is no longer, in microseconds.
    pub fn quantile(&self, share: f64) -> u32 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * share).round() as usize).copied().unwrap_or(0)
    }

    /// Several runs taken together.
    pub fn add(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
        self.0.sort_unstable();
    }

    /// From what [`main`] printed.
    pub fn parse(text: &str) -> Outcome<Self> {
        let mut all = Self::default();
        for line in text.lines() {
            let (time, count) = line.split_once(' ').doing(line)?;
            let count: usize = count.parse().doing(line)?;
            all.0.extend(std::iter::repeat_n(time.parse::<u32>().doing(line)?, count));
        }
        all.0.sort_unstable();
        Ok(all)
    }
}

/// The words after `latency`; prints one line `MICROSECONDS COUNT` for each time that was seen.
pub fn main(words: &[&str]) -> Outcome {
    let [seconds, pause, kib, files @ ..] = words else {
        return Err(Failure("latency SECONDS PAUSE_US KIB FILE...".to_owned()));
    };
    let end = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let pause = Duration::from_micros(pause.parse()?);
    let total = format!("MemTotal:{kib:>15} kB\n");
    let mut seen: BTreeMap<u128, u64> = BTreeMap::new();
    let mut text = Vec::with_capacity(1 << 17);
    while Instant::now() < end {
        for path in files {
            text.clear();
            let began = Instant::now();
            File::open(path).and_then(|mut file| file.read_to_end(&mut text)).doing(path)?;
            *seen.entry(began.elapsed().as_micros()).or_default() += 1;
            check!(!path.ends_with("meminfo") || text.starts_with(total.as_bytes()), "{path}: not {total}");
            check!(text.ends_with(b"\n"), "{path} is cut off after {} bytes", text.len());
            std::thread::sleep(pause);
        }
    }
    for (time, count) in seen {
        println!("{time} {count}");
    }
    Ok(())
}
