//! From the words of `--config.source` to a [`Remote`]. Pure, but for variables, which are passed in.
//!
//! `SCHEME://HOST[:PORT][,HOST…]/KEY[?WORD=VALUE&…]`. What is said behind the `?` depends on the scheme; [`WORDS`] lists it.
//!
//! What a newcomer would get wrong: nothing of the text may be shown but names of words and of variables, for it may hold a
//! password that somebody put where none belongs.

use super::{NacosApi, Remote};
use crate::config::Secret;
use crate::config::connect::Tls;
use crate::config::deliver::{Auth, Endpoint, Url, Word};
use crate::config::net::Etcd;
use percent_encoding::percent_decode_str;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Looks a variable up.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// How long Consul and Nacos have for an answer that needs no waiting for a change.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the path of Nacos' API begins with, where nothing else is said.
const CONTEXT: &str = "/nacos";

/// More endpoints than a cluster has.
const MOST_HOSTS: usize = 16;

/// A longer key is a mistake.
const LONGEST_KEY: usize = 1024;

const EXPECTED: &str =
    "expected etcd://HOST:PORT/KEY, consul://HOST:PORT/KEY or nacos://HOST:PORT/DATAID?group=G&namespace=N";

/// The schemes: their name, the port where none is said, and the words that only they have.
const WORDS: [(&str, u16, &[&str]); 3] = [
    ("etcd", 2379, &["username", "password_file", "password_env"]),
    ("consul", 8500, &["token_file", "token_env"]),
    ("nacos", 8848, &["group", "namespace", "username", "password_file", "password_env", "api", "context"]),
];

/// The words that all of them have.
const TLS: [&str; 6] = ["tls", "ca_file", "cert_file", "key_file", "server_name", "skip_verify"];

impl Remote {
    /// Reads the value of `--config.source`. The error is the end of a sentence that begins with the value, and shows no
    /// part of it that may be secret.
    pub fn parse(text: &str, env: Env<'_>) -> Result<Self, String> {
        let wrong = || format!("is no place of a document; {EXPECTED}");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let row = WORDS.iter().find(|row| row.0 == scheme.to_ascii_lowercase()).ok_or_else(wrong)?;
        let (scheme, port, own) = *row;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        if authority.contains('@') {
            return Err(format!("holds a user or a password in front of the host; {}", instead(scheme)));
        }
        if rest.contains('#') {
            return Err("has a fragment (#), which means nothing here".into());
        }
        let mut said = Said::read(query, scheme, own)?;
        let tls = said.tls()?;
        let urls = authority.split(',').map(|host| url(host, port, tls.is_some()));
        let urls = urls.collect::<Result<Vec<_>, _>>()?;
        if urls.len() > MOST_HOSTS {
            return Err(format!("names more than {MOST_HOSTS} hosts"));
        }
        let key = key(path)?;
        if scheme == "etcd" {
            let user = said.user(env)?;
            let etcd = Etcd { endpoints: urls, user, tls: tls.unwrap_or_default() };
            return Ok(Self::Etcd { etcd, key: format!("/{key}") });
        }
        let [url] = <[Url; 1]>::try_from(urls).map_err(|_| {
            format!("names several hosts; {scheme}:// is asked at one, which may be a balancer")
        })?;
        let auth = if scheme == "consul" { said.token(env)? } else { Auth::None };
        let mut endpoint =
            Endpoint { url, headers: vec![], auth, tls: tls.unwrap_or_default(), timeout: TIMEOUT };
        if scheme == "consul" {
            return Ok(Self::Consul { endpoint, key });
        }
        endpoint.url.path = context(said.take("context"))?;
        Ok(Self::Nacos {
            endpoint,
            user: said.user(env)?,
            id: plain("the dataId", key)?,
            group: plain("group=", said.take("group").unwrap_or_else(|| "DEFAULT_GROUP".into()))?,
            namespace: match said.take("namespace") {
                Some(name) if !name.is_empty() => plain("namespace=", name)?,
                _ => String::new(),
            },
            api: match said.take("api").as_deref() {
                None | Some("auto") => NacosApi::Auto,
                Some("v1") => NacosApi::V1,
                Some("v3") => NacosApi::V3,
                Some(_) => return Err("has an api= that is not known; expected auto, v1 or v3".into()),
            },
        })
    }
}

/// Where a password or token belongs.
fn instead(scheme: &str) -> &'static str {
    match scheme {
        "consul" => "expected token_file=FILE or token_env=VARIABLE behind the ?",
        _ => "expected username=USER and password_file=FILE or password_env=VARIABLE behind the ?",
    }
}

/// A host with its port.
fn url(host: &str, port: u16, is_secure: bool) -> Result<Url, String> {
    let scheme = if is_secure { "https" } else { "http" };
    let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
    let port = if behind.contains(':') { String::new() } else { format!(":{port}") };
    let url = Url::parse(&format!("{scheme}://{host}{port}/"));
    url.map_err(|error| format!("names no server: {error}; {EXPECTED}"))
}

