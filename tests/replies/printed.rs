//! What `redis-cli --no-raw` prints, back into RESP2.
//!
//! An array is printed with a number before each element, in a column of its own:
//! ```text
//! 1) 1) "name"
//!    2) (integer) 3
//! 2) (nil)
//! ```
//! Replies that are texts for humans, like CLUSTER INFO, are printed as they are.

/// The RESP2 bytes of one printed reply.
pub fn to_resp(text: &str) -> Vec<u8> {
    let plain = text.trim_end();
    if !plain.starts_with(['(', '"']) && index(plain).is_none() {
        return bulk(plain);
    }
    let mut printed = Printed { lines: plain.lines().collect(), row: 0 };
    let mut out = vec![];
    printed.value(0, &mut out);
    assert_eq!(printed.row, printed.lines.len(), "printed reply not understood:\n{text}");
    out
}

/// The elements of a printed array of strings; `None` if it is an error.
pub fn strings(text: &str) -> Option<Vec<String>> {
    let element = |line: &str| Some(unquote(line.trim_start().split_once(") ")?.1));
    (!text.starts_with("(error)")).then(|| text.lines().filter_map(element).collect())
}

/// A bulk string.
pub fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

struct Printed<'a> {
    lines: Vec<&'a str>,
    row: usize,
}

impl Printed<'_> {
    /// Reads the value that begins in this row at `column`, and leaves the row behind its last.
    fn value(&mut self, column: usize, out: &mut Vec<u8>) {
        let text = &self.lines[self.row][column..];
        if index(text).is_some() {
            return self.array(column, out);
        }
        self.row += 1;
        let scalar = match text.split_once(' ') {
            Some(("(integer)", number)) => format!(":{number}\r\n").into_bytes(),
            Some(("(error)", message)) => format!("-{message}\r\n").into_bytes(),
            Some(("(double)", number)) => bulk(number),
            _ if text == "(nil)" => b"$-1\r\n".to_vec(),
            _ if text.starts_with("(empty") => b"*0\r\n".to_vec(),
            _ if text.starts_with('"') => bulk(&unquote(text)),
            _ => bulk(text),
        };
        out.extend(scalar);
    }

    fn array(&mut self, column: usize, out: &mut Vec<u8>) {
        let (mut count, mut elements) = (0, vec![]);
        while let Some(line) = self.lines.get(self.row) {
            let ours = count == 0 || line.get(..column).is_some_and(|margin| margin.trim().is_empty());
            let Some((number, width)) = line.get(column..).and_then(index).filter(|_| ours) else { break };
            if number != count + 1 {
                break;
            }
            count = number;
            self.value(column + width, &mut elements);
        }
        out.extend(format!("*{count}\r\n").into_bytes());
        out.extend(elements);
    }
}

/// The number at the start of ` 12) …` and how wide it is with what surrounds it.
fn index(text: &str) -> Option<(usize, usize)> {
    let (number, _) = text.split_once(") ")?;
    Some((number.trim_start().parse().ok()?, number.len() + 2))
}

/// The text between quotes, without escapes.
fn unquote(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let (mut out, mut bytes) = (vec![], inner.bytes());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next().expect("something stands behind a backslash") {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'a' => 7,
                b'b' => 8,
                b'x' => {
                    let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            },
            other => other,
        });
    }
    String::from_utf8(out).expect("recorded texts are UTF-8")
}

#[test]
fn printed_replies_become_the_bytes_on_the_wire() {
    let check = |printed: &str, resp: &str| {
        assert_eq!(String::from_utf8(to_resp(printed)).unwrap(), resp, "{printed}");
    };
    check("(integer) 2\n", ":2\r\n");
    check("(empty array)\n", "*0\r\n");
    check("(error) ERR no such thing\n", "-ERR no such thing\r\n");
    check("\"a \\\"b\\\"\\x00\"\n", "$6\r\na \"b\"\0\r\n");
    check("a:1\r\nb:2\r\n", "$8\r\na:1\r\nb:2\r\n");
    check("1) 1) \"a\"\n   2) (nil)\n2) (integer) 5\n", "*2\r\n*2\r\n$1\r\na\r\n$-1\r\n:5\r\n");
    check(" 1) (empty array)\n", "*1\r\n*0\r\n");
}
