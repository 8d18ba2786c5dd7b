//! `INFO`: what a server says of itself.
//!
//! Every server has it; ACL: `+info`. Cost: some 50 µs of the server's time, more with many commands seen.
//! <https://redis.io/docs/latest/commands/info/>
//!
//! [`Info`] is the reply cut into lines. [`fields`] is the table of everything that is one number under one
//! name; what needs more than a row has a file of its own, named after its section.
//!
//! What a newcomer would get wrong: files look for the names of fields, not for sections. Forks move
//! fields about and write comments that look like sections. A line that cannot be read costs itself.

pub mod commandstats;
pub mod engines;
pub mod errorstats;
pub mod fields;
pub mod instance;
pub mod keyspace;
pub mod latencystats;
pub mod number;
pub mod replication;
pub mod sentinel;
pub mod threads;
pub mod tls;

use super::{Answers, Asks, Collector, Context, Failure, How, When};
use crate::connect::{Mode, Server, Version};
use exposition::{Builder, Desc};

/// Asked first in every collection; [`super::run`] keeps its reply as [`Context::info`].
pub static COLLECTOR: Collector =
    Collector { name: "info", descs, when: |_| When::Now, how: How::Read { ask, read } };

fn descs() -> Vec<&'static Desc> {
    let mut descs: Vec<_> = fields::descs().collect();
    descs.extend(commandstats::descs());
    descs.extend(engines::descs());
    descs.extend(errorstats::descs());
    descs.extend(instance::descs());
    descs.extend(keyspace::descs());
    descs.extend(latencystats::descs());
    descs.extend(replication::descs());
    descs.extend(sentinel::descs());
    descs.extend(threads::descs());
    descs.extend(tls::descs());
    descs
}

fn ask(context: &Context<'_>, asks: &mut Asks<'_>) {
    match context.memory.plain_info {
        true => asks.push("INFO", &["INFO"]),
        false => asks.push("INFO", &["INFO", "ALL"]),
    }
}

fn read(context: &Context<'_>, _: &Answers<'_>, out: &mut Builder) -> Result<(), Failure> {
    record(context.info.ok_or(Failure::shape("INFO"))?, context, out);
    Ok(())
}

/// Records all families of INFO.
pub fn record(info: &Info<'_>, context: &Context<'_>, out: &mut Builder) {
    fields::read(info, context, out);
    let commands = commandstats::parse(info);
    commandstats::write(&commands, out);
    latencystats::write(&commands, out);
    errorstats::read(info, out);
    keyspace::read(info, context, out);
    instance::read(info, context, out);
    replication::read(info, out);
    threads::read(info, out);
    engines::read(info, out);
    tls::read(info, out);
    sentinel::read(info, out);
}

/// The reply to INFO, cut into lines.
#[derive(Debug, Default)]
pub struct Info<'a> {
    lines: Vec<Line<'a>>,
}

/// One `field:value` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The section that it stands under, without `# `.
    pub section: &'a str,
    /// What stands before the first colon.
    pub field: &'a str,
    /// What stands after it, colons included.
    pub value: &'a str,
}

impl<'a> Info<'a> {
    /// Cuts the text. Lines without a colon are left out: no server may stop us by a strange line.
    pub fn parse(text: &'a str) -> Self {
        let mut section = "";
        let mut lines = Vec::with_capacity(text.len() / 32);
        let mut start = 0;
        let ends = memchr::memchr_iter(b'\n', text.as_bytes()).chain([text.len()]);
        for end in ends {
            let line = text[start..end].trim_end();
            start = (end + 1).min(text.len());
            if let Some(name) = line.strip_prefix('#') {
                section = name.trim();
            } else if let Some((field, value)) = cut(line, b':') {
                lines.push(Line { section, field, value });
            }
        }
        Self { lines }
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All lines in order.
    pub fn lines(&self) -> &[Line<'a>] {
        &self.lines
    }

    /// The value of the first line of that name, in whatever section.
    #[inline]
    pub fn get(&self, field: &str) -> Option<&'a str> {
        self.lines.iter().find(|line| line.field == field).map(|line| line.value)
    }

    /// The lines whose field is `prefix` and something, with that something in place of the field.
    #[inline]
    pub fn after(&self, prefix: &'static str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.lines.iter().filter_map(move |line| Some((line.field.strip_prefix(prefix)?, line.value)))
    }

