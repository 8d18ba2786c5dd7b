//! What can go wrong between us and a server.
//!
//! [`Kind`] is a closed set: it is the label of metrics, drives retries and is what the UI says. The
//! message names what was tried on which address; it never holds a password or an ephemeral port.

use crate::resilience::Retry;
use std::io;

/// The one step that may go better the next time when it took too long: see [`Error::retry`].
pub(super) const CONNECT: &str = "the connect";

/// Why something failed. The words are label values: they stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The name does not resolve.
    Dns,
    /// Nothing listens there.
    Refused,
    /// No route, or the network or host is down.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// TLS could not be agreed on, or a certificate or its file is bad.
    Tls,
    /// The server wants a password, or another one: NOAUTH, WRONGPASS.
    Auth,
    /// The user may not run the command: NOPERM.
    NoPerm,
    /// The server reads its data: LOADING.
    Loading,
    /// A replica without its master that serves no stale data: MASTERDOWN.
    MasterDown,
    /// A script blocks the server: BUSY.
    Busy,
    /// The server has all the clients that it may have.
    MaxClients,
    /// Protected mode refuses strangers: DENIED.
    Protected,
    /// What came is no RESP, or went over a limit.
    Protocol,
    /// The connection was closed or reset in the middle.
    Closed,
    /// The cluster cannot answer: CLUSTERDOWN, TRYAGAIN.
    ClusterDown,
    /// The server does not know the command: too old, or renamed.
    Unsupported,
    /// Any other error reply.
    Command,
    /// A file that says where servers are cannot be read or understood.
    File,
    /// A fault of our own.
    Internal,
}

impl Kind {
    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::NoPerm => "noperm",
            Self::Loading => "loading",
            Self::MasterDown => "masterdown",
            Self::Busy => "busy",
            Self::MaxClients => "maxclients",
            Self::Protected => "protected",
            Self::Protocol => "protocol",
            Self::Closed => "closed",
            Self::ClusterDown => "clusterdown",
            Self::Unsupported => "unsupported",
            Self::Command => "command",
            Self::File => "file",
            Self::Internal => "internal",
        }
    }

    /// What kind of refusal an error reply is. The first word is the code; `ERR` says nothing by itself.
    pub fn of_reply(text: &[u8]) -> Self {
        let code = text.split(|b| *b == b' ').next().unwrap_or(text);
        match code {
            b"NOAUTH" | b"WRONGPASS" => Self::Auth,
            b"NOPERM" => Self::NoPerm,
            b"LOADING" => Self::Loading,
            b"MASTERDOWN" => Self::MasterDown,
            b"BUSY" => Self::Busy,
            b"DENIED" => Self::Protected,
            b"CLUSTERDOWN" | b"TRYAGAIN" => Self::ClusterDown,
            b"NOPROTO" => Self::Unsupported,
            _ => Self::of_err_text(&String::from_utf8_lossy(text).to_ascii_lowercase()),
        }
    }

    fn of_err_text(text: &str) -> Self {
        const KNOWN: &[(&str, Kind)] = &[
            ("err max number of clients", Kind::MaxClients),
            ("err unknown command", Kind::Unsupported),
            ("err unknown subcommand", Kind::Unsupported),
            ("err unknown sentinel subcommand", Kind::Unsupported),
            ("err unsupported command", Kind::Unsupported),
            ("err invalid password", Kind::Auth),
            ("err operation not permitted", Kind::Auth),
            ("err client sent auth", Kind::Auth),
            ("err auth <password> called without any password", Kind::Auth),
            // Old servers answer a subcommand that they do not know with the syntax of the command.
            ("err syntax error", Kind::Unsupported),
            ("err wrong number of arguments", Kind::Unsupported),
            ("err this instance has cluster support disabled", Kind::Unsupported),
        ];
        KNOWN.iter().find(|(start, _)| text.starts_with(start)).map_or(Self::Command, |(_, kind)| *kind)
    }

    /// Whether what failed so may go better in a moment. Within a collection [`Error::retry`] decides, which
    /// knows what it was that took too long.
    pub const fn retry(self) -> Retry {
        match self {
            Self::Refused | Self::Unreachable | Self::Closed | Self::Timeout => Retry::Transient,
            _ => Retry::Never,
        }
    }

    /// Whether asking again is not worth it while user and process stay. An operator may grant a right
    /// meanwhile: it is used once the server was restarted, or nobody asked for the target for a while.
    pub const fn is_lasting(self) -> bool {
        matches!(self, Self::NoPerm | Self::Unsupported)
    }
}

