//! RESP, both versions: commands into bytes, bytes into [`Replies`].
//!
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>
//!
//! The decoder is fed whatever the socket gave and goes on where it stopped, so nothing is parsed twice.
//! Everything that a hostile server could do with numbers has a limit: see [`Limits`].

use super::error::Violation;
use super::reply::{Node, Replies, Type};

/// Commands that are sent together and answered in order.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    commands: usize,
}

impl Batch {
    /// Adds a command with its arguments.
    pub fn push<W: AsRef<[u8]>>(&mut self, words: &[W]) {
        self.bytes.push(b'*');
        self.number(words.len());
        for word in words {
            let word = word.as_ref();
            self.bytes.push(b'$');
            self.number(word.len());
            self.bytes.extend_from_slice(word);
            self.bytes.extend_from_slice(b"\r\n");
        }
        self.commands += 1;
    }

    fn number(&mut self, n: usize) {
        self.bytes.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// How many commands there are.
    pub fn len(&self) -> usize {
        self.commands
    }

    /// Whether there is no command.
    pub fn is_empty(&self) -> bool {
        self.commands == 0
    }

    /// What goes over the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets all commands, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.commands = 0;
    }
}

/// What a server may send at most; more is a protocol error.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all replies of one batch.
    pub total: usize,
    /// Containers inside containers.
    pub nesting: usize,
    /// Bytes of a line without an end: a simple string, an error, a length.
    pub line: usize,
    /// Values of all replies of one batch, asides that are dropped included: each costs 16 bytes beside its
    /// own, and time.
    pub values: usize,
}

impl Default for Limits {
    /// 64 MiB a batch (a CLIENT LIST of 200,000 clients is 60 MB), 32 levels, 64 KiB a line, a million values.
    fn default() -> Self {
        Self { total: 64 << 20, nesting: 32, line: 64 << 10, values: 1 << 20 }
    }
}

/// Where decoding stands between two reads.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The first byte that is not yet understood.
    at: usize,
    /// Containers that wait for children: node, and how many are still to come.
    open: Vec<(u32, u32)>,
    /// Values so far.
    values: usize,
    /// Whether push messages are values, rather than asides that are dropped.
    keeps_pushes: bool,
}

/// What the decoder says after a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// As many replies as were asked for are complete.
    Complete,
    /// At least so many bytes are missing.
    Missing(usize),
}

impl Decoder {
    /// A decoder for which push messages (`>`) are what is waited for.
    pub fn of_pushes() -> Self {
        Self { keeps_pushes: true, ..Self::default() }
    }

    /// Understands what came into the buffer of `replies` until `wanted` replies are complete.
    pub fn advance(
        &mut self,
        replies: &mut Replies,
        wanted: usize,
        limits: &Limits,
    ) -> Result<Progress, Violation> {
        while replies.roots.len() < wanted {
            if replies.buffer.len() > limits.total {
                return Err(Violation::TooLarge(limits.total));
            }
            if self.values > limits.values {
                return Err(Violation::TooMany(limits.values));
            }
            if let Some(missing) = self.value(replies, limits)? {
                return Ok(Progress::Missing(missing));
            }
            self.values += 1;
        }
        Ok(Progress::Complete)
    }

    /// How many bytes of the buffer belong to values that are complete.
    pub fn understood(&self) -> usize {
        self.at
    }

