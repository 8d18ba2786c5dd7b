//! From families to the bytes of a response: format, filter, compression.
//!
//! Format and compression are chosen by the headers of the request ([`exposition::negotiate`]). A small page
//! stays uncompressed: it fits into one packet anyway. A large one is compressed apart from the thread that
//! serves, which has other requests to attend to. The page of a fleet is made and compressed while it is sent.

use super::flow::Flow;
use super::query::Query;
use super::response::{self, Body};
use exposition::negotiate;
use exposition::{Encoding, Escaping, Families, Format, Labelled, Page, Stream};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, VARY,
};
use hyper::{Response, StatusCode};
use std::io::Write as _;

/// The largest page that is not worth compressing, in bytes.
const SMALL: usize = 1024;

/// Pages above this are compressed by the blocking pool: some 3 ms of work.
const LARGE: usize = 1024 * 1024;

/// gzip. Of a page of 127 KB, level 1 makes 22 KB in 0.21 ms, level 2 18 KB in 0.31 ms, level 6, which the
/// peer uses, 16 KB in 0.92 ms.
pub(super) const GZIP_LEVEL: u32 = 1;

/// zstd. Of the same page, level 1 makes 17 KB in 0.14 ms, level 3 16 KB in 0.18 ms.
pub(super) const ZSTD_LEVEL: i32 = 1;

/// What a client can read, from its request.
pub struct Wish {
    accept: Option<String>,
    accept_encoding: Option<String>,
    names: Vec<String>,
    prefer_openmetrics: bool,
}

impl Wish {
    /// Reads the headers, and the `name[]` parameters, which name families in full.
    pub fn of(headers: &HeaderMap, query: &Query, prefer_openmetrics: bool) -> Self {
        Self {
            accept: joined(headers, ACCEPT),
            accept_encoding: joined(headers, ACCEPT_ENCODING),
            names: query.all("name[]"),
            prefer_openmetrics,
        }
    }

    /// A page of all these families.
    pub async fn page(&self, sets: impl IntoIterator<Item = &Families>) -> Response<Body> {
        let (format, escaping) = negotiate::format(self.accept.as_deref(), self.prefer_openmetrics);
        let mut body = Vec::with_capacity(64 * 1024);
        exposition::write(format, &mut body, &Page::new(sets, &self.names));
        let wanted = negotiate::encoding(self.accept_encoding.as_deref());
        let (body, encoding) = match wanted {
            _ if body.len() <= SMALL => (body, Encoding::Identity),
            Encoding::Identity => (body, wanted),
            _ if body.len() <= LARGE => compress(wanted, body),
            _ => match tokio::task::spawn_blocking(move || compress(wanted, body)).await {
                Ok(compressed) => compressed,
                // Only when the process stops in this moment.
                Err(_) => (vec![], Encoding::Identity),
            },
        };
        respond(body.into(), format, escaping, encoding)
    }

    /// A page of all these members, made while it is sent.
    pub fn stream(&self, sets: Vec<Labelled>) -> Response<Body> {
        let (format, escaping) = negotiate::format(self.accept.as_deref(), self.prefer_openmetrics);
        let encoding = negotiate::encoding(self.accept_encoding.as_deref());
        match Flow::new(Stream::new(format, sets, &self.names), encoding) {
            Ok(flow) => respond(Body::Flow(Box::new(flow)), format, escaping, encoding),
            Err(error) => response::error(StatusCode::INTERNAL_SERVER_ERROR, error),
        }
    }
}

fn respond(body: Body, format: Format, escaping: Escaping, encoding: Encoding) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type(escaping)));
    headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    if let Some(name) = encoding.header() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    response
}

/// A header that may come in several lines, as one.
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let mut lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let first = lines.next()?.to_owned();
    Some(lines.fold(first, |all, line| all + "," + line))
}

