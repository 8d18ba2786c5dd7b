//! The first words on a connection: version of the protocol, who we are, which database.
//!
//! `HELLO 3` does the first two at once and says what the server is, so that the first collection can
//! already choose its commands. Servers and proxies that do not know it get `AUTH` and RESP2.
//! <https://redis.io/docs/latest/commands/hello/>

use super::dial::dial;
use super::{Batch, Connection, Deadline, Error, Mode, Replies, Reply, Server, Version};
use crate::config::Address;
use crate::config::connect::Tls;
use crate::config::credentials::Credentials;
use crate::net::tls;
use tokio::time::Instant;

/// The name that `CLIENT LIST` shows for us.
pub const CLIENT_NAME: &str = "redvigil";

/// Who we are to a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Login {
    /// User and password; without them nothing is sent.
    pub credentials: Option<Credentials>,
    /// Whether to name ourselves.
    pub set_name: bool,
}

/// Dials, shakes hands and selects the database of the address.
///
/// Fails with the error of the first step that fails; `-NOAUTH` and `-WRONGPASS` are
/// [`Error::Refused`] of kind [`Kind::Auth`](super::Kind::Auth).
pub async fn connect(
    address: &Address,
    login: &Login,
    tls: &Tls,
    clients: &tls::Clients,
    deadline: Deadline,
) -> Result<Connection, Error> {
    let mut connection = open(address, tls, clients, deadline).await?;
    shake_hands(&mut connection, address, login, deadline).await?;
    Ok(connection)
}

/// The same, where others may look at the connection before it can be used: what is in `place` afterwards may
/// be one that is not [usable](Connection::is_usable), where this is given up or fails.
pub async fn connect_at(
    place: &mut Option<Connection>,
    address: &Address,
    login: &Login,
    tls: &Tls,
    clients: &tls::Clients,
    deadline: Deadline,
) -> Result<(), Error> {
    *place = None;
    let connection = place.insert(open(address, tls, clients, deadline).await?);
    let ended = shake_hands(connection, address, login, deadline).await;
    connection.broken |= ended.is_err();
    ended
}

/// A connection before the first word of ours. A server that shook hands by TLS was heard.
async fn open(
    address: &Address,
    tls: &Tls,
    clients: &tls::Clients,
    deadline: Deadline,
) -> Result<Connection, Error> {
    let stream = dial(address, tls, clients, deadline).await?;
    let heard = address.tls.then(Instant::now);
    Ok(Connection { heard, ..Connection::new(stream, address.to_string()) })
}

async fn shake_hands(
    connection: &mut Connection,
    address: &Address,
    login: &Login,
    deadline: Deadline,
) -> Result<(), Error> {
    let mut replies = Replies::default();
    let mut batch = Batch::default();

    hello(&mut batch, login);
    connection.exchange(&batch, &mut replies, deadline).await?;
    let answer = replies.get(0);
    match answer.and_then(Reply::error) {
        None => connection.server = answer.map(describe),
        // A proxy may deny HELLO as if an ACL did; a server with such a user says the same again to INFO.
        Some(refusal) if refusal.kind().is_lasting() => {
            resp2(&mut batch, login);
            if !batch.is_empty() {
                connection.exchange(&batch, &mut replies, deadline).await?;
                // Only AUTH must succeed; a name is a courtesy.
                if login.credentials.is_some() {
                    accept(connection, login, "AUTH", replies.get(0))?;
                }
            }
        }
        Some(_) => accept(connection, login, "HELLO", answer)?,
    }
    if address.db != 0 {
        batch.clear();
        batch.push(&["SELECT", &address.db.to_string()]);
        connection.exchange(&batch, &mut replies, deadline).await?;
        accept(connection, login, "SELECT", replies.get(0))?;
        connection.database = address.db;
    }
    Ok(())
}

fn hello(batch: &mut Batch, login: &Login) {
    let mut words = vec!["HELLO", "3"];
    if let Some(Credentials { user, password }) = &login.credentials {
        words.extend(["AUTH", user.as_deref().unwrap_or("default"), password.expose()]);
    }
    if login.set_name {
        words.extend(["SETNAME", CLIENT_NAME]);
    }
    batch.clear();
    batch.push(&words);
}

fn resp2(batch: &mut Batch, login: &Login) {
    batch.clear();
    match &login.credentials {
        Some(Credentials { user: Some(user), password }) => batch.push(&["AUTH", user, password.expose()]),
        Some(Credentials { user: None, password }) => batch.push(&["AUTH", password.expose()]),
        None => {}
    }
    if login.set_name {
        batch.push(&["CLIENT", "SETNAME", CLIENT_NAME]);
    }
}

fn describe(hello: Reply<'_>) -> Server {
    let text = |key| hello.field(key).and_then(Reply::text).unwrap_or_default();
    let version = Version::parse(text("version"));
    // Valkey has all commands of Redis 7.2.4 and says its own version here.
    let valkey = (text("server") == "valkey").then_some(version);
    let version = if valkey.is_some() { Version(7, 2, 4) } else { version };
    Server { mode: Mode::parse(text("mode")), version, valkey }
}

/// Fails with what the server said, without what it may have repeated of our words: a server that does not
/// know AUTH says "unknown command 'AUTH', with args beginning with: 'me' 'the password'".
fn accept(
    connection: &Connection,
    login: &Login,
    what: &'static str,
    reply: Option<Reply<'_>>,
) -> Result<(), Error> {
    let Some(refusal) = reply.and_then(Reply::error) else { return Ok(()) };
    let mut text = refusal.text();
    text.truncate(text.find(", with args").unwrap_or(text.len()));
    if let Some(Credentials { password, .. }) = &login.credentials
        && refusal.repeats(password.expose())
    {
        text = "(an answer that repeats the password)".into();
    }
    let address = connection.address.clone();
    Err(Error::Refused { address, what, reply: text, kind: refusal.kind() })
}
