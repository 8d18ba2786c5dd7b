//! Texts on their way into a path, and out of an answer.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// How much is shown of what a server says.
const SAID: usize = 200;

/// What may stand in a part of a path, in a query or in a form as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A text as it stands between two `/` of a path, behind a `=` of a query, or in a form.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// What a server says, fit to be seen: its beginning, on one line.
pub fn said(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().map(plain).take(SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_a_part_and_what_is_said_is_one_line() {
        assert_eq!(encoded("a b/ä?#%-_.~1\u{2}&="), "a%20b%2F%C3%A4%3F%23%25-_.~1%02%26%3D");
        assert_eq!(said(" Permission\tdenied\r\n: token\n"), "Permission denied  : token");
        assert_eq!(said(&"x".repeat(900)).len(), SAID);
    }
}