/// A conversation that could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host name has no address.
    #[error("cannot resolve {host}")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// No connection.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No TLS.
    #[error("no TLS with {address}")]
    Tls {
        /// With whom.
        address: String,
        /// What was wrong.
        #[source]
        source: crate::net::tls::Error,
    },
    /// Silence.
    #[error("{address} did not answer {what} in time")]
    Timeout {
        /// Who.
        address: String,
        /// What was tried: a step or a command.
        what: &'static str,
    },
    /// The server answered the handshake with an error.
    #[error("{address} refused {what}: {reply}")]
    Refused {
        /// Who.
        address: String,
        /// The command, without its arguments.
        what: &'static str,
        /// What it said, cut and cleaned.
        reply: String,
        /// The kind of that reply.
        kind: Kind,
    },
    /// The connection broke.
    #[error("{address} closed the connection")]
    Closed {
        /// Who.
        address: String,
        /// What the system said; `UnexpectedEof` for an orderly end, with words where it came within an answer.
        #[source]
        source: io::Error,
    },
    /// What came is no RESP.
    #[error("{address} does not keep to the protocol")]
    Protocol {
        /// Who.
        address: String,
        /// How.
        #[source]
        source: Violation,
    },
}

impl Error {
    /// Why, in one of few words.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Dns { .. } => Kind::Dns,
            Self::Connect { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Kind::Refused,
                io::ErrorKind::TimedOut => Kind::Timeout,
                // Taken and thrown away before we could say a word.
                io::ErrorKind::ConnectionReset => Kind::Closed,
                _ => Kind::Unreachable,
            },
            Self::Tls { .. } => Kind::Tls,
            Self::Timeout { .. } => Kind::Timeout,
            Self::Refused { kind, .. } => *kind,
            // TLS 1.3 servers refuse a client certificate only after the handshake.
            Self::Closed { source, .. } if source.get_ref().is_some_and(|e| e.is::<rustls::Error>()) => {
                Kind::Tls
            }
            Self::Closed { .. } => Kind::Closed,
            Self::Protocol { .. } => Kind::Protocol,
        }
    }

    /// Whether another attempt within the same collection may go better. A reply that did not come is no matter
    /// of an attempt: the server has the connection and is busy, and is not asked twice. Neither is one that
    /// gave a part of its answer.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Timeout { what, .. } if *what != CONNECT => Retry::Never,
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Retry::Never,
            // A plain end has no words of its own.
            Self::Closed { source, .. } if source.get_ref().is_some() => Retry::Never,
            _ => self.kind().retry(),
        }
    }

    /// The message and its causes in one line, as an edge prints it.
    pub fn chain(&self) -> String {
        crate::telemetry::log::chain(self)
    }
}

