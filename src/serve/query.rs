//! The query of a request: names and values, decoded.
//!
//! What a newcomer would get wrong: an empty value is as if the parameter were absent, and of several of one
//! name the first counts, as in the peer.

use percent_encoding::percent_decode;

/// How often a parameter counts. Each is looked for among all families of all members.
const MOST: usize = 256;

/// The parameters of a request, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
    /// Names of parameters whose encoding is broken; they are not among the pairs.
    broken: Vec<String>,
}

impl Query {
    /// Reads what stands behind the `?`.
    pub fn parse(text: Option<&str>) -> Self {
        let mut query = Self::default();
        for pair in text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) => query.pairs.push((name, value)),
                (Some(name), None) => query.broken.push(name),
                (None, _) => query.broken.push("?".into()),
            }
        }
        query
    }

    /// The first value of that name that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs().find(|(known, value)| *known == name && !value.is_empty()).map(|(_, value)| value)
    }

    /// All values of that name; of thousands the first `MOST`.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.pairs().filter(|(known, value)| *known == name && !value.is_empty());
        values.take(MOST).map(|(_, value)| value.to_owned()).collect()
    }

    /// Names and values.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The name of a parameter whose encoding is broken, if there is one.
    pub fn broken(&self) -> Option<&str> {
        self.broken.first().map(String::as_str)
    }
}

/// `+` and `%XX`. `None` for a `%` without two digits, and for what is no UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut parts = text.as_bytes().split(|b| *b == b'%');
    parts.next();
    let is_digits = |part: &[u8]| part.get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    if !parts.all(is_digits) {
        return None;
    }
    let spaced = text.replace('+', " ");
    percent_decode(spaced.as_bytes()).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)], broken: Option<&str>) {
        let query = Query::parse(Some(text));
        assert_eq!(query.pairs().collect::<Vec<_>>(), expected, "{text}");
        assert_eq!(query.broken(), broken, "{text}");
    }

    #[test]
    fn names_and_values_are_decoded() {
        check("", &[], None);
        check("a=1&b=2&&a=3&c", &[("a", "1"), ("b", "2"), ("a", "3"), ("c", "")], None);
        check("t=redis%3A%2F%2Fh%3A1&n%5B%5D=a+b%2B", &[("t", "redis://h:1"), ("n[]", "a b+")], None);
        check("a=b=c", &[("a", "b=c")], None);
        check("a=é%C3%A9", &[("a", "éé")], None);
    }

    #[test]
    fn broken_encodings_are_told_by_name() {
        for text in ["a=%", "a=%4", "a=%zz", "a=%%41", "a=%ff"] {
            check(&format!("x=1&{text}"), &[("x", "1")], Some("a"));
        }
        check("%=1", &[], Some("?"));
    }

    #[test]
    fn an_empty_value_is_as_if_absent() {
        let query = Query::parse(Some("t=&t=x&t=y&n=&n=1&n=2"));
        assert_eq!((query.get("t"), query.get("none")), (Some("x"), None));
        assert_eq!(query.all("n"), ["1", "2"]);
    }

    #[test]
    fn a_parameter_counts_256_times() {
        let all = Query::parse(Some(&"n=x&".repeat(300))).all("n");
        assert_eq!(all.len(), 256);
    }
}
