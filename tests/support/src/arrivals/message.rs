//! Reads remote write requests: Snappy's block format, and of Protocol Buffers as much as the two messages need.
//!
//! Written for the tests by hand, so that it shares no mistake with what made the request.
//!
//! - <https://github.com/google/snappy/blob/main/format_description.txt>
//! - <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>

use crate::{Labels, Sample};

/// Series with their samples; nothing where the request is no such message.
pub(super) fn read(body: &[u8], is_2: bool) -> Option<Vec<(Labels, Vec<Sample>)>> {
    let message = unpack(body)?;
    let fields = fields(&message)?;
    if !is_2 {
        return fields.iter().filter(|field| field.number == 1).map(|field| series_1(field.bytes?)).collect();
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let symbols: Option<Vec<String>> =
        fields.iter().filter(|field| field.number == 4).map(|field| text(field.bytes?)).collect();
    let symbols = symbols?;
    fields.iter().filter(|field| field.number == 5).map(|field| series_2(field.bytes?, &symbols)).collect()
}

fn series_1(message: &[u8]) -> Option<(Labels, Vec<Sample>)> {
    let (mut labels, mut samples) = (Labels::new(), Vec::new());
    for field in fields(message)? {
        match field.number {
            1 => {
                let mut pair = [String::new(), String::new()];
                for field in fields(field.bytes?)? {
                    *pair.get_mut(field.number as usize - 1)? =
                        String::from_utf8(field.bytes?.to_vec()).ok()?;
                }
                let [name, value] = pair;
                labels.insert(name, value);
            }
            2 => samples.push(sample(field.bytes?)?),
            _ => {}
        }
    }
    Some((labels, samples))
}

fn series_2(message: &[u8], symbols: &[String]) -> Option<(Labels, Vec<Sample>)> {
    let (mut labels, mut samples) = (Labels::new(), Vec::new());
    for field in fields(message)? {
        match field.number {
            1 => {
                let mut rest = field.bytes?;
                while !rest.is_empty() {
                    let name = symbols.get(usize::try_from(number(&mut rest)?).ok()?)?;
                    let value = symbols.get(usize::try_from(number(&mut rest)?).ok()?)?;
                    labels.insert(name.clone(), value.clone());
                }
            }
            2 => samples.push(sample(field.bytes?)?),
            _ => {}
        }
    }
    Some((labels, samples))
}

/// Value 1, time 2: the same in both versions.
fn sample(message: &[u8]) -> Option<Sample> {
    let mut sample = Sample { at: 0, value: 0.0 };
    for field in fields(message)? {
        match field.number {
            1 => sample.value = f64::from_bits(field.value),
            2 => sample.at = field.value.cast_signed(),
            _ => {}
        }
    }
    Some(sample)
}

struct Field<'a> {
    number: u64,
    value: u64,
    bytes: Option<&'a [u8]>,
}

fn fields(message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut rest = message;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let tag = number(&mut rest)?;
        let mut field = Field { number: tag >> 3, value: 0, bytes: None };
        match tag & 7 {
            0 => field.value = number(&mut rest)?,
            1 => field.value = u64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?),
            2 => {
                let length = usize::try_from(number(&mut rest)?).ok()?;
                field.bytes = Some(take(&mut rest, length)?);
            }
            5 => drop(take(&mut rest, 4)?),
            _ => return None,
        }
        found.push(field);
    }
    Some(found)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Snappy's block format: the length, then literals and copies of what came before.
fn unpack(body: &[u8]) -> Option<Vec<u8>> {
    let mut rest = body;
    let length = usize::try_from(number(&mut rest)?).ok()?;
    let mut out = Vec::with_capacity(length.min(1 << 26));
    let little = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    while !rest.is_empty() {
        let tag = usize::from(take(&mut rest, 1)?[0]);
        let (count, offset) = match tag & 3 {
            0 => {
                let count = match tag >> 2 {
                    short @ 0..60 => short,
                    long => little(take(&mut rest, long - 59)?),
                };
                out.extend_from_slice(take(&mut rest, count + 1)?);
                continue;
            }
            1 => ((tag >> 2 & 7) + 4, (tag >> 5) << 8 | little(take(&mut rest, 1)?)),
            2 => ((tag >> 2) + 1, little(take(&mut rest, 2)?)),
            _ => ((tag >> 2) + 1, little(take(&mut rest, 4)?)),
        };
        // One by one: a copy may read what it has just written.
        let from = out.len().checked_sub(offset).filter(|_| offset > 0)?;
        for at in from..from + count {
            out.push(out[at]);
        }
    }
    (out.len() == length).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snappy_blocks_are_unpacked() {
        let check = |body: &[u8], expected: &[u8]| assert_eq!(unpack(body).as_deref(), Some(expected));
        check(&[0], b"");
        check(&[3, 2 << 2, b'a', b'b', b'c'], b"abc");
        // A literal of one byte, then a copy that overlaps itself: 7 bytes from 1 before.
        check(&[8, 0, b'a', 3 << 2 | 1, 1], b"aaaaaaaa");
        check(&[6, 2 << 2, b'a', b'b', b'c', 2 << 2 | 2, 3, 0], b"abcabc");
        assert_eq!(unpack(&[4, 2 << 2, b'a', b'b', b'c']), None);
        assert_eq!(unpack(&[8, 0, b'a', 3 << 2 | 1, 2]), None);
    }

    fn field(number: u8, body: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(body.len()).expect("short")], body].concat()
    }

    fn packed(message: &[u8]) -> Vec<u8> {
        let length = u8::try_from(message.len()).expect("short");
        [&[length, 60 << 2, length - 1], message].concat()
    }

    #[test]
    fn both_versions_say_the_same() {
        let point = [&[9][..], &2.5f64.to_le_bytes(), &[16, 0x96, 1]].concat();
        let label = |name: &[u8], value: &[u8]| field(1, &[field(1, name), field(2, value)].concat());
        let first = field(1, &[label(b"__name__", b"up"), label(b"a", b"b"), field(2, &point)].concat());
        let symbols: Vec<u8> =
            [&b""[..], b"__name__", b"up", b"a", b"b"].iter().flat_map(|word| field(4, word)).collect();
        let second = [symbols, field(5, &[field(1, &[1, 2, 3, 4]), field(2, &point)].concat())].concat();
        let labels: Labels = [("__name__", "up"), ("a", "b")].map(|(n, v)| (n.into(), v.into())).into();
        let expected = vec![(labels, vec![Sample { at: 150, value: 2.5 }])];
        assert_eq!(read(&packed(&first), false), Some(expected.clone()));
        assert_eq!(read(&packed(&second), true), Some(expected));
        assert_eq!(read(&packed(&second[..second.len() - 1]), true), None);
    }
}
