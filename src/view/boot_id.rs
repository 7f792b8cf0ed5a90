//! A boot id of its own for each container.

use crate::model::{HostPid, Nsec};

/// What stays the same for as long as a container lives, differs from every other container's of this boot, and can be
/// found again by a daemon that starts later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Its init: the process id and the start (CLOCK_BOOTTIME of the host). Its groups may change.
    Init(HostPid, Nsec),
    /// Where no init is known: device and inode of its group.
    Group(u64, u64),
}

/// The container's boot id: a version 4 UUID that is a keyed hash of its identity.
///
/// The key is the host's boot id, 122 random bits. SipHash-2-4 is a pseudorandom function: who knows
/// the result and guesses the identity learns nothing of the key, nor of other containers' ids.
#[must_use]
pub fn boot_id(host: [u8; 16], identity: &Identity) -> [u8; 16] {
    let (kind, first, second) = match identity {
        Identity::Init(pid, start) => (1u8, u64::from(pid.get().unsigned_abs()), start.0),
        Identity::Group(device, inode) => (2, *device, *inode),
    };
    let half = |number: u8| {
        let mut message = [0u8; 18];
        let words = first.to_le_bytes().into_iter().chain(second.to_le_bytes());
        for (to, from) in message.iter_mut().zip(words.chain([kind, number])) {
            *to = from;
        }
        siphash(host, &message).to_le_bytes()
    };
    let (low, high) = (half(0), half(1));
    let mut id = [0u8; 16];
    for (to, from) in id.iter_mut().zip(low.into_iter().chain(high)) {
        *to = from;
    }
    // RFC 9562: version 4, variant 10
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012), as the kernel has it in lib/siphash.c.
fn siphash(key: [u8; 16], message: &[u8]) -> u64 {
    let key = u128::from_le_bytes(key);
    let (k0, k1) = (key as u64, (key >> 64) as u64);
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut chunks = message.chunks_exact(8);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    for chunk in &mut chunks {
        absorb(&mut v, word(chunk));
    }
    absorb(&mut v, word(chunks.remainder()) | (message.len() as u64) << 56);
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    round(v);
    v[0] ^= word;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The vectors that the authors published (vectors.h): key 0, 1, ..., 15; message 0, 1, ..., n - 1.
    #[test]
    fn k5_the_published_vectors() {
        let key: [u8; 16] = std::array::from_fn(|i| i as u8);
        let message: Vec<u8> = (0..64).collect();
        for (length, hash) in
            [(0, 0x726f_db47_dd0e_0e31), (1, 0x74f8_39c5_93dc_67fd), (15, 0xa129_ca61_49be_45e5)]
        {
            assert_eq!(siphash(key, &message[..length]), hash, "{length}");
        }
    }

    #[test]
    fn k5_an_own_id_for_each_that_is_always_the_same() {
        let host = [0x75; 16];
        let pid = |n| HostPid::new(n).unwrap();
        let identities = [
            Identity::Init(pid(1), Nsec(2)),
            Identity::Init(pid(2), Nsec(1)),
            Identity::Init(pid(1), Nsec(3)),
            Identity::Group(1, 2),
            Identity::Group(1, 3),
        ];
        let ids: HashSet<_> = identities.iter().map(|identity| boot_id(host, identity)).collect();
        assert_eq!(ids.len(), identities.len());
        assert!(!ids.contains(&host));
        assert_ne!(boot_id(host, &identities[0]), boot_id([0x76; 16], &identities[0]), "another boot");
        for id in &ids {
            assert_eq!((id[6] >> 4, id[8] >> 6), (4, 2), "version and variant");
        }
        // A daemon of another build must find the same.
        let id = boot_id(std::array::from_fn(|i| i as u8), &identities[0]);
        assert_eq!(format!("{:032x}", u128::from_be_bytes(id)), "525ced3e188a43ebbdf843dd87b6f210");
    }
}
