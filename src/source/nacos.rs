//! A document that Nacos keeps: by the long poll of 1.x and 2.x, or by asking again and again as 3.x wants it.
//! <https://nacos.io/en/docs/open-api/>
//!
//! `reply` reads what Nacos says; here is who asks for what, and when.
//!
//! What a newcomer would get wrong: the long poll says that something changed, and never what; and a Nacos of several members
//! may have it told before the one that is asked has it. So what counts is whether the MD5 is another one.

mod reply;

use super::fault::{Fault, text};
use super::follow::Read;
use super::{Kind, LARGEST, md5};
use crate::config::deliver::{Endpoint, Word};
use crate::config::source::NacosApi;
use crate::net::http::{self, Answer, Client, Method, Request, StatusCode, Version, encoded};
use crate::net::tls;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long the long poll may wait. Nacos answers half a second before.
const WAIT: Duration = Duration::from_secs(30);

/// Two questions of 3.x begin no closer together: half of what a change may take.
const POLL: Duration = Duration::from_millis(500);

/// The same of the long poll.
const APART: Duration = Duration::from_millis(250);

/// The most that an answer without a document may have.
const SMALL: usize = 64 * 1024;

/// In JSON a character may take six.
const LARGEST_JSON: usize = LARGEST * 3;

/// Which document.
#[derive(Clone, Debug)]
pub(super) struct What {
    id: String,
    group: String,
    namespace: String,
}

impl What {
    pub(super) fn new(id: &str, group: &str, namespace: &str) -> Self {
        Self { id: id.into(), group: group.into(), namespace: namespace.into() }
    }
}

/// An API that is known to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    V1,
    V3,
}

/// A document of a Nacos.
#[derive(Debug)]
pub(super) struct Source {
    client: Client,
    /// What the paths begin with.
    context: String,
    user: Option<(String, Word)>,
    what: What,
    wanted: NacosApi,
    api: Option<Api>,
    token: Option<Token>,
    timeout: Duration,
    /// The MD5 of what was read last; empty: it is not there; `None`: nothing was read, or something failed since.
    md5: Option<String>,
    not_before: Instant,
}

/// Who we are, as Nacos said at the login.
#[derive(Debug)]
struct Token {
    /// For the header.
    bearer: HeaderValue,
    /// The same without `Bearer`.
    plain: HeaderValue,
    renew: Instant,
}

impl Source {
    pub(super) fn new(
        endpoint: &Endpoint,
        user: Option<(String, Word)>,
        what: What,
        wanted: NacosApi,
        clients: Arc<tls::Clients>,
    ) -> Self {
        Self {
            client: Client::new(endpoint, Version::V1, clients),
            context: endpoint.url.path_alone().trim_end_matches('/').into(),
            user,
            what,
            wanted,
            api: match wanted {
                NacosApi::Auto => None,
                NacosApi::V1 => Some(Api::V1),
                NacosApi::V3 => Some(Api::V3),
            },
            token: None,
            timeout: endpoint.timeout,
            md5: None,
            not_before: Instant::now(),
        }
    }

    /// Waits for a change and reads the document.
    pub(super) async fn next(&mut self) -> Result<Option<Read>, Fault> {
        sleep_until(self.not_before).await;
        let known = self.md5.take();
        match self.step(known.as_deref()).await {
            Ok(Step::Same) => {
                self.md5 = known;
                Ok(None)
            }
            Ok(Step::Missing) => {
                let was_missing = known.as_deref() == Some("");
                self.md5 = Some(String::new());
                if was_missing { Ok(None) } else { Err(Fault::missing("dataId in this group and namespace")) }
            }
            Ok(Step::Read { content, md5 }) => {
                self.md5 = Some(md5.clone());
                if known.as_deref() == Some(&*md5) {
                    return Ok(None);
                }
                Ok(Some(Read { text: text(&content)?.into(), version: md5 }))
            }
            Err(fault) => {
                if fault.kind == Kind::Refused {
                    // Perhaps it is forgotten or was taken back: the next one may do.
                    self.token = None;
                }
                Err(fault)
            }
        }
    }

