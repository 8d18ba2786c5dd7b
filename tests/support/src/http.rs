//! A plain HTTP/1.1 client: one request on a connection of its own, read to the end.
//!
//! It knows Content-Length, chunked bodies and bodies that end with the connection, and nothing else: no
//! redirects, no decompression. [`exchange`] works over any stream, also TLS and unix sockets.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// An answer, its body as it came (perhaps compressed).
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Name and value in their order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body without its chunk marks.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text; panics when it is no UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_else(|error| panic!("the body is no text: {error}"))
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, `POST` …
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Headers beside `Host`, `Connection: close` and, with a body, `Content-Length`.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// A GET without a body.
    pub fn get(path: &'a str, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { method: "GET", path, headers, body: b"" }
    }
}

/// Sends a request to a port of 127.0.0.1, by TLS where there is a configuration for it. `limit` is for the
/// connect and for each wait for more bytes.
pub fn send(
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    request: Request<'_>,
    limit: Duration,
) -> io::Result<Response> {
    let stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), limit)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    match tls {
        None => exchange(stream, request),
        Some(config) => {
            let name = ServerName::try_from("localhost").expect("localhost is a name");
            let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
            exchange(StreamOwned::new(connection, stream), request)
        }
    }
}

/// Sends a request over an open stream and reads the answer to its end.
pub fn exchange(mut stream: impl Read + Write, request: Request<'_>) -> io::Result<Response> {
    let mut head =
        format!("{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", request.method, request.path);
    for (name, value) in request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !request.body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", request.body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(request.body)?;
    stream.flush()?;
    read_response(&mut BufReader::new(stream), request.method == "HEAD")
}

/// Reads one answer; use it after writing bytes that are no proper request.
pub fn read_response(stream: &mut impl BufRead, head_only: bool) -> io::Result<Response> {
    let status = loop {
        let line = read_line(stream)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        match status.ok_or_else(|| broken(&format!("status line {line:?}")))? {
            100 => while !read_line(stream)?.is_empty() {},
            status => break status,
        }
    };
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken(&format!("header {line:?}")))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut response = Response { status, headers, body: Vec::new() };
    if head_only || matches!(status, 204 | 304) {
        return Ok(response);
    }
    let chunked =
        response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    if chunked {
        response.body = read_chunks(stream)?;
    } else if let Some(length) = response.header("content-length") {
        let length: usize = length.parse().map_err(|_| broken("content-length"))?;
        response.body = vec![0; length];
        stream.read_exact(&mut response.body)?;
    } else {
        stream.read_to_end(&mut response.body)?;
    }
    Ok(response)
}

fn read_chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| broken(&format!("chunk size {line:?}")))?;
        if size == 0 {
            while !read_line(stream)?.is_empty() {}
            return Ok(body);
        }
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..])?;
        if !read_line(stream)?.is_empty() {
            return Err(broken("a chunk that is longer than its size"));
        }
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| broken("bytes that are no text in the head"))
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, status: u16, body: &str) {
        let response = read_response(&mut bytes.as_bytes(), false).expect("a whole answer");
        assert_eq!((response.status, response.text()), (status, body));
    }

    #[test]
    fn the_three_ways_to_end_a_body_are_known() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", 200, "abc");
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
            200,
            "abcde",
        );
        check("HTTP/1.0 404 Not Found\r\n\r\ngone", 404, "gone");
        check("HTTP/1.1 204 No Content\r\n\r\n", 204, "");
    }

    #[test]
    fn an_answer_that_ends_early_is_an_error() {
        for cut in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"] {
            assert!(read_response(&mut cut.as_bytes(), false).is_err(), "{cut:?}");
        }
        let cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        assert!(read_response(&mut cut.as_bytes(), false).is_err());
    }
}
