//! How a number is written: the shortest text that reads back as the same float, in the form that Go's
//! `strconv.FormatFloat(f, 'g', -1, 64)` gives, which is what Prometheus clients have always sent:
//! `0.5`, `123456`, `1e+06`, `1.7e+09`, `+Inf`, `NaN`.
//!
//! A page has more numbers than lines, and most of them are whole or have few decimals. Those take short ways
//! that need no search for the shortest digits; ryu finds them for the rest.

/// Go's shortest `%g` takes the form with an exponent below 1e-4 and from here on.
const FIRST_WITH_EXPONENT: u32 = 1_000_000;

/// Whole numbers below this are exact in a float, and their digits are those of the integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Decimals of fewer than 16 digits all read back as different floats.
const SIXTEEN_DIGITS: f64 = 1e15;

/// Appends `value` to `out`.
pub fn write(out: &mut Vec<u8>, value: f64) {
    let whole = value as u32;
    if f64::from(whole) == value && whole < FIRST_WITH_EXPONENT && value.is_sign_positive() {
        let digits = eight_digits(whole);
        // Without its leading zeros, of which 0 keeps one.
        let skipped = (digits | 1 << 56).trailing_zeros() / 8;
        let text = (digits | ASCII as u64) >> (8 * skipped);
        append(out, |room: &mut [u8; 8]| {
            *room = text.to_le_bytes();
            8 - skipped as usize
        });
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else {
        if value.is_sign_negative() {
            out.push(b'-');
        }
        let decimal = Decimal::shortest(value.abs());
        append(out, |room| decimal.write(room));
    }
}

/// Appends `value` so that it is seen to be a float: `1.0` where [`write()`] writes `1`. OpenMetrics calls this
/// the canonical form.
pub fn write_as_float(out: &mut Vec<u8>, value: f64) {
    let start = out.len();
    write(out, value);
    if out[start..].iter().all(|byte| byte.is_ascii_digit() || *byte == b'-') {
        out.extend_from_slice(b".0");
    }
}

/// A zero in each byte, as text.
const ASCII: u128 = u128::from_le_bytes([b'0'; 16]);

/// The digits of a number below 10^8, the first one in the lowest byte. All are found side by side rather
/// than one after the other.
fn eight_digits(number: u32) -> u64 {
    // Two halves of four digits, four quarters of two, eight digits. The factors are reciprocals of 100 and
    // 10 that are exact for numbers that small.
    let halves = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    let hundreds = ((halves * 10_486) >> 20) & 0x7f_0000_007f;
    let quarters = hundreds | (halves - 100 * hundreds) << 16;
    let tens = ((quarters * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (quarters - 10 * tens) << 8
}

/// `d.ddd… × 10^exponent`.
struct Decimal {
    /// Sixteen digits as text, the first in the lowest byte; zeros at the end fill it up.
    digits: u128,
    /// One more, which some floats need.
    seventeenth: u8,
    /// How many digits there are without the zeros at the end, at least one.
    count: usize,
    exponent: i32,
}

impl Decimal {
    /// The decimal of the fewest digits that reads back as `value`, which is finite and not negative.
    fn shortest(value: f64) -> Self {
        if value < EXACT && value.fract() == 0.0 {
            return Self::of_integer(value as u64, 0);
        }
        // Microseconds, percents and their like: where the quotient of two exact numbers is `value`, and it has
        // few enough digits to be the only such decimal, it is the shortest.
        let millionths = (value * 1e6 + 0.5).floor();
        if millionths < SIXTEEN_DIGITS && millionths / 1e6 == value {
            return Self::of_integer(millionths as u64, 6);
        }
        Self::of_ryu(value)
    }

    /// `number`, which is below 10^16, divided by `10^decimals`.
    fn of_integer(number: u64, decimals: i32) -> Self {
        let high = eight_digits((number / 100_000_000) as u32);
        let low = eight_digits((number % 100_000_000) as u32);
        let digits = u128::from(high) | u128::from(low) << 64;
        let leading = (digits | 1 << 120).trailing_zeros() / 8;
        let digits = digits >> (8 * leading);
        let count = (128 - digits.leading_zeros()).div_ceil(8).max(1) as usize;
        Self { digits: digits | ASCII, seventeenth: b'0', count, exponent: 15 - leading as i32 - decimals }
    }

    fn of_ryu(value: f64) -> Self {
        // ryu writes `1.5`, `1.5e300`, `1e-7`, `0.00001`: take its digits and find where the point stands.
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(value);
        let (mantissa, exponent) = match text.split_once('e') {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().unwrap_or(0)),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = || whole.bytes().chain(fraction.bytes());
        let leading = all().take_while(|digit| *digit == b'0').count();
        let mut digits = [b'0'; 17];
        for (to, digit) in digits.iter_mut().zip(all().skip(leading)) {
            *to = digit;
        }
        let count = digits.iter().rposition(|digit| *digit != b'0').map_or(1, |last| last + 1);
        let exponent = exponent + whole.len() as i32 - 1 - leading as i32;
        let [sixteen @ .., seventeenth] = digits;
        Self { digits: u128::from_le_bytes(sixteen), seventeenth, count, exponent }
    }

    /// Writes the text to the front of `room`, the longest of which is `1.7976931348623157e+308`, and says
    /// how long it is.
    fn write(&self, room: &mut [u8; 32]) -> usize {
        let last = u128::from(self.seventeenth);
        if !(-4..6).contains(&self.exponent) {
            room[0] = self.digits as u8;
            room[1] = b'.';
            room[2..18].copy_from_slice(&(self.digits >> 8 | last << 120).to_le_bytes());
            let mantissa = if self.count == 1 { 1 } else { self.count + 1 };
            return mantissa + write_exponent(&mut room[mantissa..mantissa + 5], self.exponent);
        }
        if self.exponent < 0 {
            let zeros = (-self.exponent) as usize;
            room[..6].copy_from_slice(b"0.0000");
            room[zeros + 1..zeros + 17].copy_from_slice(&self.digits.to_le_bytes());
            room[zeros + 17] = self.seventeenth;
            return zeros + 1 + self.count;
        }
        let whole = self.exponent as usize + 1;
        room[..16].copy_from_slice(&self.digits.to_le_bytes());
        if self.count <= whole {
            return whole;
        }
        room[whole] = b'.';
        room[whole + 1..whole + 17].copy_from_slice(&(self.digits >> (8 * whole)).to_le_bytes());
        room[17] = self.seventeenth;
        self.count + 1
    }
}

/// Writes `e+06` or `e-308`, and says how long it is.
fn write_exponent(room: &mut [u8], exponent: i32) -> usize {
    let size = exponent.unsigned_abs();
    let digit = |of: u32| b'0' + (of % 10) as u8;
    room[0] = b'e';
    room[1] = if exponent < 0 { b'-' } else { b'+' };
    if size < 100 {
        room[2..4].copy_from_slice(&[digit(size / 10), digit(size)]);
        return 4;
    }
    room[2..5].copy_from_slice(&[digit(size / 100), digit(size / 10), digit(size)]);
    5
}

/// Appends what `write` writes to the front of the room that it is given, as long as it says. That room is the
/// end of `out` itself, and `N` is more than is needed: bytes that move in groups of a fixed size cost nearly
/// nothing, whereas a copy of a length found at run time is a call.
fn append<const N: usize>(out: &mut Vec<u8>, write: impl FnOnce(&mut [u8; N]) -> usize) {
    let start = out.len();
    out.extend_from_slice(&[0; N]);
    let room = out.last_chunk_mut().expect("N bytes were appended");
    let len = write(room);
    out.truncate(start + len);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            (2.2250738585072014e-308, "2.2250738585072014e-308"),
            (9_007_199_254_740_991.0, "9.007199254740991e+15"),
            (0.3, "0.3"),
            (0.1 + 0.2, "0.30000000000000004"),
            (100_000.000001, "100000.000001"),
            (999_999.9999999999, "999999.9999999999"),
            (0.00012345678901234567, "0.00012345678901234567"),
            (1e21, "1e+21"),
            (1e15, "1e+15"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            check(value, expected);
        }
    }

    /// Go's form, put together from digits that the standard library finds: as many as it needs at least, of
    /// two such decimals the closer one, of two as close the even one.
    fn as_go_writes_it(value: f64) -> String {
        let shortest = format!("{:e}", value.abs());
        let places = shortest.find('e').map_or(0, |end| end.saturating_sub(2));
        let text = format!("{:.places$e}", value.abs());
        let (mantissa, exponent) = text.split_once('e').expect("it has an exponent");
        let (digits, exponent) = (mantissa.replace('.', ""), exponent.parse::<i32>().expect("a number"));
        let sign = if value.is_sign_negative() { "-" } else { "" };
        let text = match exponent {
            6.. => format!("{mantissa}e+{exponent:02}"),
            ..-4 => format!("{mantissa}e-{:02}", -exponent),
            -4..0 => format!("0.{}{digits}", "0".repeat((-exponent - 1) as usize)),
            0..6 => {
                let whole = exponent as usize + 1;
                let padded = format!("{digits:0<whole$}");
                let (whole, fraction) = padded.split_at(whole);
                if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
            }
        };
        format!("{sign}{text}")
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

        #[test]
        fn every_finite_number_is_in_go_s_form_and_reads_back(
            value in prop_oneof![
                any::<u64>().prop_map(f64::from_bits),
                any::<u64>().prop_map(|whole| whole as f64),
                (any::<i64>(), 0..20u32).prop_map(|(digits, shift)| (digits >> (shift * 3)) as f64),
                (any::<u64>(), 0..64u32, 0..9i32)
                    .prop_map(|(digits, shift, places)| (digits >> shift) as f64 / 10f64.powi(places)),
            ]
        ) {
            if value.is_finite() {
                check(value, &as_go_writes_it(value));
            }
        }
    }

    #[test]
    fn floats_are_seen_to_be_floats() {
        for (value, expected) in [
            (1.0, "1.0"),
            (-1.0, "-1.0"),
            (0.0, "0.0"),
            (0.999, "0.999"),
            (10.0, "10.0"),
            (100_000.0, "100000.0"),
            (1e6, "1e+06"),
            (1e-5, "1e-05"),
            (f64::INFINITY, "+Inf"),
        ] {
            let mut out = b"before".to_vec();
            write_as_float(&mut out, value);
            assert_eq!(String::from_utf8_lossy(&out[6..]), expected);
        }
    }
}
