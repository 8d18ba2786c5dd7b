//! Replies as they are kept in memory: the bytes that came, and a flat list of what stands where.
//!
//! What a newcomer would get wrong: there is no tree of owned values. [`Replies`] keeps the bytes as they
//! came from the socket; each value is a `Node` that says where its bytes stand, a container is followed
//! by its children. A [`Reply`] is a view: copying one costs nothing, and a reply of 6,000 values costs
//! two vectors, which the next collection uses again.

use super::error::{Kind, Violation};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that large replies may take, all that are being read together: whoever may name targets could
/// otherwise have us read from a hundred hostile servers at once, each just below its own limit.
pub const LARGE: usize = 256 << 20;

/// A buffer up to this size is not counted: those of ordinary servers are smaller.
const SMALL: usize = 1 << 20;

/// What the buffers above [`SMALL`] have reserved.
static RESERVED: AtomicUsize = AtomicUsize::new(0);

/// The kind of a value. RESP2 and RESP3 forms that mean the same are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Simple, bulk and verbatim strings, doubles and big numbers: a text.
    Text,
    /// An error reply, simple or bulk.
    Error,
    /// An integer or a boolean.
    Integer,
    /// Nil in any of its three forms.
    Nil,
    /// Arrays, sets, and maps as arrays of key, value, key, value.
    Array,
    /// A push message or an attribute: not part of any answer, dropped when it is complete.
    Aside,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub kind: Type,
    /// First byte of a text in the buffer.
    pub start: u32,
    /// Bytes of a text, children of a container.
    pub len: u32,
    /// The node after this one and its children.
    pub after: u32,
}

/// The replies of one pipelined batch, in order.
#[derive(Debug, Default)]
pub struct Replies {
    pub(super) buffer: Vec<u8>,
    pub(super) nodes: Vec<Node>,
    pub(super) roots: Vec<u32>,
    reserved: Reserved,
}

/// Our part of [`RESERVED`].
#[derive(Debug, Default)]
struct Reserved(usize);

impl Reserved {
    /// Takes as much as is missing up to `wanted`; false where there is not so much.
    fn grow(&mut self, wanted: usize) -> bool {
        let more = wanted.saturating_sub(self.0);
        let fits = RESERVED.fetch_add(more, Ordering::Relaxed) + more <= LARGE;
        if fits {
            self.0 += more;
        } else {
            RESERVED.fetch_sub(more, Ordering::Relaxed);
        }
        fits
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        RESERVED.fetch_sub(self.0, Ordering::Relaxed);
    }
}

impl Replies {
    /// Forgets everything but keeps the memory, unless it is much more than usual.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.nodes.clear();
        self.roots.clear();
        self.buffer.shrink_to(512 * 1024);
        self.nodes.shrink_to(64 * 1024);
        self.reserved = Reserved::default();
    }

    /// Takes bytes as a server might have sent them: for tests and fuzzing.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Forgets all values, and the first so many bytes.
    pub(super) fn forget(&mut self, bytes: usize) {
        self.buffer.drain(..bytes.min(self.buffer.len()));
        self.nodes.clear();
        self.roots.clear();
    }

    /// Makes room for so many more bytes, unless large replies have taken all that there is.
    pub(super) fn reserve(&mut self, bytes: usize) -> Result<(), Violation> {
        let wanted = self.buffer.len() + bytes;
        if wanted > SMALL && !self.reserved.grow(wanted) {
            return Err(Violation::NoRoom(LARGE));
        }
        self.buffer.reserve(bytes);
        Ok(())
    }

    /// How many replies are complete.
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// Whether there is no reply.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// The reply to command `index` of the batch.
    pub fn get(&self, index: usize) -> Option<Reply<'_>> {
        self.roots.get(index).map(|at| Reply { set: self, at: *at })
    }

    /// All replies in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Reply<'_>> {
        self.roots.iter().map(|at| Reply { set: self, at: *at })
    }

    /// How many bytes came.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }
}

/// One value of a reply.
#[derive(Clone, Copy)]
pub struct Reply<'a> {
    set: &'a Replies,
    at: u32,
}

