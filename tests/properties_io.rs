//! What must hold of diskstats and pressure whatever a group's files say.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use ownproc::cgroup::parse::io;
use ownproc::host::parse::diskstats::diskstats;
use ownproc::model::{Bytes, DiskId, DiskUse, Transfer};
use ownproc::render;
use ownproc::view::DiskAccount;
use proptest::prelude::*;

const HOST: &str = "some avg10=36.31 avg60=11.55 avg300=7.78 total=2618892490\n\
    full avg10=0.00 avg60=0.00 avg300=0.00 total=12\n";

/// Bytes as they come, and bytes that look like kernel text.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let io =
        "((254|8|7):(0|16|x)( (rbytes|wbytes|rios|dios|cost.rios|Read|Total)=?[ ]?[0-9]{0,21}){0,4}\n){0,6}";
    let pressure = "((some|full|fully) ?((avg10|avg60|total|x)=[0-9.]{0,8} ?){0,5}\n){0,4}";
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        io.prop_map(String::into_bytes),
        pressure.prop_map(String::into_bytes),
    ]
}

fn transfer() -> impl Strategy<Value = Transfer> {
    let number = || prop_oneof![Just(0), 0..1_000_000u64, any::<u64>()];
    (number(), number()).prop_map(|(bytes, operations)| Transfer { bytes: Bytes(bytes), operations })
}

fn used() -> impl Strategy<Value = (DiskId, DiskUse)> {
    ((0..3u32, 0..3u32), transfer(), transfer(), transfer()).prop_map(
        |((major, minor), read, write, discard)| (DiskId { major, minor }, DiskUse { read, write, discard }),
    )
}

proptest! {
    #[test]
    fn no_text_breaks_a_parser(text in input()) {
        io::stat(&text).for_each(drop);
        io::throttle(&text).for_each(drop);
        let host = diskstats(&text);
        prop_assert!(host.columns <= text.len() + 17);
    }

    /// Whatever a group says, its file has the kernel's lines and keys, and each value is a number.
    #[test]
    fn pressure_has_the_kernels_shape(own in input()) {
        let mut out = Vec::new();
        render::pressure(HOST, &own, &mut out);
        let text = String::from_utf8(out).unwrap();
        let keys = |text: &str| -> Vec<String> {
            text.split_whitespace().map(|word| word.split('=').next().unwrap().to_owned()).collect()
        };
        prop_assert_eq!(keys(&text), keys(HOST));
        for value in text.split_whitespace().filter_map(|word| word.split_once('=')) {
            prop_assert!(value.1.parse::<f64>().is_ok(), "{:?}", value);
        }
    }

    /// No number goes down and no disk goes away; every line has the host's columns.
    #[test]
    fn disks_only_grow(readings in proptest::collection::vec(proptest::collection::vec(used(), 0..5), 1..6)) {
        let host = diskstats(b"   1       0 ram0 1 2 3 4 5 6 7 8 9 10 11\n   2       1 fd1 1 2 3 4 5 6 7 8 9 10 11\n");
        let mut account = DiskAccount::default();
        let mut before: Vec<(String, Vec<u64>)> = Vec::new();
        for reading in readings {
            reading.iter().for_each(|(disk, used)| account.advance(*disk, *used));
            let lines = account.view(&host, |disk| Some(format!("disk{}_{}", disk.major, disk.minor)));
            let mut out = Vec::new();
            render::diskstats(host.columns, &lines, &mut out);
            let text = String::from_utf8(out).unwrap();
            let now: Vec<(String, Vec<u64>)> = text
                .lines()
                .map(|line| {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    (words[2].to_owned(), words[3..].iter().map(|word| word.parse().unwrap()).collect())
                })
                .collect();
            for (name, old) in &before {
                let new = &now.iter().find(|(known, _)| known == name).unwrap().1;
                prop_assert!(old.iter().zip(new).all(|(old, new)| old <= new), "{name}: {old:?} {new:?}");
            }
            prop_assert!(now.iter().all(|(_, numbers)| numbers.len() == 11));
            before = now;
        }
    }
}