    /// Understands one value, or says how many bytes are missing.
    fn value(&mut self, replies: &mut Replies, limits: &Limits) -> Result<Option<usize>, Violation> {
        let rest = &replies.buffer[self.at..];
        let Some(&first) = rest.first() else { return Ok(Some(1)) };
        if !b"+-:$*%~>|_#,(!=".contains(&first) {
            return Err(Violation::FirstByte(first));
        }
        let Some(end) = rest.iter().take(limits.line).position(|b| *b == b'\n') else {
            return if rest.len() >= limits.line {
                Err(Violation::LongLine(limits.line))
            } else {
                Ok(Some(1))
            };
        };
        let line = rest[1..end].strip_suffix(b"\r").unwrap_or(&rest[1..end]);
        let start = self.at + 1;
        let next = self.at + end + 1;
        match first {
            b'+' | b',' | b'(' => self.leaf(replies, Type::Text, start, line.len(), next),
            b'-' => self.leaf(replies, Type::Error, start, line.len(), next),
            b':' | b'#' => self.leaf(replies, Type::Integer, start, line.len(), next),
            b'_' => self.leaf(replies, Type::Nil, start, 0, next),
            b'$' | b'=' | b'!' => {
                let Some(len) = length(line)? else {
                    self.leaf(replies, Type::Nil, start, 0, next);
                    return Ok(None);
                };
                if next.saturating_add(len) > limits.total {
                    return Err(Violation::TooLarge(limits.total));
                }
                let after = next + len + 2;
                if replies.buffer.len() < after {
                    return Ok(Some(after - replies.buffer.len()));
                }
                if &replies.buffer[next + len..after] != b"\r\n" {
                    return Err(Violation::BulkEnd);
                }
                // A verbatim string says its kind in four bytes: `txt:`.
                let skip = if first == b'=' { 4.min(len) } else { 0 };
                let kind = if first == b'!' { Type::Error } else { Type::Text };
                self.leaf(replies, kind, next + skip, len - skip, after);
            }
            _ => {
                let Some(len) = length(line)? else {
                    self.leaf(replies, Type::Nil, start, 0, next);
                    return Ok(None);
                };
                let len = if matches!(first, b'%' | b'|') { len.saturating_mul(2) } else { len };
                // Each child has at least three bytes: a count that cannot come is refused now.
                if next.saturating_add(len.saturating_mul(3)) > limits.total {
                    return Err(Violation::TooLarge(limits.total));
                }
                if self.open.len() >= limits.nesting {
                    return Err(Violation::TooDeep(limits.nesting));
                }
                let is_aside = first == b'|' || first == b'>' && !self.keeps_pushes;
                let kind = if is_aside { Type::Aside } else { Type::Array };
                let at = replies.nodes.len() as u32;
                replies.nodes.push(Node { kind, start: start as u32, len: len as u32, after: at + 1 });
                self.at = next;
                self.open.push((at, len as u32));
                self.close(replies);
            }
        }
        Ok(None)
    }

    fn leaf(&mut self, replies: &mut Replies, kind: Type, start: usize, len: usize, next: usize) {
        let at = replies.nodes.len() as u32;
        replies.nodes.push(Node { kind, start: start as u32, len: len as u32, after: at + 1 });
        self.at = next;
        match self.open.last_mut() {
            Some((_, left)) => {
                *left -= 1;
                self.close(replies);
            }
            None => replies.roots.push(at),
        }
    }

    /// Closes containers that have all their children, from the inside out.
    fn close(&mut self, replies: &mut Replies) {
        while let Some(&(at, 0)) = self.open.last() {
            self.open.pop();
            if replies.nodes[at as usize].kind == Type::Aside {
                // As if it had never come: what follows is the child or the reply.
                replies.nodes.truncate(at as usize);
                continue;
            }
            replies.nodes[at as usize].after = replies.nodes.len() as u32;
            match self.open.last_mut() {
                Some((_, left)) => *left -= 1,
                None => replies.roots.push(at),
            }
        }
    }
}

/// A length, or nil for -1.
fn length(line: &[u8]) -> Result<Option<usize>, Violation> {
    if line == b"-1" {
        return Ok(None);
    }
    // `+5` parses in Rust but is no RESP length.
    let digits = !line.is_empty() && line.len() <= 12 && line.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(line).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok()).map(Some).ok_or(Violation::Length)
}

#[cfg(test)]
mod tests {
    use super::super::reply::Reply;
    use super::*;

    fn show(reply: Reply<'_>) -> String {
        if let Some(error) = reply.error() {
            format!("E({})", error.text())
        } else if let Some(items) = reply.items() {
            format!("[{}]", items.map(show).collect::<Vec<_>>().join(" "))
        } else if reply.is_nil() {
            "nil".into()
        } else {
            String::from_utf8_lossy(reply.bytes().expect("a scalar")).into_owned()
        }
    }