impl<'a> Reply<'a> {
    fn node(self) -> &'a Node {
        &self.set.nodes[self.at as usize]
    }

    fn raw(self) -> &'a [u8] {
        let node = self.node();
        &self.set.buffer[node.start as usize..(node.start + node.len) as usize]
    }

    /// The bytes of a text or an integer; `None` for containers, nil and errors.
    pub fn bytes(self) -> Option<&'a [u8]> {
        matches!(self.node().kind, Type::Text | Type::Integer).then(|| self.raw())
    }

    /// [`Self::bytes`] where they are UTF-8.
    pub fn text(self) -> Option<&'a str> {
        self.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The number of an integer reply, or of a text that is one. Booleans are 1 and 0.
    pub fn integer(self) -> Option<i64> {
        match self.bytes()? {
            b"t" if self.node().kind == Type::Integer => Some(1),
            b"f" if self.node().kind == Type::Integer => Some(0),
            bytes => std::str::from_utf8(bytes).ok()?.trim().parse().ok(),
        }
    }

    /// The number of an integer, a double, or a text that is one.
    pub fn number(self) -> Option<f64> {
        match self.integer() {
            Some(n) => Some(n as f64),
            None => self.text()?.trim().parse().ok(),
        }
    }

    /// Whether the value is nil.
    pub fn is_nil(self) -> bool {
        self.node().kind == Type::Nil
    }

    /// What the server said when it refused.
    pub fn error(self) -> Option<Refusal<'a>> {
        (self.node().kind == Type::Error).then(|| Refusal { text: self.raw() })
    }

    /// The children of an array, a set or (key, value, key, value …) a map; `None` for anything else.
    pub fn items(self) -> Option<Items<'a>> {
        let node = self.node();
        (node.kind == Type::Array).then_some(Items { set: self.set, next: self.at + 1, left: node.len })
    }

    /// The children two by two: a map, or the flat array that RESP2 sends for one.
    pub fn pairs(self) -> Option<impl Iterator<Item = (Reply<'a>, Reply<'a>)> + use<'a>> {
        let mut items = self.items()?;
        Some(std::iter::from_fn(move || Some((items.next()?, items.next()?))))
    }

    /// The value under a key of a map.
    pub fn field(self, key: &str) -> Option<Reply<'a>> {
        self.pairs()?.find(|(name, _)| name.bytes() == Some(key.as_bytes())).map(|(_, value)| value)
    }
}

/// The children of a container.
#[derive(Clone)]
pub struct Items<'a> {
    set: &'a Replies,
    next: u32,
    left: u32,
}

impl<'a> Iterator for Items<'a> {
    type Item = Reply<'a>;

    fn next(&mut self) -> Option<Reply<'a>> {
        self.left = self.left.checked_sub(1)?;
        let reply = Reply { set: self.set, at: self.next };
        self.next = reply.node().after;
        Some(reply)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Items<'_> {}

/// An error reply.
#[derive(Clone, Copy)]
pub struct Refusal<'a> {
    text: &'a [u8],
}

impl<'a> Refusal<'a> {
    /// The text without control characters and cut at 200 characters: fit for a log or a label.
    pub fn text(self) -> String {
        let text = String::from_utf8_lossy(self.text);
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
    }

    /// Whether the server repeats these words, which are not none.
    pub fn repeats(self, words: &str) -> bool {
        !words.is_empty() && String::from_utf8_lossy(self.text).contains(words)
    }

    /// Whether the server does not know the command at all, whatever its subcommand.
    pub fn is_unknown_command(self) -> bool {
        const START: &[u8] = b"ERR unknown command";
        self.text.get(..START.len()).is_some_and(|start| start.eq_ignore_ascii_case(START))
    }

    /// What kind of refusal it is.
    pub fn kind(self) -> Kind {
        Kind::of_reply(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_replies_share_one_limit_and_give_it_back() {
        // No other unit test reads a large reply.
        let mut hogs: Vec<Replies> = (0..4).map(|_| Replies::default()).collect();
        for hog in &mut hogs {
            hog.reserved.grow(LARGE / 4);
        }
        let mut other = Replies::default();
        assert_eq!(other.reserve(SMALL), Ok(()));
        assert_eq!(other.reserve(SMALL + 1), Err(Violation::NoRoom(LARGE)));
        hogs[0].clear();
        assert_eq!(other.reserve(SMALL + 1), Ok(()));
        drop(other);
        drop(hogs);
        assert_eq!(RESERVED.load(Ordering::Relaxed), 0);
    }
}
