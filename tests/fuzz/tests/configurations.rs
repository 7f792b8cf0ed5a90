//! Configurations that are right but for a place or some: what stands there is replaced, doubled, swapped or taken out.
//! The check is that of the fuzz target; libFuzzer bends bytes, this bends the structure.

#![allow(clippy::unwrap_used)] // helpers of tests are no #[test] functions

use std::path::Path;

use ownproc_fuzz::targets::oci;
use proptest::prelude::*;
use serde_json::{Value, json};

/// One change of a document.
#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    /// A list's element once more, an object's value under another's key.
    Double,
    /// With the next one.
    Swap,
    Remove,
}

fn value() -> impl Strategy<Value = Value> {
    let numbers = prop_oneof![
        Just(0i64),
        Just(-1),
        Just(1),
        Just(i64::MAX),
        Just(i64::MIN),
        Just(i64::from(u32::MAX)),
        Just(i64::from(u32::MAX) + 1),
        any::<i64>(),
    ];
    let long = "x".repeat(5000);
    let texts = prop_oneof![
        Just(String::new()),
        Just("..".to_owned()),
        Just("/".to_owned()),
        Just("/../../etc".to_owned()),
        Just("a/../../b".to_owned()),
        Just("/a/./b//c/".to_owned()),
        Just("nul\0byte".to_owned()),
        Just("two\nlines".to_owned()),
        Just("net/../kernel/panic".to_owned()),
        Just("-.slice:a:b".to_owned()),
        Just("a.slice:../..:b".to_owned()),
        Just("a.slice:b:c/d".to_owned()),
        Just("/proc/1/ns/mnt".to_owned()),
        Just("0-8191".to_owned()),
        Just("9999999999999999999999".to_owned()),
        Just("rbind".to_owned()),
        Just("ridmap".to_owned()),
        Just("tmpcopyup".to_owned()),
        Just("user".to_owned()),
        Just("mount".to_owned()),
        Just("\u{202e}\u{1f600}".to_owned()),
        Just(long),
        ".{0,12}",
    ];
    prop_oneof![
        3 => numbers.prop_map(Value::from),
        1 => Just(json!(u64::MAX)),
        1 => Just(json!(1e300)),
        6 => texts.prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!([])),
        1 => Just(json!({})),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => value().prop_map(Change::Replace),
        3 => Just(Change::Double),
        1 => Just(Change::Swap),
        1 => Just(Change::Remove),
    ]
}

/// Pointers to everything below the top.
fn places(of: &Value, at: &str, found: &mut Vec<String>) {
    let mut add = |key: String, value: &Value| {
        let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        found.push(at.clone());
        places(value, &at, found);
    };
    match of {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| add(key.clone(), value)),
        Value::Array(list) => list.iter().enumerate().for_each(|(at, value)| add(at.to_string(), value)),
        _ => {}
    }
}

fn apply(document: &mut Value, pick: usize, change: &Change) {
    let mut all = Vec::new();
    places(document, "", &mut all);
    let Some(place) = all.get(pick % all.len().max(1)) else { return };
    if let Change::Replace(value) = change {
        *document.pointer_mut(place).unwrap() = value.clone();
        return;
    }
    let (above, key) = place.rsplit_once('/').unwrap();
    let key = key.replace("~1", "/").replace("~0", "~");
    match (document.pointer_mut(above).unwrap(), change) {
        (Value::Array(list), change) => {
            let at: usize = key.parse().unwrap();
            match change {
                Change::Double => list.insert(at, list[at].clone()),
                Change::Swap => {
                    let last = list.len() - 1;
                    list.swap(at, last);
                }
                _ => drop(list.remove(at)),
            }
        }
        (Value::Object(fields), Change::Remove) => drop(fields.remove(&key)),
        (Value::Object(fields), _) => {
            let value = fields[&key].clone();
            let other = fields.keys().find(|other| **other != key).cloned();
            if let Some(old) = other.and_then(|other| fields.insert(other, value))
                && matches!(change, Change::Swap)
            {
                fields.insert(key, old);
            }
        }
        _ => {}
    }
}

/// The seeds of the fuzz target: small, and between them all fields.
fn seeds() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/oci_config");
    let hand = |name: &&str| serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap();
    ["small", "namespaces", "mounts", "process", "joined", "resources", "seccomp"].iter().map(hand).collect()
}

fn check(document: &Value) {
    oci::oci_config(&serde_json::to_vec(document).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn bent_configurations(
        seed in proptest::sample::select(seeds()),
        changes in proptest::collection::vec((any::<usize>(), change()), 1..5),
    ) {
        let mut document = seed;
        for (pick, change) in &changes {
            apply(&mut document, *pick, change);
        }
        check(&document);
    }

    /// Lines of maps that may lie over others, on both sides.
    #[test]
    fn maps(lines in proptest::collection::vec((0u32..20, 0u32..20, 0u32..8), 0..5), far in any::<u32>()) {
        let line = |(inside, outside, size): &(u32, u32, u32)| {
            json!({"containerID": inside.saturating_add(far), "hostID": outside, "size": size})
        };
        let map: Value = lines.iter().map(line).collect();
        let mut document = seeds()[1].clone();
        document["linux"]["uidMappings"] = map.clone();
        document["linux"]["gidMappings"] = map.clone();
        check(&document);
        let mut document = seeds()[2].clone();
        document["mounts"][2]["uidMappings"] = map.clone();
        document["mounts"][2]["gidMappings"] = map;
        check(&document);
    }
}

/// The seeds are taken as they are: else the changes would be of what is wrong already.
#[test]
fn seeds_are_right() {
    for document in seeds() {
        assert!(oci::is_taken(&serde_json::to_vec(&document).unwrap()), "{document}");
        check(&document);
    }
}