    /// The lines whose field is `prefix` and a number: `db0`, `slave1`.
    #[inline]
    pub fn numbered(&self, prefix: &'static str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.after(prefix).filter(|(number, _)| is_digits(number))
    }

    /// What the server is. Valkey says `server_mode` where Redis says `redis_mode`.
    pub fn server(&self) -> Server {
        let mode = self.get("redis_mode").or_else(|| self.get("server_mode")).unwrap_or_default();
        Server {
            mode: Mode::parse(mode),
            version: Version::parse(self.get("redis_version").unwrap_or_default()),
            valkey: self.get("valkey_version").map(Version::parse),
        }
    }
}

/// The `name=value` parts of a value such as `keys=1,expires=0`; `None` for a part of another form.
pub(super) fn parts(value: &str) -> impl Iterator<Item = Option<(&str, &str)>> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        // Parts are so short that a plain loop finds both signs sooner than two searches would.
        let (mut sign, mut signs, mut end) = (0, 0, text.len());
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                b'=' => (sign, signs) = (at, signs + 1),
                b',' => {
                    end = at;
                    break;
                }
                _ => {}
            }
        }
        rest = text.get(end + 1..);
        Some((signs == 1).then(|| (&text[..sign], &text[sign + 1..end])))
    })
}

/// What stands before and after the first `separator`, an ASCII byte.
fn cut(text: &str, separator: u8) -> Option<(&str, &str)> {
    let at = memchr::memchr(separator, text.as_bytes())?;
    Some((&text[..at], &text[at + 1..]))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
pub(in crate::collect) mod testing {
    use super::*;
    use crate::collect::Memory;
    use crate::config::collect::{Collect, Keys};
    use exposition::family::Value;

    /// What a reader makes of a text, a line a sample: `name{label=value} number`. The clock says 1000.7.
    pub fn lines(text: &str, read: impl Fn(&Info<'_>, &Context<'_>, &mut Builder)) -> Vec<String> {
        let (config, keys, memory, info) =
            (Collect::default(), Keys::default(), Memory::default(), Info::parse(text));
        let server = info.server();
        let context = Context {
            config: &config,
            keys: &keys,
            server: Some(&server),
            info: Some(&info),
            memory: &memory,
            now: 1000.7,
        };
        let mut out = Builder::new();
        read(&info, &context, &mut out);
        let families = out.finish();
        let mut lines = vec![];
        for family in families.iter() {
            for sample in family.samples() {
                let labels: Vec<_> = sample.labels().map(|(n, v)| format!("{n}={v}")).collect();
                let labels =
                    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                let value = match sample.value() {
                    Value::Number(number) => number.to_string(),
                    Value::Distribution { points, sum, count } => format!("{points:?} sum {sum} of {count}"),
                };
                lines.push(format!("{}{labels} {value}", family.name()));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str, &str)]) {
        let info = Info::parse(text);
        let lines: Vec<_> = info.lines().iter().map(|l| (l.section, l.field, l.value)).collect();
        assert_eq!(lines, expected, "{text:?}");
    }

    #[test]
    fn lines_are_cut_at_the_first_colon_and_keep_their_section() {
        check(
            "# Server\r\nexecutable:/a:b\r\n\r\n# Stats\r\nx:1\r\nno colon\r\n",
            &[("Server", "executable", "/a:b"), ("Stats", "x", "1")],
        );
    }

    #[test]
    fn odd_texts_are_no_harm() {
        check("", &[]);
        check("\n\n:\n#", &[("", "", "")]);
        check("x:1", &[("", "x", "1")]);
        check("é:ü\r\n#é\nö:", &[("", "é", "ü"), ("é", "ö", "")]);
    }

    #[test]
    fn parts_have_exactly_one_sign() {
        let check = |value, expected: &[Option<(&str, &str)>]| {
            assert_eq!(parts(value).collect::<Vec<_>>(), expected, "{value}");
        };
        check("a=1,b=2", &[Some(("a", "1")), Some(("b", "2"))]);
        check("a=1=2,,c", &[None, None, None]);
        check("=,", &[Some(("", "")), None]);
        check("", &[None]);
        check("ä=ü,=", &[Some(("ä", "ü")), Some(("", ""))]);
    }

    #[test]
    fn valkey_tells_its_mode_under_another_name() {
        let valkey = Info::parse("redis_version:7.2.4\nvalkey_version:9.1.2\nserver_mode:cluster");
        let server = valkey.server();
        assert_eq!((server.mode, server.valkey), (Mode::Cluster, Some(Version(9, 1, 2))));
    }
}
