//! The hashes by which a journal file finds its data: SipHash-2-4 with the file's id as the key, or in files
//! of systemd before 246 Bob Jenkins' lookup3.

/// Which one a file uses.
#[derive(Clone, Copy)]
pub enum Hash {
    Keyed([u8; 16]),
    Jenkins,
}

impl Hash {
    pub fn of(self, data: &[u8]) -> u64 {
        match self {
            Hash::Keyed(key) => siphash(key, data),
            Hash::Jenkins => jenkins(data),
        }
    }
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

fn siphash(key: [u8; 16], data: &[u8]) -> u64 {
    let (low, high) = (word(&key[..8]), word(&key[8..]));
    let mut state = [
        low ^ 0x736f_6d65_7073_6575,
        high ^ 0x646f_7261_6e64_6f6d,
        low ^ 0x6c79_6765_6e65_7261,
        high ^ 0x7465_6462_7974_6573,
    ];
    let mut take = |word: u64| {
        state[3] ^= word;
        sip_rounds(&mut state, 2);
        state[0] ^= word;
    };
    let chunks = data.chunks_exact(8);
    let rest = word(chunks.remainder()) | (data.len() as u64) << 56;
    chunks.for_each(|chunk| take(word(chunk)));
    take(rest);
    state[2] ^= 0xff;
    sip_rounds(&mut state, 4);
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn sip_rounds(v: &mut [u64; 4], count: usize) {
    for _ in 0..count {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
}

/// `hashlittle2` of lookup3 with both seeds 0, the first result in the high half.
fn jenkins(data: &[u8]) -> u64 {
    let start = 0xdead_beef_u32.wrapping_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
    let mut v = [start; 3];
    let add = |v: &mut [u32; 3], block: &[u8]| {
        let mut padded = [0; 12];
        padded[..block.len()].copy_from_slice(block);
        for (value, bytes) in v.iter_mut().zip(padded.chunks_exact(4)) {
            let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
            *value = value.wrapping_add(u32::from_le_bytes(bytes));
        }
    };
    let mut rest = data;
    // The last block, also a whole one, is mixed in another way.
    while rest.len() > 12 {
        add(&mut v, &rest[..12]);
        for (to, from, other, bits) in MIX {
            v[to] = v[to].wrapping_sub(v[from]) ^ v[from].rotate_left(bits);
            v[from] = v[from].wrapping_add(v[other]);
        }
        rest = &rest[12..];
    }
    if !rest.is_empty() {
        add(&mut v, rest);
        for (to, from, bits) in FINAL {
            v[to] = (v[to] ^ v[from]).wrapping_sub(v[from].rotate_left(bits));
        }
    }
    u64::from(v[2]) << 32 | u64::from(v[1])
}

const MIX: [(usize, usize, usize, u32); 6] = [
    (0, 2, 1, 4),
    (1, 0, 2, 6),
    (2, 1, 0, 8),
    (0, 2, 1, 16),
    (1, 0, 2, 19),
    (2, 1, 0, 4),
];

const FINAL: [(usize, usize, u32); 7] = [
    (2, 1, 14),
    (0, 2, 11),
    (1, 0, 25),
    (2, 1, 16),
    (0, 2, 4),
    (1, 0, 14),
    (2, 1, 24),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_are_those_of_their_authors() {
        // The first and the last vectors of the reference implementation of SipHash.
        let key = std::array::from_fn(|index| u8::try_from(index).unwrap());
        assert_eq!(siphash(key, b""), 0x726f_db47_dd0e_0e31);
        let data: Vec<u8> = (0..63).collect();
        assert_eq!(siphash(key, &data), 0x958a_324c_eb06_4572);
        // lookup3.c, driver5.
        assert_eq!(jenkins(b""), 0xdead_beef_dead_beef);
        assert_eq!(
            jenkins(b"Four score and seven years ago"),
            0x1777_0551_ce72_26e6
        );
    }
}
