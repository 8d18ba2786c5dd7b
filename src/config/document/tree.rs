//! YAML text as a tree of nodes that know where they stand.
//!
//! A tree knows nothing of what may be written: that is the matter of [`schema`](super::schema). It is what
//! documents from several places can be merged as, for each node keeps the name of its own document and its line.
//!
//! Of YAML (<https://yaml.org/spec/1.2.2/>) one document a text is read, without anchors, aliases and tags: an
//! alias could make a few lines into gigabytes, and a tag changes what a value is behind the back of the schema.
//!
//! What a newcomer would get wrong: a key that is given twice is twice in the mapping. Who reads the mapping knows
//! the path of the field, and complains.

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput};
use std::fmt;
use std::sync::Arc;

/// The longest text that is read, in bytes.
pub const LONGEST: usize = 4 << 20;

/// How deep mappings and sequences may be nested.
pub const DEEPEST: usize = 16;

/// How many nodes there may be.
pub const MOST_NODES: usize = 400_000;

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The name of the document: a path.
    pub document: Arc<str>,
    /// From 1; 0: it is no text.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

/// `redvigil.yaml:12`; without a line where the document is no text.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return f.write_str(&self.document);
        }
        write!(f, "{}:{}", self.document, self.line)
    }
}

/// A value with its place. Not `Debug`: the text may be a password.
#[derive(Clone)]
pub struct Node {
    /// Where it begins.
    pub mark: Mark,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone)]
pub enum Value {
    /// Keys and their values in the order of the text; a key may be there twice.
    Mapping(Vec<Entry>),
    /// Items in their order.
    Sequence(Vec<Node>),
    /// A text.
    Scalar {
        /// What it says, without quotes.
        text: String,
        /// Whether it stands there without quotes: only then can it be a number, a switch or nothing.
        plain: bool,
    },
}

/// A key and its value.
#[derive(Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub mark: Mark,
    /// The value.
    pub value: Node,
}

/// Why a text is no tree. The message shows nothing of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub mark: Mark,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl Node {
    /// A document without a word.
    pub fn nothing() -> Self {
        let mark = Mark { document: "".into(), line: 1, column: 1 };
        Self { mark, value: Value::Scalar { text: String::new(), plain: true } }
    }

    /// Whether it says nothing: an empty place, `~` or `null`.
    pub fn is_nothing(&self) -> bool {
        match &self.value {
            Value::Scalar { text, plain: true } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// The value of a key, the first where there are several; `None` for what is no mapping, too.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Mapping(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
            }
            _ => None,
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The items of a sequence; of anything else, none.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }
}

