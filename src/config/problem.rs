//! What is wrong, and what works otherwise than one may think: the form in which operators hear of it.
//!
//! What a newcomer would get wrong: a value may be a secret, also one that was typed in the wrong place. Whoever
//! writes a problem shows a value only where it may be seen, and only through [`shown`].

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What the operator wrote: a flag, a variable, an argument, or file, line and path of a field.
    pub place: String,
    /// What is wrong with it, and what was expected. One line.
    pub message: String,
}

/// One thing that works, but not as the operator may think.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What the operator wrote: a flag, a variable, or file, line and path of a field.
    pub place: String,
    /// What happens. One line.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// What stands for a value that must not be shown.
pub const UNSEEN: &str = "the value";

/// A value as a problem shows it: in quotes, on one line, not too long. What has an `@` may be an address
/// with a password that went to the wrong place.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 120;
    if text.contains('@') {
        return UNSEEN.into();
    }
    if text.chars().count() <= LONGEST {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start:?}…")
}
