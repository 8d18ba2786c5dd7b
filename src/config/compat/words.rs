//! What was said of each flag, and where: on the command line, in the environment, or nowhere.
//!
//! The syntax is that of Go (<https://pkg.go.dev/flag#hdr-Command_line_flag_syntax>): one dash or two, `=` or
//! the next word for the value, booleans by `=` only. The command line wins over the environment, the last
//! of repeated flags over those before.
//!
//! What a newcomer would get wrong: Go stops at the first word that is no flag and drops all that follows,
//! so `--debug false` switches debugging *on* and loses the rest. That is an error here.

use super::Problem;
use super::flags::{self, Flag, Set};
use crate::config::units::{self, Radix};
use std::collections::HashMap;
use std::ffi::OsString;

/// What was said of each flag.
pub struct Words(HashMap<&'static str, Said>);

/// What was said of one flag.
#[derive(Clone, Debug)]
pub struct Said {
    /// The name that the operator used: `--debug`, `-debug`, `REDIS_EXPORTER_DEBUG`.
    pub place: String,
    /// The values; several only where the flag may be repeated.
    pub texts: Vec<String>,
    /// Where it was said.
    pub by: By,
}

/// Where something was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// On the command line.
    CommandLine,
    /// In a variable.
    Variable,
    /// Nowhere: it is the default.
    Default,
}

impl Said {
    /// How integers may be written there.
    pub fn radix(&self) -> Radix {
        if self.by == By::CommandLine { Radix::Any } else { Radix::Ten }
    }
}

impl Words {
    /// Finds the value of every flag. What cannot be understood as flags and values at all goes to `problems`.
    pub fn read(
        args: Vec<OsString>,
        env: impl Fn(&str) -> Option<OsString>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut words = Self(from_command_line(args, problems));
        for flag in flags::all().filter(|flag| !flag.env.is_empty()) {
            if words.0.contains_key(flag.name) {
                continue;
            }
            let Some(value) = env(flag.env) else { continue };
            let Ok(text) = value.into_string() else {
                let message = "the value is no UTF-8".into();
                problems.push(Problem { place: flag.env.into(), message });
                continue;
            };
            // Templates set variables to nothing where they mean "as you like".
            let says_nothing = text.is_empty() && matches!(flag.set, Set::Switch(_) | Set::Integer(..));
            if !says_nothing {
                let said = Said { place: flag.env.into(), texts: vec![text], by: By::Variable };
                words.0.insert(flag.name, said);
            }
        }
        for flag in flags::all() {
            words.0.entry(flag.name).or_insert_with(|| Said {
                place: format!("--{}", flag.name),
                texts: vec![flag.default.into()],
                by: By::Default,
            });
        }
        words
    }

    /// What was said of the flag of this name, which must be one of the table.
    pub fn said(&self, name: &str) -> &Said {
        self.0.get(name).expect("read() leaves no flag of the table out")
    }

    /// Whether a switch is on; one that cannot be read is not.
    pub fn is_on(&self, name: &str) -> bool {
        self.said(name).texts.last().is_some_and(|text| units::boolean(text) == Ok(true))
    }
}

fn from_command_line(args: Vec<OsString>, problems: &mut Vec<Problem>) -> HashMap<&'static str, Said> {
    let mut said: HashMap<&'static str, Said> = HashMap::new();
    let mut args = args.into_iter().enumerate().peekable();
    let mut only_arguments = false;
    // The flag before a word that is no flag, to say where to look. The word itself may be a secret.
    let mut before: Option<String> = None;
    while let Some((index, arg)) = args.next() {
        let mut problem = |place: String, message: String| problems.push(Problem { place, message });
        let Ok(word) = arg.into_string() else {
            problem(argument(index, before.as_deref()), "is no UTF-8".into());
            continue;
        };
        if word.is_empty() {
            continue;
        }
        let flag_text = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        let Some(flag_text) = flag_text.filter(|_| !only_arguments && word != "-") else {
            // A word that is no plain one may be an address with a password in it.
            let is_plain = word.bytes().all(|b| b.is_ascii_lowercase());
            let message = if index == 0 && is_plain {
                format!("{word:?} is no command; there are {}", super::COMMANDS.join(", "))
            } else {
                "is no flag, and nothing else is expected; a value stands behind = or right after its flag"
                    .into()
            };
            problem(argument(index, before.as_deref()), message);
            continue;
        };
        if flag_text.is_empty() {
            only_arguments = true;
            continue;
        }
        let (name, value) = match flag_text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag_text, None),
        };
        let place = word[..word.len() - flag_text.len() + name.len()].escape_debug().to_string();
        before = Some(place.clone());
        let next_is_value = args.peek().and_then(|(_, next)| next.to_str()).filter(|n| !n.starts_with('-'));
        let Some(flag) = flags::find(name) else {
            // What follows is most likely its value: one problem is enough, and it may be a secret.
            if value.is_none() && next_is_value.is_some() {
                args.next();
            }
            problem(place, unknown(name));
            continue;
        };
        let text = match (value, flag.is_switch()) {
            (Some(value), _) => value,
            (None, true) => match next_is_value.filter(|next| units::boolean(next).is_ok()) {
                Some(next) => {
                    let message =
                        format!("the value {next:?} must stand behind =; expected --{}={next}", flag.name);
                    problem(place, message);
                    args.next();
                    continue;
                }
                None => "true".into(),
            },
            (None, false) => match args.peek().map(|(_, next)| known_flag(next)) {
                None => {
                    problem(place, format!("needs a value; expected --{}={}", flag.name, flag.value));
                    continue;
                }
                Some(Some(next)) => {
                    let message = format!(
                        "needs a value, but the flag --{} follows; expected --{}={}",
                        next.name, flag.name, flag.value
                    );
                    problem(place, message);
                    continue;
                }
                Some(None) => match args.next().map(|(_, next)| next.into_string()) {
                    Some(Ok(text)) => text,
                    _ => {
                        problem(place, "the value is no UTF-8".into());
                        continue;
                    }
                },
            },
        };
        let entry = said.entry(flag.name).or_insert_with(|| Said {
            place: place.clone(),
            texts: vec![],
            by: By::CommandLine,
        });
        entry.place = place;
        if !matches!(flag.set, Set::Repeated(_)) {
            entry.texts.clear();
        }
        entry.texts.push(text);
    }
    said
}

/// The flag that this word is by its name, where it is one.
fn known_flag(word: &OsString) -> Option<&'static Flag> {
    let name = word.to_str()?.strip_prefix("--")?;
    flags::find(name.split_once('=').map_or(name, |(name, _)| name))
}

fn argument(index: usize, before: Option<&str>) -> String {
    match before {
        Some(flag) => format!("argument {} (after {flag})", index + 1),
        None => format!("argument {}", index + 1),
    }
}

fn unknown(name: &str) -> String {
    let close = |flag: &str| strsim::osa_distance(name, flag);
    let names = flags::all().flat_map(Flag::names).filter(|flag| flag.len() > 1);
    let nearest = names.min_by_key(|flag| close(flag));
    match nearest.filter(|flag| close(flag) <= 2.max(flag.len() / 3)) {
        Some(flag) => format!("there is no such flag; did you mean --{flag}?"),
        None => "there is no such flag; --help lists them all".into(),
    }
}
