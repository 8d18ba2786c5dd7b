//! How a number is written: the shortest text that reads back as the same float, in the form that Go's
//! `strconv.FormatFloat(f, 'g', -1, 64)` gives, which is what Prometheus clients have always sent:
//! `0.5`, `123456`, `1e+06`, `1.7e+09`, `+Inf`, `NaN`.

/// Go's shortest `%g` takes the form with an exponent below 1e-4 and from here on.
const FIRST_WITH_EXPONENT: u32 = 1_000_000;

/// Integers below this are exact in a float, and their digits are those of the integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Appends `value` to `out`.
pub fn write(out: &mut Vec<u8>, value: f64) {
    // Most numbers of a page are small whole ones, and those look like the integer that they are.
    let whole = value as u32;
    if f64::from(whole) == value && whole < FIRST_WITH_EXPONENT && value.is_sign_positive() {
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else {
        let mut text = Short::default();
        if value.is_sign_negative() {
            text.push(b'-');
        }
        text.push_magnitude(value.abs());
        out.extend_from_slice(text.as_bytes());
    }
}

/// A number under construction. The longest, `-1.7976931348623157e+308`, has 24 bytes.
#[derive(Default)]
struct Short {
    bytes: [u8; 32],
    len: usize,
}

impl Short {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push_magnitude(&mut self, value: f64) {
        if value < EXACT && value.fract() == 0.0 {
            let mut buffer = itoa::Buffer::new();
            let digits = buffer.format(value as u64).as_bytes();
            return self.place(digits, digits.len() as i32 - 1);
        }
        // ryu writes `1.5`, `1.5e300`, `1e-7`, `0.00001`: take its digits and find where the point stands.
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(value);
        let (mantissa, exponent) = match text.split_once('e') {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().unwrap_or(0)),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = Self::default();
        digits.extend(whole.as_bytes());
        digits.extend(fraction.as_bytes());
        let leading = digits.as_bytes().iter().take_while(|d| **d == b'0').count();
        self.place(&digits.as_bytes()[leading..], exponent + whole.len() as i32 - 1 - leading as i32);
    }

    /// Writes `d.ddd × 10^exponent`; zeros at the end of `digits` mean nothing.
    fn place(&mut self, digits: &[u8], exponent: i32) {
        let (first, rest) = digits.split_first().expect("a number has a digit");
        let trailing = rest.iter().rev().take_while(|d| **d == b'0').count();
        let digits = &digits[..digits.len() - trailing];
        let rest = &rest[..rest.len() - trailing];
        if !(-4..6).contains(&exponent) {
            self.push(*first);
            if !rest.is_empty() {
                self.push(b'.');
                self.extend(rest);
            }
            self.extend(if exponent < 0 { b"e-" } else { b"e+" });
            let size = exponent.unsigned_abs();
            if size < 10 {
                self.push(b'0');
            }
            self.extend(itoa::Buffer::new().format(size).as_bytes());
        } else if exponent < 0 {
            self.extend(&b"0.0000"[..(1 - exponent) as usize]);
            self.extend(digits);
        } else {
            let whole = exponent as usize + 1;
            if digits.len() <= whole {
                self.extend(digits);
                (digits.len()..whole).for_each(|_| self.push(b'0'));
            } else {
                self.extend(&digits[..whole]);
                self.push(b'.');
                self.extend(&digits[whole..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: f64, expected: &str) {
        let mut out = vec![];
        write(&mut out, value);
        let text = String::from_utf8(out).expect("numbers are ASCII");
        assert_eq!(text, expected);
        if value.is_finite() {
            assert_eq!(text.parse::<f64>().expect("reads back").to_bits(), value.to_bits());
        }
    }

    #[test]
    fn numbers_look_as_go_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (0.5, "0.5"),
            (100.0, "100"),
            (123456.0, "123456"),
            (999999.0, "999999"),
            (1e6, "1e+06"),
            (1234567.0, "1.234567e+06"),
            (1.7e9, "1.7e+09"),
            (1785926400.25, "1.78592640025e+09"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.000123, "0.000123"),
            (123.456, "123.456"),
            (123456.789, "123456.789"),
            (9_007_199_254_740_993.0, "9.007199254740992e+15"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            check(value, expected);
        }
    }
}