    async fn step(&mut self, known: Option<&str>) -> Result<Step, Fault> {
        self.log_in().await?;
        let begun = Instant::now();
        match self.api {
            Some(Api::V1) => {
                self.not_before = begun + APART;
                if let Some(known) = known
                    && !self.listen(known).await?
                {
                    return Ok(Step::Same);
                }
                self.get_v1().await
            }
            Some(Api::V3) => {
                self.not_before = begun + POLL;
                self.get_v3().await?.ok_or_else(|| Fault::new(Kind::Protocol, "it has no API of 3.x"))
            }
            None => self.find_out().await,
        }
    }

    /// Asks by one API, and then by the other.
    async fn find_out(&mut self) -> Result<Step, Fault> {
        let answer = self.ask(Method::GET, &self.path_v1(), None, LARGEST).await?;
        if reply::knows_v1(answer.status, &answer.body) {
            self.api = Some(Api::V1);
            return self.step_v1(&answer);
        }
        let Some(step) = self.get_v3().await? else {
            return Err(Fault::new(Kind::Protocol, "it has neither the API of 1.x and 2.x nor that of 3.x"));
        };
        self.api = Some(Api::V3);
        Ok(step)
    }

    async fn get_v1(&mut self) -> Result<Step, Fault> {
        let answer = self.ask(Method::GET, &self.path_v1(), None, LARGEST).await?;
        self.step_v1(&answer)
    }

    fn step_v1(&self, answer: &Answer) -> Result<Step, Fault> {
        match answer.status {
            StatusCode::OK => {
                let told = answer.headers.get("content-md5").and_then(|value| value.to_str().ok());
                let md5 = told.map_or_else(|| md5::hex(&answer.body), Into::into);
                Ok(Step::Read { content: answer.body.to_vec(), md5 })
            }
            StatusCode::NOT_FOUND => Ok(Step::Missing),
            status => Err(self.refused(status, &answer.body)),
        }
    }

    /// `None`: there is no such API.
    async fn get_v3(&mut self) -> Result<Option<Step>, Fault> {
        let What { id, group, namespace } = &self.what;
        let mut path = format!(
            "{}/v3/client/cs/config?dataId={}&groupName={}",
            self.context,
            encoded(id),
            encoded(group)
        );
        if !namespace.is_empty() {
            path.push_str(&format!("&namespaceId={}", encoded(namespace)));
        }
        let answer = self.ask(Method::GET, &path, None, LARGEST_JSON).await?;
        match reply::config(answer.status, &answer.body) {
            reply::Config::Found { content, md5 } => {
                let md5 = md5.unwrap_or_else(|| md5::hex(content.as_bytes()));
                Ok(Some(Step::Read { content: content.into(), md5 }))
            }
            reply::Config::Missing => Ok(Some(Step::Missing)),
            reply::Config::Unknown => Ok(None),
            reply::Config::Refused => Err(self.refused(answer.status, &answer.body)),
            reply::Config::Nonsense => Err(Fault::new(Kind::Protocol, "its answer is none of Nacos")),
        }
    }

    /// Waits until the document is another one than that with this MD5. `false`: it is the same.
    async fn listen(&mut self, md5: &str) -> Result<bool, Fault> {
        let path = format!("{}/v1/cs/configs/listener", self.context);
        let body = format!("Listening-Configs={}", encoded(&reply::listening(&self.what, md5)));
        let answer = self.ask(Method::POST, &path, Some(body), SMALL).await?;
        match answer.status {
            StatusCode::OK => Ok(!answer.body.is_empty()),
            status => {
                if self.wanted == NacosApi::Auto && matches!(status.as_u16(), 404 | 410 | 501) {
                    // It became one of 3.x.
                    self.api = None;
                }
                Err(self.refused(status, &answer.body))
            }
        }
    }