/// How a server broke the protocol or went over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A first byte that starts no RESP value. An HTTP server answers `H`.
    #[error("a reply starts with byte {0:#04x}, which starts no RESP value")]
    FirstByte(u8),
    /// A length that is none.
    #[error("a length is no number")]
    Length,
    /// A bulk string that is not followed by CR LF.
    #[error("a bulk string does not end where its length says")]
    BulkEnd,
    /// More bytes than [`super::Limits::total`].
    #[error("the replies are larger than the limit of {0} bytes")]
    TooLarge(usize),
    /// More values than [`super::Limits::values`].
    #[error("the replies hold more than the limit of {0} values")]
    TooMany(usize),
    /// Deeper than [`super::Limits::nesting`].
    #[error("a reply is nested deeper than {0} levels")]
    TooDeep(usize),
    /// All replies that are being read, of all servers, leave no room: see [`super::reply::LARGE`].
    #[error("the replies of all servers together are larger than the limit of {0} bytes")]
    NoRoom(usize),
    /// Something that nobody asked for, where it cannot come by itself.
    #[error("it says something that nobody asked for")]
    Unasked,
    /// A line longer than [`super::Limits::line`].
    #[error("a line is longer than the limit of {0} bytes")]
    LongLine(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_attempt_is_made_where_it_may_go_better() {
        fn check(error: Error, expected: Retry) {
            assert_eq!(error.retry(), expected, "{error:?}");
        }
        let address = || "h:1".to_owned();
        let connect = |kind: io::ErrorKind| Error::Connect { address: address(), source: kind.into() };
        let timeout = |what| Error::Timeout { address: address(), what };
        let closed = |source| Error::Closed { address: address(), source };
        let refused = |reply: &str| {
            let kind = Kind::of_reply(reply.as_bytes());
            Error::Refused { address: address(), what: "HELLO", reply: reply.to_owned(), kind }
        };
        for kind in [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::NotFound,
            io::ErrorKind::TimedOut,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::HostUnreachable,
        ] {
            check(connect(kind), Retry::Transient);
        }
        check(timeout(CONNECT), Retry::Transient);
        check(closed(io::ErrorKind::UnexpectedEof.into()), Retry::Transient);
        check(closed(io::ErrorKind::ConnectionReset.into()), Retry::Transient);

        check(connect(io::ErrorKind::PermissionDenied), Retry::Never);
        for what in ["the name lookup", "the TLS handshake", "a batch of commands"] {
            check(timeout(what), Retry::Never);
        }
        check(closed(io::Error::new(io::ErrorKind::UnexpectedEof, "within an answer")), Retry::Never);
        check(Error::Dns { host: "h".into(), source: io::ErrorKind::NotFound.into() }, Retry::Never);
        check(Error::Protocol { address: address(), source: Violation::Length }, Retry::Never);
        for reply in
            ["WRONGPASS no", "NOAUTH no", "LOADING x", "ERR max number of clients reached", "DENIED x"]
        {
            check(refused(reply), Retry::Never);
        }
    }

    #[test]
    fn error_replies_have_a_kind() {
        for (reply, kind) in [
            ("NOAUTH Authentication required.", Kind::Auth),
            ("WRONGPASS invalid username-password pair or user is disabled.", Kind::Auth),
            ("NOPERM this user has no permissions to run the 'info' command", Kind::NoPerm),
            ("LOADING Redis is loading the dataset in memory", Kind::Loading),
            (
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
                Kind::MasterDown,
            ),
            ("ERR max number of clients reached", Kind::MaxClients),
            ("DENIED Redis is running in protected mode because …", Kind::Protected),
            ("BUSY Redis is busy running a script.", Kind::Busy),
            ("CLUSTERDOWN Hash slot not served", Kind::ClusterDown),
            ("ERR unknown command 'FOO', with args beginning with: ", Kind::Unsupported),
            (
                "ERR Unknown subcommand or wrong number of arguments for 'HISTOGRAM'. Try LATENCY HELP.",
                Kind::Unsupported,
            ),
            ("ERR unknown subcommand 'x'. Try LATENCY HELP.", Kind::Unsupported),
            ("NOPROTO unsupported protocol version", Kind::Unsupported),
            ("ERR DB index is out of range", Kind::Command),
            ("", Kind::Command),
        ] {
            assert_eq!(Kind::of_reply(reply.as_bytes()), kind, "{reply}");
        }
    }
}