/// Reads a text. One without content is a node that says nothing.
pub fn parse(document: &str, text: &str) -> Result<Node, Fault> {
    let document: Arc<str> = document.into();
    let start = Mark { document: document.clone(), line: 1, column: 1 };
    if text.len() > LONGEST {
        let message = format!("is too long; expected at most {LONGEST} bytes");
        return Err(Fault { mark: start, message });
    }
    let options = granit_parser::options! {
        emit_comments: false,
        disallow_directives: true,
        // Above our own limit, so that ours is the one that speaks.
        flow_nesting_limit: DEEPEST + 1,
        block_nesting_limit: DEEPEST + 1,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { parser, document, nodes: 0 };
    let mut root = None;
    while let Some((event, mark)) = reader.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(..) if root.is_some() => {
                return Err(fault(mark, "a second document begins; expected one document"));
            }
            Event::DocumentStart(..) => {}
            event => root = Some(reader.node(event, mark, 0)?),
        }
    }
    let nothing = || Value::Scalar { text: String::new(), plain: true };
    Ok(root.unwrap_or_else(|| Node { mark: start, value: nothing() }))
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    document: Arc<str>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn mark(&self, line: usize, column: usize) -> Mark {
        Mark { document: self.document.clone(), line: line.max(1), column: column + 1 }
    }

    fn next(&mut self) -> Result<Option<(Event<'a>, Mark)>, Fault> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                let mark = self.begin(&span);
                Ok(Some((event, mark)))
            }
            Some(Err(error)) => {
                let mark = self.mark(error.marker().line(), error.marker().col());
                Err(Fault { mark, message: explain(&error) })
            }
        }
    }

    fn begin(&self, span: &Span) -> Mark {
        self.mark(span.start.line(), span.start.col())
    }

    /// The next event and its place, where there must be one.
    fn expect(&mut self, mark: &Mark) -> Result<(Event<'a>, Mark), Fault> {
        self.next()?.ok_or_else(|| fault(mark.clone(), "the text ends too early"))
    }

    fn node(&mut self, event: Event<'a>, mark: Mark, depth: usize) -> Result<Node, Fault> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            let message = format!("there is too much of it; expected at most {MOST_NODES} values");
            return Err(Fault { mark, message });
        }
        if depth > DEEPEST {
            return Err(fault(mark, &format!("is nested too deep; expected at most {DEEPEST} levels")));
        }
        if event.tag().is_some() {
            return Err(fault(mark, "a tag (!) stands here; expected a value without one"));
        }
        if event.is_alias() || event.anchor_id().is_some() {
            return Err(fault(mark, "an anchor (&) or alias (*) stands here; expected the value itself"));
        }
        let value = match event {
            Event::Scalar(text, style, ..) => {
                Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => {
                let mut items = vec![];
                loop {
                    match self.expect(&mark)? {
                        (Event::SequenceEnd, _) => break Value::Sequence(items),
                        (event, mark) => items.push(self.node(event, mark, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut entries = vec![];
                loop {
                    let (event, mark) = match self.expect(&mark)? {
                        (Event::MappingEnd, _) => break Value::Mapping(entries),
                        next => next,
                    };
                    let key = self.node(event, mark, depth + 1)?;
                    let Value::Scalar { text, .. } = key.value else {
                        return Err(fault(key.mark, "the key is no text; expected the name of a field"));
                    };
                    let (event, mark) = self.expect(&key.mark)?;
                    let value = self.node(event, mark, depth + 1)?;
                    entries.push(Entry { key: text, mark: key.mark, value });
                }
            }
            _ => return Err(fault(mark, "expected a value")),
        };
        Ok(Node { mark, value })
    }
}

fn fault(mark: Mark, message: &str) -> Fault {
    Fault { mark, message: message.into() }
}

/// What the parser says, in the form of our messages.
fn explain(error: &ScanError) -> String {
    match error.kind() {
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation => {
            "a tab stands where only blanks may; expected blanks".into()
        }
        ErrorKind::UnknownAnchor => "an alias (*) stands here; expected the value itself".into(),
        ErrorKind::DirectiveDisallowed => "a directive (%) stands here; expected the document itself".into(),
        // Its own words name no part of the text but single characters.
        _ => format!("is no YAML: {}", error.info().replace('\n', " ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in one line: marks of scalars as `line:column`, quotes where there were some.
    fn shown(node: &Node) -> String {
        match &node.value {
            Value::Mapping(entries) => {
                let shown = entries.iter().map(|entry| format!("{}={}", entry.key, shown(&entry.value)));
                format!("{{{}}}", shown.collect::<Vec<_>>().join(" "))
            }
            Value::Sequence(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
            Value::Scalar { text, plain } => {
                let text = if *plain { text.clone() } else { format!("{text:?}") };
                format!("{text}@{}:{}", node.mark.line, node.mark.column)
            }
        }
    }

    #[test]
    fn a_tree_keeps_order_quotes_and_places() {
        fn check(text: &str, expected: &str) {
            let tree = parse("f", text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
            assert_eq!(shown(&tree), expected, "{text}");
        }
        check("", "@1:1");
        check("# nothing\n", "@1:1");
        check("---\n", "~@1:4");
        check("a: 1\nb:\n  - x\n  - \"y\"\n", "{a=1@1:4 b=[x@3:5 \"y\"@4:5]}");
        check("z: {b: 'q', a: [1, 2]}", "{z={b=\"q\"@1:8 a=[1@1:17 2@1:20]}}");
        check("a: 1\na: 2", "{a=1@1:4 a=2@2:4}");
        check("a:\nb: ~", "{a=~@1:2 b=~@2:4}");
        check("a: |\n  two\n  lines\n", "{a=\"two\\nlines\\n\"@2:3}");
        check("---\na: 1\n...\n", "{a=1@2:4}");
        check("\u{feff}a: 1", "{a=1@1:4}");
    }

    #[test]
    fn what_is_no_tree_says_where_and_why() {
        fn check(text: &str, line: usize, why: &str) {
            let fault = parse("f", text).err().unwrap_or_else(|| panic!("{text} is a tree"));
            assert_eq!(fault.mark.line, line, "{text}: {}", fault.message);
            assert!(fault.message.contains(why), "{text}: {}", fault.message);
            assert!(!fault.message.contains("hunter"), "{text}: {}", fault.message);
        }
        check("a: 1\n---\nb: 2", 2, "second document");
        check("a: &x hunter2\nb: *x", 1, "anchor");
        check("a: *hunter", 1, "alias");
        check("a: !hunter 1", 1, "tag");
        check("a: !!str 1", 1, "tag");
        check("%YAML 1.2\n---\na: 1", 1, "directive");
        check("a: hunter2\n\tb: 1", 1, "tab");
        check("a:\n\tb: 1", 2, "tab");
        check("a: [hunter2\n", 1, "no YAML");
        check("a: 'hunter2", 1, "no YAML");
        check("hunter2\na: b: c", 2, "no YAML");
        check("? [hunter2]\n: 1", 1, "key is no text");
        check(&format!("{}1{}", "[".repeat(17), "]".repeat(17)), 1, "nested too deep");
        check(&"[".repeat(100_000), 1, "no YAML");
        check(&format!("a: {}", "x".repeat(LONGEST)), 1, "too long");
        check(&format!("[{}]", "1,".repeat(MOST_NODES)), 1, "too much");
    }
}
