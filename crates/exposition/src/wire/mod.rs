//! The bytes under the message formats: Protocol Buffers, as far as we write them; [`read`] reads them.
//!
//! <https://protobuf.dev/programming-guides/encoding/>
//!
//! A message says its length before its content. The content is written first, behind one byte kept for the
//! length, and moves on where one byte does not do: most messages are short, and nothing is measured twice.

pub mod read;

/// Appends the number of a field that holds `number`.
pub fn uint(out: &mut Vec<u8>, field: u32, number: u64) {
    tag(out, field, VARINT);
    varint(out, number);
}

/// Appends a field that holds a float.
pub fn double(out: &mut Vec<u8>, field: u32, number: f64) {
    fixed64(out, field, number.to_bits());
}

/// Appends a field that holds eight bytes.
pub fn fixed64(out: &mut Vec<u8>, field: u32, number: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&number.to_le_bytes());
}

/// Appends a field that holds bytes.
pub fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    head(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a field that holds text.
pub fn string(out: &mut Vec<u8>, field: u32, text: &str) {
    bytes(out, field, text.as_bytes());
}

/// Appends a field that holds the message that `write` writes.
pub fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, LENGTH_DELIMITED);
    delimited(out, write);
}

/// Appends what `write` writes, its length first.
pub fn delimited(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    write(out);
    let start = at + 1;
    let len = out.len() - start;
    let more = len.checked_ilog2().unwrap_or(0) as usize / 7;
    out.resize(out.len() + more, 0);
    out.copy_within(start..start + len, start + more);
    for (i, byte) in out[at..start + more].iter_mut().enumerate() {
        *byte = (len >> (7 * i)) as u8 & 0x7f | if i < more { 0x80 } else { 0 };
    }
}

/// Appends what stands before `len` bytes of a message or a text, which the caller appends.
pub fn head(out: &mut Vec<u8>, field: u32, len: usize) {
    tag(out, field, LENGTH_DELIMITED);
    varint(out, len as u64);
}

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;

fn tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(out, u64::from(field << 3 | wire_type));
}

/// How many bytes [`varint`] appends.
pub(crate) fn varint_len(number: u64) -> usize {
    number.checked_ilog2().unwrap_or(0) as usize / 7 + 1
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
pub(crate) fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl FnOnce(&mut Vec<u8>), expected: &[u8]) {
        let mut out = vec![];
        write(&mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn numbers_take_seven_bits_a_byte() {
        for (number, expected) in [
            (0, &[0x08, 0][..]),
            (127, &[0x08, 0x7f]),
            (128, &[0x08, 0x80, 1]),
            (300, &[0x08, 0xac, 2]),
            (u64::MAX, &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            check(|out| uint(out, 1, number), expected);
            assert_eq!(varint_len(number), expected.len() - 1);
        }
    }

    #[test]
    fn a_message_moves_on_when_its_length_needs_more_room() {
        for (len, prefix) in [(0, &[0x0a, 0][..]), (127, &[0x0a, 127]), (128, &[0x0a, 0x80, 1])] {
            let expected = [prefix, &vec![b'x'; len]].concat();
            check(|out| message(out, 1, |out| out.extend(vec![b'x'; len])), &expected);
        }
        let long = vec![b'x'; 20_000];
        check(|out| delimited(out, |out| out.extend(&long)), &[&[0xa0, 0x9c, 1], &long[..]].concat());
    }

    #[test]
    fn floats_and_text_follow_their_tag() {
        check(|out| double(out, 2, 1.0), &[0x11, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
        check(|out| string(out, 3, "aé"), &[0x1a, 3, b'a', 0xc3, 0xa9]);
    }
}