/// The body compressed; as it was, where the compressor fails.
fn compress(encoding: Encoding, body: Vec<u8>) -> (Vec<u8>, Encoding) {
    let room = Vec::with_capacity(body.len() / 6);
    let compressed = match encoding {
        Encoding::Identity => None,
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(room, Compression::new(GZIP_LEVEL));
            encoder.write_all(&body).and_then(|()| encoder.finish()).ok()
        }
        Encoding::Zstd => zstd::bulk::compress(&body, ZSTD_LEVEL).ok(),
    };
    match compressed {
        Some(compressed) => (compressed, encoding),
        None => (body, Encoding::Identity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exposition::{Builder, Desc};
    use http_body_util::BodyExt as _;
    use std::io::Read as _;
    use std::sync::Arc;

    static GAUGE: Desc = Desc::gauge("a_gauge", "A.").labels(&["number"]);
    static OTHER: Desc = Desc::gauge("other", "O.");

    async fn check(samples: usize, header: &str, expected: Encoding) {
        let mut out = Builder::new();
        let family = out.family(&GAUGE);
        for number in 0..samples {
            out.sample(family, &[&number.to_string()], number as f64);
        }
        out.push(&OTHER, 1.0);
        let set = out.finish();
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_str(header).expect("a header"));
        let plain = Wish::of(&HeaderMap::new(), &Query::default(), false).page([&set]).await;
        let plain = plain.into_body().collect().await.expect("whole").to_bytes();
        let response = Wish::of(&headers, &Query::default(), false).page([&set]).await;
        let encoding = response.headers().get(CONTENT_ENCODING).map(|v| v.to_str().expect("text").to_owned());
        assert_eq!(encoding.as_deref(), expected.header(), "{header}");
        let body = response.into_body().collect().await.expect("whole").to_bytes();
        let mut read = vec![];
        match expected {
            Encoding::Identity => read = body.to_vec(),
            Encoding::Gzip => drop(flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut read)),
            Encoding::Zstd => read = zstd::decode_all(&body[..]).expect("zstd"),
        }
        assert!(read == plain, "{header}: {} bytes became {}", plain.len(), read.len());
    }

    #[tokio::test]
    async fn pages_are_compressed_as_asked_when_it_is_worth_it() {
        check(1000, "", Encoding::Identity).await;
        check(1000, "gzip", Encoding::Gzip).await;
        check(1000, "gzip, deflate, br, zstd;q=0.5", Encoding::Gzip).await;
        check(1000, "zstd", Encoding::Zstd).await;
        check(1000, "br", Encoding::Identity).await;
        check(10, "gzip", Encoding::Identity).await;
        check(100_000, "gzip", Encoding::Gzip).await;
        check(100_000, "zstd", Encoding::Zstd).await;
    }

    #[tokio::test]
    async fn the_page_of_a_fleet_says_what_it_is_and_fits_its_compression() {
        let mut out = Builder::new();
        out.push(&OTHER, 1.0);
        let set = Arc::new(out.finish());
        let check =
            async |accept: &'static str, encoding: &'static str, begin: &str, coding: Option<&str>| {
                let mut headers = HeaderMap::new();
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
                let labels = [("service".into(), "a".into())].into();
                let sets = vec![Labelled { labels, parts: vec![set.clone()] }];
                let response = Wish::of(&headers, &Query::default(), false).stream(sets);
                let header =
                    |name| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
                assert!(header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with(begin)), "{accept}");
                assert_eq!(header(CONTENT_ENCODING).as_deref(), coding, "{encoding}");
                let body = response.into_body().collect().await.expect("whole").to_bytes();
                let mut read = vec![];
                match coding {
                    None => read = body.to_vec(),
                    Some("gzip") => drop(flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut read)),
                    Some(_) => read = zstd::decode_all(&body[..]).expect("zstd"),
                }
                String::from_utf8(read).expect("UTF-8")
            };
        let sample = "other{service=\"a\"} 1\n";
        assert!(check("*/*", "", "text/plain;", None).await.ends_with(sample));
        assert!(check("*/*", "gzip", "text/plain;", Some("gzip")).await.ends_with(sample));
        let openmetrics = "application/openmetrics-text";
        let page = check(openmetrics, "zstd", openmetrics, Some("zstd")).await;
        assert!(page.ends_with(&format!("{sample}# EOF\n")), "{page}");
    }

    #[tokio::test]
    async fn a_filter_keeps_the_families_that_it_names() {
        let mut out = Builder::new();
        out.push(&OTHER, 1.0);
        let set = out.finish();
        for (query, expected) in [("name[]=other", 1), ("name[]=oth", 0), ("name[]=x&name%5B%5D=other", 1)] {
            let wish = Wish::of(&HeaderMap::new(), &Query::parse(Some(query)), false);
            let body = wish.page([&set]).await.into_body().collect().await.expect("whole").to_bytes();
            assert_eq!(usize::from(!body.is_empty()), expected, "{query}");
        }
    }
}
