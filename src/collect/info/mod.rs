//! `INFO`: what a server says of itself.
//!
//! Every server has it; ACL: `+info`. Cost: some 50 µs of the server's time, more with many commands seen.
//! <https://redis.io/docs/latest/commands/info/>
//!
//! [`Info`] is the reply cut into lines. `fields` is the table of everything that is one number under one
//! name; what needs more than a row has a file of its own.

pub mod fields;

use super::{Answers, Asks, Collector, Context, Failure, How, When};
use crate::connect::{Mode, Server, Version};
use exposition::{Builder, Desc};

/// Asked first in every collection; [`super::run`] keeps its reply as [`Context::info`].
pub static COLLECTOR: Collector =
    Collector { name: "info", descs, when: |_| When::Now, how: How::Read { ask, read } };

fn descs() -> Vec<&'static Desc> {
    fields::descs().collect()
}

fn ask(_: &Context<'_>, asks: &mut Asks<'_>) {
    asks.push("INFO", &["INFO", "ALL"]);
}

fn read(context: &Context<'_>, _: &Answers<'_>, out: &mut Builder) -> Result<(), Failure> {
    let info = context.info.ok_or(Failure::shape("INFO"))?;
    fields::read(info, context, out);
    Ok(())
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
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('#') {
                section = name.trim();
            } else if let Some((field, value)) = line.split_once(':') {
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
    pub fn get(&self, field: &str) -> Option<&'a str> {
        self.lines.iter().find(|line| line.field == field).map(|line| line.value)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_the_first_colon_and_keep_their_section() {
        let info = Info::parse("# Server\r\nexecutable:/a:b\r\n\r\n# Stats\r\nx:1\r\nno colon\r\n");
        let lines: Vec<_> = info.lines().iter().map(|l| (l.section, l.field, l.value)).collect();
        assert_eq!(lines, [("Server", "executable", "/a:b"), ("Stats", "x", "1")]);
        assert_eq!(info.get("x"), Some("1"));
    }
}