    fn path_v1(&self) -> String {
        let What { id, group, namespace } = &self.what;
        let mut path =
            format!("{}/v1/cs/configs?dataId={}&group={}", self.context, encoded(id), encoded(group));
        if !namespace.is_empty() {
            path.push_str(&format!("&tenant={}", encoded(namespace)));
        }
        path
    }

    /// Gets a token, or another one before the old one ends. What is refused here is told as what it is.
    async fn log_in(&mut self) -> Result<(), Fault> {
        let Some((user, password)) = &self.user else { return Ok(()) };
        if self.token.as_ref().is_some_and(|token| Instant::now() < token.renew) {
            return Ok(());
        }
        let password = http::word(password)?;
        let form = format!("username={}&password={}", encoded(user), encoded(&password));
        self.token = None;
        let paths: &[&str] = match self.api {
            Some(Api::V1) => &["/v1/auth/login"],
            Some(Api::V3) => &["/v3/auth/user/login"],
            None => &["/v1/auth/login", "/v3/auth/user/login"],
        };
        let begun = Instant::now();
        let mut last = None;
        for path in paths {
            let path = format!("{}{path}", self.context);
            let answer = self.ask(Method::POST, &path, Some(form.clone()), SMALL).await?;
            if answer.status == StatusCode::OK {
                let said = reply::token(&answer.body);
                let (token, ttl) =
                    said.ok_or_else(|| Fault::new(Kind::Protocol, "its login gives no token"))?;
                let header = |text: &str| {
                    let value = HeaderValue::from_str(text).ok();
                    let mut value = value
                        .ok_or_else(|| Fault::new(Kind::Protocol, "its token is no word for a header"))?;
                    value.set_sensitive(true);
                    Ok::<_, Fault>(value)
                };
                let (bearer, plain) = (header(&format!("Bearer {token}"))?, header(&token)?);
                self.token = Some(Token { bearer, plain, renew: begun + ttl.mul_f64(0.8) });
                return Ok(());
            }
            let is_elsewhere = matches!(answer.status.as_u16(), 404 | 410 | 501);
            last = Some(answer);
            if !is_elsewhere {
                break;
            }
        }
        let status = last.map_or(StatusCode::NOT_FOUND, |answer| answer.status);
        // What it says may hold what we sent.
        Err(match status.as_u16() {
            404 | 410 | 501 => Fault::new(Kind::Protocol, format!("its login is not there: {status}")),
            400..=499 => Fault::new(Kind::Refused, format!("it refuses user and password: {status}")),
            _ => Fault::status(status, ""),
        })
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Fault {
        let mut said = String::from_utf8_lossy(body).into_owned();
        if let Some(token) = self.token.as_ref().and_then(|token| token.plain.to_str().ok()) {
            said = said.replace(token, "***");
        }
        Fault::status(status, &http::said(&self.client.redacted(&said)))
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        form: Option<String>,
        limit: usize,
    ) -> Result<Answer, http::Error> {
        let mut headers = HeaderMap::new();
        let mut wait = Duration::ZERO;
        if form.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        if path.ends_with("/listener") {
            wait = WAIT;
            headers.insert("long-pulling-timeout", HeaderValue::from(WAIT.as_millis() as u64));
        }
        if let Some(token) = &self.token {
            // In headers, for an URL is written into logs on the way. 1.x knows the first, and others both.
            headers.insert(AUTHORIZATION, token.bearer.clone());
            headers.insert("accesstoken", token.plain.clone());
        }
        let request = Request { method, path: path.into(), headers, body: form.unwrap_or_default().into() };
        self.client.fetch(&request, limit, Instant::now() + wait + self.timeout).await
    }
}

/// What one question came to.
enum Step {
    /// Nothing changed.
    Same,
    /// There is no such document.
    Missing,
    /// This is it.
    Read { content: Vec<u8>, md5: String },
}
