//! MD5, by which Nacos knows one version of a document from another. <https://www.rfc-editor.org/rfc/rfc1321>
//!
//! What a newcomer would get wrong: it keeps nobody out. It stands here, a page long, because nothing else of ours needs it and
//! nothing may come to rely on it.

use std::fmt::Write as _;

/// How far each step turns, four rounds of four.
const TURNS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// The hash, in hex of lower case.
pub(super) fn hex(bytes: &[u8]) -> String {
    // 2^32 times the sines of 1 to 64.
    let sines: [u32; 64] = std::array::from_fn(|i| ((i as f64 + 1.0).sin().abs() * 4_294_967_296.0) as u32);
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let whole = bytes.len() / 64 * 64;
    let mut rest = bytes[whole..].to_vec();
    rest.push(0x80);
    rest.resize(if rest.len() > 56 { 120 } else { 56 }, 0);
    rest.extend_from_slice(&(bytes.len() as u64).wrapping_mul(8).to_le_bytes());
    for block in bytes[..whole].chunks_exact(64).chain(rest.chunks_exact(64)) {
        mix(&mut state, block, &sines);
    }
    state.iter().flat_map(|word| word.to_le_bytes()).fold(String::with_capacity(32), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn mix(state: &mut [u32; 4], block: &[u8], sines: &[u32; 64]) {
    let word = |at: usize| {
        let byte = |i: usize| u32::from(block[at * 4 + i]) << (8 * i);
        byte(0) | byte(1) | byte(2) | byte(3)
    };
    let [mut a, mut b, mut c, mut d] = *state;
    for (step, sine) in sines.iter().enumerate() {
        let (mixed, at) = match step / 16 {
            0 => ((b & c) | (!b & d), step),
            1 => ((d & b) | (!d & c), 5 * step + 1),
            2 => (b ^ c ^ d, 3 * step + 5),
            _ => (c ^ (b | !d), 7 * step),
        };
        let sum = a.wrapping_add(mixed).wrapping_add(*sine).wrapping_add(word(at % 16));
        (a, d, c) = (d, c, b);
        b = b.wrapping_add(sum.rotate_left(TURNS[step / 16][step % 4]));
    }
    for (word, new) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_suite_of_the_rfc_passes() {
        fn check(text: &str, expected: &str) {
            assert_eq!(hex(text.as_bytes()), expected, "{text}");
        }
        check("", "d41d8cd98f00b204e9800998ecf8427e");
        check("a", "0cc175b9c0f1b6a831c399e269772661");
        check("abc", "900150983cd24fb0d6963f7d28e17f72");
        check("message digest", "f96b697d7cb7938d525a2f31aaf161d0");
        check("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b");
        check(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            "d174ab98d277d9f5a5611c2c9f419d9f",
        );
        check(&"1234567890".repeat(8), "57edf4a22be3c955ac49da2e2107b67a");
        // Where the length has no room behind the last block, and where it just has: by md5sum.
        check(&"x".repeat(55), "04364420e25c512fd958a70738aa8f72");
        check(&"x".repeat(56), "668a72d5ba17f08e62dabcafad6db14b");
        check(&"x".repeat(64), "c1bb4f81d892b2d57947682aeb252456");
    }
}
