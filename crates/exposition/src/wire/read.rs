//! Reads messages of Protocol Buffers that came from outside: nothing is believed, nothing is copied.

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A whole number.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// Text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
}

/// What is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong, as a sentence without an end.
    pub what: &'static str,
    /// Behind which byte of the whole.
    pub at: usize,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, at byte {}", self.what, self.at)
    }
}

impl std::error::Error for Malformed {}

/// The fields of a message, in their order; ends at the first that is malformed, with an error.
pub struct Fields<'a> {
    rest: &'a [u8],
    end: usize,
    what: &'static str,
}

/// Reads `message`, which ends at the byte `end` of the whole; `what` is what its errors say.
pub fn fields<'a>(message: &'a [u8], end: usize, what: &'static str) -> Fields<'a> {
    Fields { rest: message, end, what }
}

impl<'a> Fields<'a> {
    /// Where in the whole the field ends that was read last. The value ends there, too.
    pub fn at(&self) -> usize {
        self.end - self.rest.len()
    }

    /// An error at that place.
    pub fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at() }
    }

    fn next_field(&mut self) -> Option<(u32, Value<'a>)> {
        let key = varint(&mut self.rest)?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let len = usize::try_from(varint(&mut self.rest)?).ok()?;
                Value::Bytes(self.take(len)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((number, value))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.next_field();
        let faulty = self.malformed(self.what);
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or(faulty))
    }
}

/// The numbers of a packed field, which ends at the byte `end` of the whole.
pub fn packed<'a>(
    mut bytes: &'a [u8],
    end: usize,
    what: &'static str,
) -> impl Iterator<Item = Result<u64, Malformed>> + use<'a> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let number = varint(&mut bytes).ok_or(Malformed { what, at: end - bytes.len() });
        if number.is_err() {
            bytes = &[];
        }
        Some(number)
    })
}

/// At most ten bytes; what does not fit into 64 bits is malformed.
fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    fn check(message: &[u8], expected: Result<&[(u32, Value<'_>)], ()>) {
        let end = 100 + message.len();
        let read: Result<Vec<_>, _> = fields(message, end, "this is nonsense").collect();
        if let Err(fault) = &read {
            assert!((100..=end).contains(&fault.at));
            assert_eq!(fault.to_string(), format!("this is nonsense, at byte {}", fault.at));
        }
        assert_eq!(read.map_err(drop).as_deref(), expected.as_ref().map(|fields| *fields));
    }

    #[test]
    fn what_is_written_reads_back_and_what_is_cut_is_malformed() {
        let mut out = vec![];
        wire::uint(&mut out, 1, u64::MAX);
        wire::double(&mut out, 2, 1.5);
        wire::string(&mut out, 300, "text");
        let all = [
            (1, Value::Varint(u64::MAX)),
            (2, Value::Fixed64(1.5f64.to_bits())),
            (300, Value::Bytes(b"text")),
        ];
        check(&out, Ok(&all));
        for end in 0..out.len() {
            match end {
                0 => check(&[], Ok(&[])),
                11 => check(&out[..end], Ok(&all[..1])),
                20 => check(&out[..end], Ok(&all[..2])),
                _ => check(&out[..end], Err(())),
            }
        }
    }

    #[test]
    fn fields_of_every_length_are_read_and_nonsense_is_malformed() {
        check(&[0x0d, 1, 2, 3, 4, 0x10, 5], Ok(&[(1, Value::Fixed32(0x0403_0201)), (2, Value::Varint(5))]));
        check(&[0x00, 1], Err(()));
        check(&[0x0b], Err(()));
        check(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], Err(()));
        check(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Err(()));
        let numbers: Vec<_> = packed(&[1, 0x80, 1, 0x80], 104, "no list").collect();
        assert_eq!(numbers, [Ok(1), Ok(128), Err(Malformed { what: "no list", at: 104 })]);
    }
}
