//! Numbers, switches and durations as Go programs read them, and one line of CSV.
//!
//! Operators bring their flags and variables along from the peer, which is written in Go: `1m30s`, `0x10`
//! and `T` must mean here what they mean there. Every function is pure. An error is the end of a sentence
//! that begins with the value: `"15" is no duration …`.
//!
//! What a newcomer would get wrong: Go reads integers on the command line in any base, but those in
//! variables in base ten only.

use std::time::Duration;

/// A Go duration: `15s`, `500ms`, `1m30s`, `1.5h`, `0`. A negative one is an error.
/// Grammar: <https://pkg.go.dev/time#ParseDuration>.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let nanos = nanoseconds(unsigned)
        .ok_or("is no duration; expected a number with a unit, such as 15s, 500ms or 1m30s")?;
    if negative && nanos > 0 {
        return Err("is below zero; expected a duration of 0 or more, such as 15s".into());
    }
    Ok(Duration::from_nanos(nanos))
}

/// Nanoseconds, at most what Go can count (292 years).
fn nanoseconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        rest = after;
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        // More than 18 digits behind the point are less than a nanosecond of any unit.
        let fraction = &fraction[..fraction.len().min(18)];
        let scale = 10_u128.pow(fraction.len() as u32);
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let part: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
        total += u128::from(whole) * unit + u128::from(part) * unit / scale;
        if total > i64::MAX as u128 {
            return None;
        }
    }
    u64::try_from(total).ok().filter(|_| !text.is_empty())
}

/// A duration as Prometheus writes it: `15s`, `5m`, `1h30m`, `500ms`, `1d`, whole numbers, the largest unit first.
/// Grammar: <https://prometheus.io/docs/prometheus/latest/configuration/configuration/>.
pub fn prometheus_duration(text: &str) -> Result<Duration, String> {
    let millis = milliseconds(text)
        .ok_or("is no duration; expected whole numbers with units, such as 15s, 5m, 1h30m or 500ms")?;
    Ok(Duration::from_millis(millis))
}

/// The units of Prometheus in milliseconds, in the order in which they may stand.
const UNITS: [(&str, u64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

fn milliseconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut total) = (text, 0_u64);
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*millis)?)?;
        rest = after;
    }
    Some(total).filter(|_| !text.is_empty())
}

/// A duration as [`prometheus_duration`] reads it. What is less than a millisecond is cut off.
pub fn written(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    // Nobody writes weeks and years for what we have.
    for (unit, millis) in &UNITS[2..] {
        if rest >= *millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// The units of sizes, the largest first: powers of 1024 before those of 1000, which are only read.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

/// A size in bytes: a whole number with a unit, `2GiB`, `512MiB`, `500MB`. Without a unit it is bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit.strip_prefix(' ').unwrap_or(unit) {
        "" => Some(1),
        "KB" => Some(1000),
        unit => SIZES.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes),
    };
    let bytes = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    bytes.ok_or_else(|| {
        "is no size; expected a whole number with a unit, such as 2GiB, 512MiB or 500MB".into()
    })
}

/// A size as [`bytes()`] reads it, in the largest unit that it is a multiple of.
pub fn written_bytes(bytes: u64) -> String {
    let whole = SIZES.iter().filter(|(_, size)| size.is_power_of_two());
    let unit = whole.into_iter().find(|(_, size)| bytes.is_multiple_of(*size) && bytes > 0);
    unit.map_or_else(|| "0B".into(), |(unit, size)| format!("{}{unit}", bytes / size))
}

/// Where an integer comes from, which says how it may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Radix {
    /// A Go integer literal: `0x1f`, `0o17`, `017`, `0b1`, `1_000`. The command line.
    Any,
    /// Decimal digits only. Environment variables.
    Ten,
}

/// A Go integer of 64 bits.
pub fn integer(text: &str, radix: Radix) -> Result<i64, String> {
    let number = match radix {
        Radix::Ten => text.parse().ok(),
        Radix::Any => literal(text),
    };
    number.ok_or_else(|| "is no whole number of 64 bits".into())
}

