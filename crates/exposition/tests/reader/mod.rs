//! Reads what the package writes, and believes nothing: independent readers of the three formats.
//!
//! The text readers follow the grammar of each specification to the letter and refuse what it does not allow.
//! They share no line with the writers.

pub mod message;
pub mod openmetrics;
pub mod text;

/// A line with a value: name, labels in the order in which they stand, value.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
    /// How the value is written.
    pub number: String,
}

/// A family: what its comments say, and its lines.
#[derive(Clone, Debug, Default)]
pub struct Family {
    pub name: String,
    pub kind: String,
    pub help: Option<String>,
    pub samples: Vec<Sample>,
}

/// A place in a line.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn expect(&mut self, text: &str) {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or_else(|| panic!("expected {text:?} before {:?}", self.rest));
    }

    fn accept(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// `[a-zA-Z_][a-zA-Z0-9_]*`, and colons where names of metrics stand.
    fn name(&mut self, colons: bool) -> &'a str {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
        let end = self.rest.find(|c| !inside(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        assert!(name.starts_with(|c: char| !c.is_ascii_digit()), "a name begins at {:?}", self.rest);
        self.rest = rest;
        name
    }

    /// The inside of quotes, up to and with the closing one.
    fn quoted(&mut self) -> String {
        let mut text = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next().expect("quotes close") {
                '"' => break,
                '\\' => text.push(match chars.next().expect("something is escaped") {
                    'n' => '\n',
                    c @ ('"' | '\\') => c,
                    other => panic!("{other:?} is not escaped"),
                }),
                c => text.push(c),
            }
        }
        self.rest = chars.as_str();
        text
    }
}

/// `name{a="b"} value`, nothing after it.
fn sample(line: &str) -> Sample {
    let mut cursor = Cursor { rest: line };
    let name = cursor.name(true).to_owned();
    let mut labels: Vec<(String, String)> = vec![];
    if cursor.accept("{") {
        loop {
            let label = cursor.name(false).to_owned();
            cursor.expect("=\"");
            assert!(labels.iter().all(|(other, _)| *other != label), "{label} stands once in {line:?}");
            labels.push((label, cursor.quoted()));
            if cursor.accept("}") {
                break;
            }
            cursor.expect(",");
        }
    }
    cursor.expect(" ");
    let number = cursor.rest.to_owned();
    let form = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e');
    assert!(matches!(&*number, "NaN" | "+Inf" | "-Inf") || number.chars().all(form), "a number: {number:?}");
    Sample { name, labels, value: number.parse().expect("a number"), number }
}