/// The key, without the `/` in front of it.
fn key(path: &str) -> Result<String, String> {
    let key = decoded(path).ok_or("has a key that is no UTF-8")?;
    if key.is_empty() || key.ends_with('/') {
        return Err(format!("names no key; {EXPECTED}"));
    }
    if key.len() > LONGEST_KEY || key.chars().any(char::is_control) {
        return Err("has a key that is too long, or has control characters".into());
    }
    Ok(key)
}

/// A name as Nacos has them.
fn plain(what: &str, name: String) -> Result<String, String> {
    let is_known = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    match !name.is_empty() && name.len() <= 256 && name.bytes().all(is_known) {
        true => Ok(name),
        false => {
            Err(format!("has a word that Nacos does not take: {what} is made of letters, digits and - _ . :"))
        }
    }
}

/// What the path of Nacos' API begins with: `/nacos`, or nothing.
fn context(said: Option<String>) -> Result<String, String> {
    let said = said.unwrap_or_else(|| CONTEXT.into());
    let path = said.trim_matches('/');
    let is_known = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    match path.bytes().all(is_known) {
        true => Ok(format!("/{path}")),
        false => Err("has a context= that is no path; expected one such as /nacos".into()),
    }
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

/// What was said behind the `?`.
struct Said {
    scheme: &'static str,
    words: Vec<(&'static str, String)>,
}

impl Said {
    fn read(query: &str, scheme: &'static str, own: &'static [&'static str]) -> Result<Self, String> {
        let mut words = vec![];
        for said in query.split('&').filter(|said| !said.is_empty()) {
            let known = || own.iter().chain(&TLS).copied();
            let expected = || format!("{scheme}:// has {}", known().collect::<Vec<_>>().join(", "));
            let (name, value) = said.split_once('=').unwrap_or((said, ""));
            if matches!(name, "password" | "token" | "access_token" | "accessToken") {
                return Err(format!("holds a secret ({name}=), which could be seen; {}", instead(scheme)));
            }
            let Some(word) = known().find(|word| *word == name) else {
                // What is not of the form of a word may be a secret.
                let is_word = name.len() <= 24
                    && said.contains('=')
                    && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                let what =
                    if is_word { format!("the unknown word {name}=") } else { "an unknown word".into() };
                return Err(format!("has {what} behind the ?; {}", expected()));
            };
            if words.iter().any(|(known, _)| *known == word) {
                return Err(format!("says {word}= twice"));
            }
            words.push((word, decoded(value).ok_or_else(|| format!("has a {word}= that is no UTF-8"))?));
        }
        Ok(Self { scheme, words })
    }

    fn take(&mut self, word: &str) -> Option<String> {
        let at = self.words.iter().position(|(known, _)| *known == word)?;
        Some(self.words.swap_remove(at).1)
    }

    fn is_on(&mut self, word: &str) -> Result<bool, String> {
        match self.take(word).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(format!("has a {word}= that is neither true nor false")),
        }
    }

    fn file(&mut self, word: &str) -> Option<PathBuf> {
        self.take(word).filter(|path| !path.is_empty()).map(Into::into)
    }

    /// TLS; `None`: there is none.
    fn tls(&mut self) -> Result<Option<Tls>, String> {
        let is_on = self.is_on("tls")?;
        if !is_on && let Some((word, _)) = self.words.iter().find(|(word, _)| TLS.contains(word)) {
            return Err(format!("says {word}= without tls=true, and so there would be no TLS"));
        }
        let client = match (self.file("cert_file"), self.file("key_file")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err("needs cert_file= and key_file= together".into()),
        };
        let tls = Tls {
            ca_file: self.file("ca_file"),
            client,
            server_name: self.take("server_name").filter(|name| !name.is_empty()),
            skip_verification: self.is_on("skip_verify")?,
        };
        Ok(is_on.then_some(tls))
    }

    /// A secret: `<what>_file` or `<what>_env`.
    fn secret(&mut self, what: &str, env: Env<'_>) -> Result<Option<Word>, String> {
        match (self.file(&format!("{what}_file")), self.take(&format!("{what}_env"))) {
            (Some(_), Some(_)) => Err(format!("says {what}_file= and {what}_env=; expected one of them")),
            (Some(path), None) => Ok(Some(Word::File(path))),
            (None, None) => Ok(None),
            (None, Some(name)) => {
                let found = env(&name).and_then(|value| value.into_string().ok());
                match found.filter(|value| !value.is_empty()) {
                    Some(value) => Ok(Some(Word::Given(Secret::new(value)))),
                    None => Err(format!("has a {what}_env= that names a variable which is not set")),
                }
            }
        }
    }

    fn user(&mut self, env: Env<'_>) -> Result<Option<(String, Word)>, String> {
        match (self.take("username").filter(|name| !name.is_empty()), self.secret("password", env)?) {
            (None, None) => Ok(None),
            (Some(user), Some(password)) => Ok(Some((user, password))),
            _ => Err(format!("needs a user and a password together; {}", instead(self.scheme))),
        }
    }

    fn token(&mut self, env: Env<'_>) -> Result<Auth, String> {
        Ok(self.secret("token", env)?.map_or(Auth::None, Auth::Bearer))
    }
}

#[cfg(test)]
mod tests;