    fn decode(bytes: &[u8], wanted: usize, step: usize) -> Result<String, Violation> {
        let (mut replies, mut decoder) = (Replies::default(), Decoder::default());
        let limits = Limits { total: 1000, nesting: 4, line: 100, values: 100 };
        for chunk in bytes.chunks(step) {
            replies.buffer.extend_from_slice(chunk);
            if decoder.advance(&mut replies, wanted, &limits)? == Progress::Complete {
                return Ok(replies.iter().map(show).collect::<Vec<_>>().join(" "));
            }
        }
        Ok("incomplete".into())
    }

    fn check(bytes: &str, wanted: usize, expected: Result<&str, Violation>) {
        for step in [1, 2, 3, 7, 1000] {
            let found = decode(bytes.as_bytes(), wanted, step);
            assert_eq!(found.as_deref().map_err(|e| *e), expected, "{bytes:?} in steps of {step}");
        }
    }

    #[test]
    fn every_type_of_both_versions_is_read_in_any_pieces() {
        check("+OK\r\n:5\r\n$2\r\nab\r\n", 3, Ok("OK 5 ab"));
        check("$-1\r\n*-1\r\n_\r\n", 3, Ok("nil nil nil"));
        check("$0\r\n\r\n*0\r\n%0\r\n", 3, Ok(" [] []"));
        check("*2\r\n*1\r\n:1\r\n$1\r\nx\r\n", 1, Ok("[[1] x]"));
        check("%1\r\n+a\r\n~2\r\n:1\r\n:2\r\n", 1, Ok("[a [1 2]]"));
        check("-ERR no\r\n!5\r\nERR x\r\n", 2, Ok("E(ERR no) E(ERR x)"));
        check("=7\r\ntxt:abc\r\n,1.5\r\n(123\r\n#t\r\n", 4, Ok("abc 1.5 123 t"));
        check("*3\r\n:1", 1, Ok("incomplete"));
    }

    #[test]
    fn push_messages_and_attributes_are_no_answers() {
        check(">2\r\n+invalidate\r\n*1\r\n+k\r\n+OK\r\n", 1, Ok("OK"));
        check("|1\r\n+ttl\r\n:3\r\n*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n", 1, Ok("[1 2]"));
        check(">0\r\n+OK\r\n", 1, Ok("OK"));
    }

    #[test]
    fn what_breaks_the_protocol_is_named() {
        check("HTTP/1.1 400 Bad Request\r\n", 1, Err(Violation::FirstByte(b'H')));
        check("$x\r\n", 1, Err(Violation::Length));
        check("*-2\r\n", 1, Err(Violation::Length));
        check("$+5\r\nabcde\r\n", 1, Err(Violation::Length));
        check("$3\r\nabcde\r\n", 1, Err(Violation::BulkEnd));
        check("$99999999999\r\n", 1, Err(Violation::TooLarge(1000)));
        check("*999999\r\n", 1, Err(Violation::TooLarge(1000)));
        check("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", 1, Err(Violation::TooDeep(4)));
        check(&format!("*200\r\n{}", ":1\r\n".repeat(200)), 1, Err(Violation::TooMany(100)));
        check(&">0\r\n".repeat(200), 1, Err(Violation::TooMany(100)));
        check(&format!("+{}", "x".repeat(200)), 1, Err(Violation::LongLine(100)));
    }

    #[test]
    fn integers_and_fields_are_read() {
        let mut replies = Replies::default();
        replies.push(b"%3\r\n+a\r\n:7\r\n+b\r\n$3\r\n1.5\r\n+c\r\n#t\r\n");
        Decoder::default().advance(&mut replies, 1, &Limits::default()).expect("valid");
        let map = replies.get(0).expect("one reply");
        assert_eq!(map.field("a").and_then(Reply::integer), Some(7));
        assert_eq!(map.field("b").and_then(Reply::number), Some(1.5));
        assert_eq!(map.field("c").and_then(Reply::integer), Some(1));
        assert!(map.field("d").is_none());
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut batch = Batch::default();
        batch.push(&["GET", "k"]);
        batch.push(&["PING"]);
        assert_eq!(batch.bytes(), b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n");
        assert_eq!(batch.len(), 2);
    }
}
