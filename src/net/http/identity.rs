//! Who we are to an HTTP server: the headers of the operator, and a token or a password that may be in a file.
//!
//! What a newcomer would get wrong: a file is looked at before each request, and read only where it changed. One that
//! cannot be read is an error, not a request without a token.

use super::Error;
use crate::config::Secret;
use crate::config::deliver::{Auth, Endpoint, Word};
use crate::net::tls::Stamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use std::io::{self, Read as _};
use std::path::Path;

/// The most that a file with a word may hold.
const SIZE: u64 = 64 * 1024;

/// Headers that say who we are.
#[derive(Debug)]
pub(super) struct Identity {
    given: Vec<(String, Secret)>,
    auth: Auth,
    made: Option<HeaderMap>,
    /// The file of a word, as it was when it was read, or when that failed.
    file: Option<Stamp>,
}

impl Identity {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        Self { given: endpoint.headers.clone(), auth: endpoint.auth.clone(), made: None, file: None }
    }

    /// The headers, with the words as their files have them now.
    pub(super) fn headers(&mut self) -> Result<HeaderMap, Error> {
        if let Some(made) = &self.made
            && !self.is_outdated()
        {
            return Ok(made.clone());
        }
        // Before it is read: what is written meanwhile is seen the next time.
        self.file = match &self.auth {
            Auth::Bearer(Word::File(path))
            | Auth::Header { word: Word::File(path), .. }
            | Auth::Basic { password: Word::File(path), .. } => Some(Stamp::of(path)),
            _ => None,
        };
        self.made = None;
        let headers = self.make()?;
        Ok(self.made.insert(headers).clone())
    }

    /// Whether a file changed since it was read, or since that failed.
    pub(super) fn is_outdated(&self) -> bool {
        self.file.as_ref().is_some_and(Stamp::is_outdated)
    }

    /// A text without the values of our headers.
    pub(super) fn redacted(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let values = self.made.iter().flat_map(HeaderMap::values).filter(|value| value.is_sensitive());
        for value in values.filter_map(|value| value.to_str().ok()) {
            // `Bearer` and `Basic` are no secrets.
            let secret = value.split_once(' ').map_or(value, |(_, secret)| secret);
            if !secret.is_empty() {
                text = text.replace(secret, "***");
            }
        }
        if let Auth::Basic { password: Word::Given(password), .. } = &self.auth
            && !password.is_empty()
        {
            text = text.replace(password.expose(), "***");
        }
        text
    }

    fn make(&self) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("redvigil/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in &self.given {
            let fault = || Error::Header { what: format!("header {name}").into() };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fault())?;
            headers.insert(name, sensitive(value.expose()).ok_or_else(fault)?);
        }
        let (name, text, what) = match &self.auth {
            Auth::None => return Ok(headers),
            Auth::Bearer(said) => (AUTHORIZATION, format!("Bearer {}", read(said)?), "token"),
            Auth::Header { name, word: said } => (HeaderName::from_static(name), read(said)?, "token"),
            Auth::Basic { user, password } => {
                let pair = STANDARD.encode(format!("{user}:{}", read(password)?));
                (AUTHORIZATION, format!("Basic {pair}"), "password")
            }
        };
        let value = sensitive(&text).ok_or_else(|| Error::Header { what: what.into() })?;
        headers.insert(name, value);
        Ok(headers)
    }
}