fn literal(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, body) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // An underscore stands between two digits, or between the prefix and the first digit.
    let body = if base == 10 { body } else { body.strip_prefix('_').unwrap_or(body) };
    if body.split('_').any(|group| group.is_empty() || group.starts_with(['+', '-'])) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{}", body.replace('_', "")), base).ok()
}

/// A Go boolean: `1 t T true TRUE True`, `0 f F false FALSE False`.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("is no boolean; expected true or false".into()),
    }
}

/// One record of CSV: fields by comma, `"…"` around a field that holds a comma, `""` for a quote in it.
/// Blanks around fields and empty fields go away.
/// Grammar: <https://pkg.go.dev/encoding/csv>.
pub fn csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut chars = text.trim().chars().peekable();
    let mut at_start = true;
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("there is one from the start");
        match c {
            ',' => {
                fields.push(String::new());
                at_start = true;
                continue;
            }
            '\n' => return Err("has more than one line; expected one line of CSV".into()),
            '"' if at_start => loop {
                match chars.next() {
                    Some('"') if chars.peek() == Some(&'"') => {
                        chars.next();
                        field.push('"');
                    }
                    Some('"') if matches!(chars.peek(), None | Some(',')) => break,
                    Some('"') => {
                        return Err("has text behind a closing quote; a quote in quotes is doubled".into());
                    }
                    Some(c) => field.push(c),
                    None => return Err("has a quote that is not closed".into()),
                }
            },
            '"' => {
                return Err(
                    "has a quote inside a field; expected \"…\" around the whole field, and a quote \
                            in it doubled"
                        .into(),
                );
            }
            c => field.push(c),
        }
        at_start = false;
    }
    Ok(fields.iter().map(|field| field.trim().to_owned()).filter(|field| !field.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_nanos), "{text}");
        }
        check("15s", Some(15_000_000_000));
        check("500ms", Some(500_000_000));
        check("1m30s", Some(90_000_000_000));
        check("1.5h", Some(5_400_000_000_000));
        check("0", Some(0));
        check("+5s", Some(5_000_000_000));
        check("-0s", Some(0));
        check(".5s", Some(500_000_000));
        check("1.s", Some(1_000_000_000));
        check("1h2m3.004s5us6µs7ns", Some(3_723_004_011_007));
        check("0.3333333333333333333333333s", Some(333_333_333));
        check("9223372036854775807ns", Some(i64::MAX as u64));
        check("9223372036854775808ns", None);
        check("9999999999h", None);
        for text in ["", "15", "s", ".s", "1.2.3s", "1x", "15 s", "-1s", "--1s", "1s2", "1é", "1S"] {
            check(text, None);
        }
    }

    #[test]
    fn integers_are_those_of_go() {
        fn check(text: &str, any: Option<i64>, ten: Option<i64>) {
            assert_eq!(
                (integer(text, Radix::Any).ok(), integer(text, Radix::Ten).ok()),
                (any, ten),
                "{text}"
            );
        }
        check("0", Some(0), Some(0));
        check("-7", Some(-7), Some(-7));
        check("+7", Some(7), Some(7));
        check("9223372036854775807", Some(i64::MAX), Some(i64::MAX));
        check("-9223372036854775808", Some(i64::MIN), Some(i64::MIN));
        check("9223372036854775808", None, None);
        check("0x1F", Some(31), None);
        check("0X_1f", Some(31), None);
        check("-0o17", Some(-15), None);
        check("017", Some(15), Some(17));
        check("0b101", Some(5), None);
        check("1_000", Some(1000), None);
        check("0_7", Some(7), None);
        for text in ["", "-", "_1", "1_", "1__0", "0x", "0x_", "0b2", "+-1", "0x-1", "1e3", "1.0", " 1"] {
            check(text, None, None);
        }
        check("08", None, Some(8));
    }

    #[test]
    fn booleans_are_those_of_go() {
        fn check(text: &str, expected: Option<bool>) {
            assert_eq!(boolean(text).ok(), expected, "{text}");
        }
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            check(text, Some(true));
        }
        for text in ["0", "f", "F", "false", "FALSE", "False"] {
            check(text, Some(false));
        }
        for text in ["", "yes", "on", "tRUE", "2", " true"] {
            check(text, None);
        }
    }

    #[test]
    fn csv_has_quotes_and_no_empty_fields() {
        fn check(text: &str, expected: Option<&[&str]>) {
            let fields = csv(text).ok();
            assert_eq!(
                fields.as_deref().map(|f| f.iter().map(String::as_str).collect::<Vec<_>>()),
                expected.map(<[_]>::to_vec),
                "{text}"
            );
        }
        check("", Some(&[]));
        check(" , ,", Some(&[]));
        check("^(key_%a+)_%d+$, ^(%d+) ", Some(&["^(key_%a+)_%d+$", "^(%d+)"]));
        check(r#""a,b",c"#, Some(&["a,b", "c"]));
        check(r#""a""b""#, Some(&[r#"a"b"#]));
        check(r#""","x""#, Some(&["x"]));
        check(r#"",","x""#, Some(&[",", "x"]));
        check("\"a\nb\"", Some(&["a\nb"]));
        check("a\n", Some(&["a"]));
        for text in ["a\"b", "\"a\"b", "\"a", " x \"a\"", "a\nb"] {
            check(text, None);
        }
    }

    #[test]
    fn durations_of_prometheus_are_whole_numbers_with_units_in_order() {
        fn check(text: &str, expected: Option<(u64, &str)>) {
            let duration = prometheus_duration(text).ok();
            let found = duration.map(|d| (u64::try_from(d.as_millis()).expect("small"), written(d)));
            assert_eq!(found, expected.map(|(millis, text)| (millis, text.to_owned())), "{text}");
        }
        check("15s", Some((15_000, "15s")));
        check("5m", Some((300_000, "5m")));
        check("1h30m", Some((5_400_000, "1h30m")));
        check("500ms", Some((500, "500ms")));
        check("90s", Some((90_000, "1m30s")));
        check("1d", Some((86_400_000, "1d")));
        check("1y2w", Some((32_745_600_000, "379d")));
        check("0", Some((0, "0s")));
        check("0s", Some((0, "0s")));
        for text in [
            "",
            "15",
            "s",
            "1.5s",
            "-1s",
            "1s1h",
            "1s1s",
            "1 s",
            "1us",
            "99999999999999999999s",
            "9999999999y",
            "1sm",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn sizes_are_whole_numbers_with_a_unit() {
        fn check(text: &str, expected: Option<(u64, &str)>) {
            let found = bytes(text).ok().map(|bytes| (bytes, written_bytes(bytes)));
            assert_eq!(found, expected.map(|(bytes, text)| (bytes, text.to_owned())), "{text}");
        }
        check("2GiB", Some((2 << 30, "2GiB")));
        check("512MiB", Some((512 << 20, "512MiB")));
        check("1024 MiB", Some((1 << 30, "1GiB")));
        check("1536MiB", Some((1536 << 20, "1536MiB")));
        check("500MB", Some((500_000_000, "500000000B")));
        check("3TB", Some((3_000_000_000_000, "2929687500KiB")));
        check("1KB", Some((1000, "1000B")));
        check("1kB", Some((1000, "1000B")));
        check("7", Some((7, "7B")));
        check("0", Some((0, "0B")));
        check("16777215TiB", Some((16_777_215 << 40, "16777215TiB")));
        for text in [
            "",
            "GiB",
            "1.5GiB",
            "-1GiB",
            "2Gi",
            "2gib",
            "1GiB1MiB",
            "16777216TiB",
            "18446744073709551616",
            "2  GiB",
        ] {
            check(text, None);
        }
    }
}
