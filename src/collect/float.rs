//! Texts that count as numbers: what Go's `strconv.ParseFloat` takes, since the peer is written in Go.
//!
//! Beside the usual forms these are `inf`, `infinity` and `nan` in upper or lower case, hexadecimal floats
//! (`0x1p4`), and `_` between digits. A number too large for a float is none.
//! <https://pkg.go.dev/strconv#ParseFloat>

/// The number that `text` is, if it is one.
pub fn parse(text: &str) -> Option<f64> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let value = match rest.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => f64::INFINITY,
        // A signed one is none to Go.
        "nan" if rest.len() == text.len() => f64::NAN,
        lower if !has_good_underscores(lower) => return None,
        lower => {
            let digits = lower.replace('_', "");
            let value = match digits.strip_prefix("0x") {
                Some(hex) => hexadecimal(hex)?,
                None if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                    digits.parse().ok()?
                }
                None => return None,
            };
            if value.is_infinite() {
                return None;
            }
            value
        }
    };
    Some(if negative { -value } else { value })
}

/// `_` may stand between two digits, and between `0x` and a digit.
fn has_good_underscores(text: &str) -> bool {
    let bytes = text.as_bytes();
    let hex = text.starts_with("0x");
    let is_digit = |at: usize| {
        bytes.get(at).is_some_and(|b| b.is_ascii_digit() || hex && matches!(b, b'a'..=b'f')) || hex && at == 1
    };
    let mut underscores = (0..bytes.len()).filter(|at| bytes[*at] == b'_');
    underscores.all(|at| at > 0 && is_digit(at - 1) && is_digit(at + 1))
}

/// `1.8p1`: hexadecimal digits with a point, and a power of two, which must be there.
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if whole.len() + fraction.len() == 0 || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Far outside of what a float can have, and still safe to add to.
    let limit = 1 << 40;
    let exponent: i64 = digits.parse().unwrap_or(limit).min(limit);
    let mut exponent = if text.contains("p-") { -exponent } else { exponent };
    exponent -= 4 * fraction.len() as i64;
    let mut significant: u64 = 0;
    for digit in whole.chars().chain(fraction.chars()) {
        let digit = u64::from(digit.to_digit(16)?);
        if significant >> 59 == 0 {
            significant = significant << 4 | digit;
        } else {
            // Too many digits to keep: whether they are 0 decides how the last kept one is rounded.
            significant |= u64::from(digit != 0);
            exponent += 4;
        }
    }
    let mut value = significant as f64;
    while exponent != 0 && value != 0.0 && value.is_finite() {
        let step = exponent.clamp(-1000, 1000);
        value *= 2f64.powi(step as i32);
        exponent -= step;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<f64>) {
        let found = parse(text);
        let same = found.map(f64::to_bits) == expected.map(f64::to_bits)
            || found.zip(expected).is_some_and(|(a, b)| a.is_nan() && b.is_nan());
        assert!(same, "{text:?}: {found:?}, not {expected:?}");
    }

    #[test]
    fn what_go_takes_is_a_number() {
        for (text, value) in [
            ("1234.56", 1234.56),
            ("-1", -1.0),
            ("+1", 1.0),
            ("1.", 1.0),
            (".5", 0.5),
            ("1e3", 1000.0),
            ("1E-3", 0.001),
            ("-0", -0.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("+INF", f64::INFINITY),
            ("NaN", f64::NAN),
            ("1_000", 1000.0),
            ("1_23.50_0_0e+1_2", 1.235e14),
            ("0x1p4", 16.0),
            ("0X1.8P1", 3.0),
            ("0x_1.8p1", 3.0),
            ("-0x.8p-1", -0.25),
            ("0x1p-1080", 0.0),
            ("0x1p-1074", 5e-324),
            ("0x123456789abcdef01p-4", 0x1234_5678_9abc_def0_u64 as f64),
            ("1e-999", 0.0),
        ] {
            check(text, Some(value));
        }
    }

    #[test]
    fn what_go_does_not_take_is_none() {
        for text in [
            "", " ", " 1", "1 ", "+", "-", ".", "e5", "1e", "1e999", "-1e999", "0x1p2000", "0x10", "0xp4",
            "0x1p", "0x1p+", "0x1.gp1", "+nan", "-nan", "in", "infi", "_1", "1_", "1__0", "1_.5", "1._5",
            "1e_5", "0x1_p4", "--1", "+-1", "abc", "1,5", "٣",
        ] {
            check(text, None);
        }
    }
}
