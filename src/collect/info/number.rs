//! The numbers of INFO, and the words that stand for one.

/// A number, or a word that stands for 1 or 0.
pub fn number(value: &str) -> Option<f64> {
    if let Some(number) = short(value.as_bytes()) {
        return Some(number);
    }
    match value {
        "ok" | "true" => Some(1.0),
        "err" | "fail" | "false" => Some(0.0),
        other => other.parse().ok(),
    }
}

/// A number of up to 15 digits, perhaps with a point among them: nearly all are, and a collection reads a
/// thousand. The digits and the power of ten are floats without error, so their quotient is the one that
/// the longer way would find.
fn short(bytes: &[u8]) -> Option<f64> {
    const POWERS: [f64; 16] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    if bytes.len() > 15 {
        return None;
    }
    let (mut digits, mut point, mut number) = (0, None, 0u64);
    for byte in bytes {
        match byte {
            b'0'..=b'9' => {
                number = number * 10 + u64::from(byte - b'0');
                digits += 1;
            }
            b'.' if point.is_none() => point = Some(digits),
            _ => return None,
        }
    }
    let number = number as f64;
    match point {
        _ if digits == 0 => None,
        None => Some(number),
        Some(point) => Some(number / POWERS[digits - point]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_to_read_a_number_finds_what_the_long_way_does() {
        let odd = [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "1e3",
            "1.2.3",
            "+1",
            "0x1",
            "inf",
            "99999999999999.9",
            "123456789012345.6",
        ];
        for text in
            odd.iter().copied().chain(["0", "0.001", "23.039", "757.759", "0.1", "4.35", "999999999999999"])
        {
            assert_eq!(number(text), text.parse().ok(), "{text}");
        }
    }
}
