//! Every file of the corpora and every finding of the past, through the function of its target.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are no #[test] functions

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ownproc_fuzz::targets;

/// Targets share fixtures: one input at a time, as libFuzzer has it.
static ONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn corpora_and_regressions() {
    let _alone = alone();
    let mut failed = Vec::new();
    for (name, target) in targets::ALL {
        let corpus = files(&folder("corpus", name));
        assert!(!corpus.is_empty(), "{name} has no corpus");
        for file in corpus.into_iter().chain(files(&folder("regressions", name))) {
            let data = fs::read(&file).unwrap();
            // What it says stands above, where the panic was printed.
            if catch_unwind(AssertUnwindSafe(|| target(&data))).is_err() {
                failed.push(format!("{name}: {}", file.display()));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Cut off, repeated and bent inputs cost little and find what a corpus alone does not.
#[test]
fn neighbours_of_the_corpora() {
    let _alone = alone();
    for (name, target) in targets::ALL {
        for file in files(&folder("corpus", name)) {
            let data = fs::read(&file).unwrap();
            let mut bent = data.clone();
            if let Some(byte) = bent.get_mut(data.len() / 3) {
                *byte ^= 0x10;
            }
            for near in [&data[..data.len() / 2], &[data.as_slice(), &data].concat(), &bent] {
                if catch_unwind(AssertUnwindSafe(|| target(near))).is_err() {
                    panic!("{name}: {}: {:?}", file.display(), near.escape_ascii().to_string());
                }
            }
        }
    }
}

/// Numbers without a pattern (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % end.max(1)
    }
}

/// One more change of an input: a byte, a piece left out, a piece twice, or the end of another.
fn bend(data: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let (from, to) = (random.below(data.len()), random.below(data.len()));
    let piece = from.min(to)..from.max(to);
    match random.below(6) {
        0 | 1 => {
            if let Some(byte) = data.get_mut(from) {
                *byte = u8::try_from(random.below(256)).unwrap();
            }
        }
        2 => {
            if let Some(byte) = data.get_mut(from) {
                *byte ^= 1 << random.below(8);
            }
        }
        3 => drop(data.drain(piece)),
        4 => {
            let again = data[piece].to_vec();
            data.splice(to..to, again);
        }
        _ => {
            data.truncate(from);
            data.extend_from_slice(&other[random.below(other.len())..]);
        }
    }
    data.truncate(4096);
}

/// What the kernel asks is fuzzed for OWNPROC_FUZZ_SECONDS by target (1; tests/run takes 20): without the guidance of `tests/fuzz/run`, and so
/// on any machine.
#[test]
fn bent_requests() {
    let _alone = alone();
    let seconds = std::env::var("OWNPROC_FUZZ_SECONDS").map_or(1.0, |seconds| seconds.parse().unwrap());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for (name, target) in targets::ALL.iter().filter(|(name, _)| name.starts_with("fuse_")) {
        let seeds: Vec<Vec<u8>> =
            files(&folder("corpus", name)).iter().map(|file| fs::read(file).unwrap()).collect();
        let mut random = Random(now.as_nanos() as u64 | 1);
        let (end, mut runs) = (Instant::now() + Duration::from_secs_f64(seconds), 0_u64);
        while Instant::now() < end {
            let mut data = seeds[random.below(seeds.len())].clone();
            for _ in 0..=random.below(8) {
                bend(&mut data, &seeds[random.below(seeds.len())], &mut random);
            }
            runs += 1;
            if catch_unwind(AssertUnwindSafe(|| target(&data))).is_err() {
                panic!("{name}: {:?}", data.escape_ascii().to_string());
            }
        }
        println!("{name}: {runs} inputs in {seconds} s");
        assert!(runs > 0);
    }
}

#[test]
fn folders_are_those_of_targets() {
    let known: BTreeSet<String> = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(known.len(), targets::ALL.len(), "a target stands twice");
    for kind in ["corpus", "regressions"] {
        for folder in files(&folder(kind, "")) {
            let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(known.contains(&name), "{kind}/{name} belongs to no target");
        }
    }
}

/// Corpora stay small enough to be looked at, and to be replayed in a second.
#[test]
fn corpora_are_small() {
    for (name, _) in targets::ALL {
        let corpus = files(&folder("corpus", name));
        assert!(corpus.len() <= 48, "{name}: {} files", corpus.len());
        let bytes: u64 = corpus.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
        assert!(bytes <= 128 << 10, "{name}: {bytes} bytes");
    }
}