/// A header that nobody prints.
pub(in crate::net) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The word itself, from its file where it has one.
pub fn read(word: &Word) -> Result<String, Error> {
    match word {
        Word::Given(secret) => Ok(secret.expose().to_owned()),
        Word::File(path) => {
            let text = text(path).map_err(|source| Error::File { path: path.clone(), source })?;
            Ok(text.trim().to_owned())
        }
    }
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(SIZE + 1).read_to_string(&mut text)?;
    match read as u64 {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty")),
        size if size > SIZE => Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large for a word")),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::connect::Tls;
    use crate::config::deliver::Url;
    use std::time::Duration;

    fn identity(auth: Auth, headers: &[(&str, &str)]) -> Identity {
        let url = Url { secure: false, host: "h".into(), port: 1, path: "/".into() };
        let headers = headers.iter().map(|(name, value)| ((*name).into(), Secret::new(*value))).collect();
        Identity::new(&Endpoint { url, headers, auth, tls: Tls::default(), timeout: Duration::ZERO })
    }

    fn given(word: &str) -> Word {
        Word::Given(Secret::new(word))
    }

    #[test]
    fn words_become_headers_or_say_which_of_them_cannot() {
        fn check(auth: Auth, headers: &[(&str, &str)], expected: Result<Option<&str>, &str>) {
            let made = identity(auth, headers).headers();
            let made = made.map(|headers| {
                headers.get(AUTHORIZATION).map(|value| value.to_str().expect("text").to_owned())
            });
            let made = made.as_ref().map(Option::as_deref).map_err(ToString::to_string);
            assert_eq!(made, expected.map_err(Into::into));
        }
        check(Auth::None, &[], Ok(None));
        check(Auth::Bearer(given("t0ken")), &[], Ok(Some("Bearer t0ken")));
        let basic = |password| Auth::Basic { user: "Aladdin".into(), password: given(password) };
        check(basic("open sesame"), &[], Ok(Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")));
        let own = |word| Auth::Header { name: "x-consul-token", word: given(word) };
        check(own("t0ken"), &[], Ok(None));
        check(own("a\nb"), &[], Err("the token has characters that no header may have"));
        check(Auth::Bearer(given("a\nb")), &[], Err("the token has characters that no header may have"));
        let bad = "the header X-A has characters that no header may have";
        check(Auth::None, &[("X-A", "a\rb")], Err(bad));
        check(Auth::None, &[("X A", "b")], Err("the header X A has characters that no header may have"));
    }

    #[test]
    fn a_file_is_read_again_when_it_changes() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut identity = identity(Auth::Bearer(Word::File(file.path().into())), &[]);
        let mut check = |text: Option<&str>, expected: Result<&str, &str>| {
            if let Some(text) = text {
                std::fs::write(file.path(), text).expect("written");
            }
            let made =
                identity.headers().map(|headers| headers[AUTHORIZATION].to_str().expect("text").to_owned());
            let told = made.map_err(|error| {
                crate::telemetry::log::chain(&error).replace(&*file.path().to_string_lossy(), "F")
            });
            assert_eq!(told.as_deref().map_err(String::as_str), expected);
        };
        check(None, Err("cannot read F: it is empty"));
        check(Some("one\n"), Ok("Bearer one"));
        check(None, Ok("Bearer one"));
        check(Some(" another \n"), Ok("Bearer another"));
        check(Some(&"x".repeat(70_000)), Err("cannot read F: it is too large for a word"));
        check(Some("third"), Ok("Bearer third"));
    }

    #[test]
    fn what_a_receiver_repeats_is_taken_out() {
        fn check(auth: Auth, headers: &[(&str, &str)], text: &str, expected: &str) {
            let mut identity = identity(auth, headers);
            identity.headers().expect("headers");
            assert_eq!(identity.redacted(text), expected);
        }
        check(Auth::None, &[], "no word of it", "no word of it");
        check(Auth::Bearer(given("t0ken")), &[], "Bearer t0ken, t0ken!", "Bearer ***, ***!");
        let basic = Auth::Basic { user: "Aladdin".into(), password: given("open sesame") };
        let text = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ== is Aladdin:open sesame";
        check(basic, &[], text, "Basic *** is Aladdin:***");
        check(Auth::None, &[("X-Key", "hunter2")], "not hunter2", "not ***");
        check(Auth::None, &[("X-Key", "")], "nothing", "nothing");
    }

    #[test]
    fn nothing_shows_a_word() {
        let mut identity = identity(Auth::Bearer(given("hunter2")), &[("X-Key", "hunter2")]);
        identity.headers().expect("headers");
        assert!(!format!("{identity:?}").contains("hunter2"), "{identity:?}");
    }
}
