//! What a server refuses while a collector works, and what that costs.
//!
//! Work goes on after a refusal: a user without `TYPE` still learns how much memory keys use. The first
//! thing that went wrong becomes the outcome of the collector; a command that is refused for good is not
//! sent again, in this collection or a later one.

use super::Failure;
use crate::connect::{Kind, Refusal, Reply};
use std::collections::HashMap;

/// The refusals of one collector's work.
pub struct Refusals<'a> {
    known: &'a mut HashMap<&'static str, Kind>,
    remembers: bool,
    first: Option<Failure>,
}

impl<'a> Refusals<'a> {
    /// Nothing has gone wrong yet; `known` is what the server refused before.
    pub fn new(known: &'a mut HashMap<&'static str, Kind>) -> Self {
        Self { known, remembers: true, first: None }
    }

    /// From now on refusals count and are forgotten: rights are not the same on all nodes of a Cluster, and
    /// what one refuses says nothing of another.
    pub fn forget_from_now_on(&mut self) {
        self.remembers = false;
    }

    /// Whether to send a command at all; if not, that counts as a failure.
    pub fn allow(&mut self, what: &'static str) -> bool {
        self.check(what).map_err(|failure| self.note(failure)).is_ok()
    }

    /// Fails for a command that was refused for good.
    pub fn check(&self, what: &'static str) -> Result<(), Failure> {
        self.known.get(what).map_or(Ok(()), |&kind| Err(Failure::Remembered { what, kind }))
    }

    /// Whether a command was refused for good, where the work can do without it.
    pub fn knows(&self, what: &'static str) -> bool {
        self.known.contains_key(what)
    }

    /// The reply, unless it is a refusal: that is noted.
    pub fn accept<'r>(&mut self, what: &'static str, reply: Reply<'r>) -> Option<Reply<'r>> {
        match reply.error() {
            None => Some(reply),
            Some(refusal) => {
                self.note(Failure::refused(what, refusal));
                None
            }
        }
    }

    /// Remembers that a command is refused for good, without counting it as a failure.
    pub fn remember(&mut self, what: &'static str, refusal: Refusal<'_>) {
        if let Failure::Refused { kind, .. } = Failure::refused(what, refusal)
            && kind.is_lasting()
            && self.remembers
        {
            self.known.insert(what, kind);
        }
    }

    /// Notes that something went wrong.
    pub fn note(&mut self, failure: Failure) {
        if let Failure::Refused { what, kind, .. } = failure
            && kind.is_lasting()
            && self.remembers
        {
            self.known.insert(what, kind);
        }
        self.first.get_or_insert(failure);
    }

    /// How the collector went.
    pub fn outcome(self) -> Result<(), Failure> {
        self.first.map_or(Ok(()), Err)
    }
}

impl Failure {
    /// A refusal of a command that has keys or a script for arguments. Unlike that of a plain command it may
    /// be about the argument: a user may run TYPE but not on this key, a script may make a syntax error of
    /// its own. Such a refusal says nothing of the next key, so it must not be of a lasting kind.
    pub fn refused(what: &'static str, refusal: Refusal<'_>) -> Self {
        let (kind, reply) = (refusal.kind(), refusal.text());
        if kind.is_lasting() && !is_about_the_command(&reply.to_ascii_lowercase()) {
            return Self::Own(format!("{what} was refused for one of its arguments: {reply}"));
        }
        Self::Refused { what, kind, reply }
    }
}

fn is_about_the_command(reply: &str) -> bool {
    const TEXTS: &[&str] = &[
        " to run the ",
        "err unknown command",
        "err unknown subcommand",
        "err unsupported command",
        "err this instance has cluster support disabled",
    ];
    TEXTS.iter().any(|text| reply.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reply: &str, lasting: bool) {
        let found = is_about_the_command(&reply.to_ascii_lowercase());
        assert_eq!(found, lasting, "{reply}");
    }

    #[test]
    fn only_what_is_said_of_the_command_lasts() {
        check("NOPERM this user has no permissions to run the 'type' command", true);
        check("NOPERM User me has no permissions to run the 'memory|usage' command", true);
        check("ERR unknown command 'EVAL_RO', with args beginning with: ", true);
        check("ERR This instance has cluster support disabled", true);
        check("NOPERM No permissions to access a key", false);
        check("NOPERM this user has no permissions to access one of the keys used as arguments", false);
        check("ERR syntax error script: 1234, on @user_script:1.", false);
        check("ERR Unknown Redis command called from script script: 1234", false);
    }
}
