//! Texts that are rewritten for the reader.

use ownproc::model::CpuSet;
use ownproc::render::{rewrite_cpu_list, rewrite_cpu_mask};

use crate::input::{head, shown_of, text};

/// A CPU list of the host names shown CPUs only, as many as are in both.
pub fn sys_cpu_list(data: &[u8]) {
    let (option, rest) = head(data);
    let Some(text) = text(rest) else { return };
    let shown = shown_of(option);
    let mut out = b"x".to_vec();
    rewrite_cpu_list(text, &shown, &mut out);
    let line = std::str::from_utf8(&out).unwrap().strip_prefix('x').unwrap();
    assert!(line.ends_with('\n') && line.lines().count() == 1);
    let named = CpuSet::parse(line).expect("a list");
    assert!(named.without(&shown.numbers()).is_empty());
    let host = CpuSet::parse(text).unwrap_or_default();
    assert_eq!(named.len(), host.and(&shown.physical).len());
}

/// A mask of the host keeps its width and has bits of shown CPUs only.
pub fn sys_cpu_mask(data: &[u8]) {
    let (option, rest) = head(data);
    let Some(text) = text(rest) else { return };
    let shown = shown_of(option);
    let mut out = b"x".to_vec();
    rewrite_cpu_mask(text, &shown, &mut out);
    let line = std::str::from_utf8(&out).unwrap().strip_prefix('x').unwrap().strip_suffix('\n').unwrap();
    if line.is_empty() {
        return;
    }
    let (words, host): (Vec<_>, Vec<_>) = (line.split(',').collect(), text.trim().split(',').collect());
    assert_eq!(words.len(), host.len());
    let bits = |words: &[&str]| -> CpuSet {
        let word = |(index, word): (usize, &&str)| {
            let bits = u32::from_str_radix(word, 16).expect("a word");
            (0..32).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| index * 32 + bit)
        };
        words.iter().rev().enumerate().flat_map(word).collect()
    };
    let (named, host) = (bits(&words), bits(&host));
    assert!(named.without(&shown.numbers()).is_empty());
    assert!(named.len() <= host.and(&shown.physical).len());
}
