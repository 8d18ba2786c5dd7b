//! The table of all flags: those of redis_exporter, and ours.
//!
//! One row is one flag: its name, its variable, its default as one would write it, what stands for its
//! value in the help, how it gets into the configuration, and what it means. A new option is a field in the
//! room's own file and one row in `table`.
//!
//! What a newcomer would get wrong: the defaults stand here *and* in the `impl Default` of the fields. The
//! rows are applied over those, and a test compares the two.

mod table;

pub use table::GROUPS;

use super::draft::Draft;
use crate::config::units::{self, Radix};
use crate::config::{Secret, validate};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One flag.
pub struct Flag {
    /// The name without dashes.
    pub name: &'static str,
    /// Another name for it.
    pub alias: Option<&'static str>,
    /// The variable that says the same; empty: none.
    pub env: &'static str,
    /// What holds where nothing was said.
    pub default: &'static str,
    /// What stands for the value in the help; empty for switches.
    pub value: &'static str,
    /// How it gets into the configuration.
    pub set: Set,
    /// What it means: whole sentences.
    pub meaning: &'static str,
    /// Whether no message may show its value.
    pub is_private: bool,
}

/// How a text gets into the configuration.
pub enum Set {
    /// On or off.
    Switch(fn(&mut Draft, bool)),
    /// A number from the first to the second.
    Integer(i64, i64, fn(&mut Draft, i64)),
    /// A Go duration.
    Duration(fn(&mut Draft, Duration)),
    /// Any text.
    Text(fn(&mut Draft, String)),
    /// A text that nobody may see.
    Secret(fn(&mut Draft, Secret)),
    /// A file that must be there; not set where the text is empty.
    File(fn(&mut Draft, PathBuf)),
    /// One of a few words.
    Choice(&'static [&'static str], fn(&mut Draft, &str) -> Result<(), String>),
    /// What the function reads.
    Parsed(fn(&mut Draft, &str) -> Result<(), String>),
    /// The same, and the flag may be repeated.
    Repeated(fn(&mut Draft, &str) -> Result<(), String>),
    /// It is no setting, but something to do at once.
    Action,
}

impl Set {
    /// Reads the text into the draft. The error is the end of a sentence that begins with the value.
    pub fn apply(&self, draft: &mut Draft, text: &str, radix: Radix) -> Result<(), String> {
        match self {
            Self::Switch(set) => set(draft, units::boolean(text)?),
            Self::Integer(min, max, set) => {
                let range =
                    if *max == i64::MAX { format!("from {min} up") } else { format!("from {min} to {max}") };
                match units::integer(text, radix) {
                    Ok(number) if (*min..=*max).contains(&number) => set(draft, number),
                    Ok(_) => return Err(format!("is out of range; expected a whole number {range}")),
                    Err(_) => return Err(format!("is no whole number; expected one {range}")),
                }
            }
            Self::Duration(set) => set(draft, units::duration(text)?),
            Self::Text(set) => set(draft, text.into()),
            Self::Secret(set) => set(draft, Secret::new(text)),
            Self::File(_) if text.is_empty() => {}
            Self::File(set) => {
                set(draft, text.into());
                validate::readable(Path::new(text))?;
            }
            Self::Choice(_, set) | Self::Parsed(set) | Self::Repeated(set) => set(draft, text)?,
            Self::Action => {
                units::boolean(text)?;
            }
        }
        Ok(())
    }
}

impl Flag {
    /// Whether it takes its value by `=` only and means true without.
    pub fn is_switch(&self) -> bool {
        matches!(self.set, Set::Switch(_) | Set::Action)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        [Some(self.name), self.alias].into_iter().flatten()
    }

    const fn also(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    const fn private(mut self) -> Self {
        self.is_private = true;
        self
    }
}

/// Flags that belong together.
pub struct Group {
    /// The heading in the help.
    pub title: &'static str,
    /// The flags in the order of the help.
    pub flags: &'static [Flag],
}

/// All flags in the order of the help.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|group| group.flags)
}

/// The flag of this name or alias; `-h` is `--help`.
pub fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.names().any(|known| known == name))
}

const fn flag(
    name: &'static str,
    env: &'static str,
    default: &'static str,
    value: &'static str,
    set: Set,
    meaning: &'static str,
) -> Flag {
    let is_private = matches!(set, Set::Secret(_));
    Flag { name, alias: None, env, default, value, set, meaning, is_private }
}

const fn switch(
    name: &'static str,
    env: &'static str,
    default: &'static str,
    set: fn(&mut Draft, bool),
    meaning: &'static str,
) -> Flag {
    flag(name, env, default, "", Set::Switch(set), meaning)
}
