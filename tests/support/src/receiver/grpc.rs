//! The receiver's gRPC: one unary call over HTTP/2.

use super::{Message, Received, Reply, Shared, Trouble};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

const LOOK: Duration = Duration::from_millis(5);

/// Listens until it is over.
pub(super) fn serve(shared: &Arc<Shared>, port: u16, tls: Option<Arc<ServerConfig>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(listen(shared, port, tls));
}

async fn listen(shared: &Arc<Shared>, port: u16, tls: Option<Arc<ServerConfig>>) {
    while !shared.is_over() {
        if shared.is_gone() {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        // Dropped when it goes down: all its connections end.
        let mut connections = JoinSet::new();
        while !shared.is_gone() {
            let Ok(Ok((stream, _))) = tokio::time::timeout(LOOK, listener.accept()).await else { continue };
            let number = shared.connections.fetch_add(1, Ordering::SeqCst);
            connections.spawn(converse(shared.clone(), stream, tls.clone(), number));
        }
    }
}

async fn converse(shared: Arc<Shared>, stream: TcpStream, tls: Option<Arc<ServerConfig>>, number: usize) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(&shared, request, number).await) }
    });
    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = match tls {
        None => http.serve_connection(TokioIo::new(stream), service).await,
        Some(config) => {
            let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
            http.serve_connection(TokioIo::new(stream), service).await
        }
    };
}

type Answer = hyper::Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>;

async fn answer(shared: &Shared, request: hyper::Request<Incoming>, number: usize) -> Answer {
    let _under_way = shared.begin();
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let framed = match body.split_first_chunk::<5>() {
        Some(([0, length @ ..], message)) if u32::from_be_bytes(*length) as usize == message.len() => {
            Ok(message)
        }
        _ => Err("no frame of gRPC".to_owned()),
    };
    let mut received = Received {
        at: Instant::now(),
        connection: number,
        method: head.method.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: head.headers.iter().map(header).collect(),
        body: framed.clone().unwrap_or_default().to_vec(),
        message: Err(String::new()),
    };
    received.message = framed.and_then(|_| Message::read(&received));
    let reply = shared.take(received);
    match reply.trouble {
        Trouble::Late(pause) => tokio::time::sleep(pause).await,
        Trouble::Silence => std::future::pending().await,
        _ => {}
    }
    response(&reply)
}

fn response(reply: &Reply) -> Answer {
    let (code, message, among_headers) = &reply.grpc;
    let mut status = HeaderMap::new();
    let value = |text: &str| HeaderValue::from_str(text).expect("a value");
    status.insert("grpc-status", value(&code.to_string()));
    if !message.is_empty() {
        status.insert("grpc-message", value(message));
    }
    for (name, text) in &reply.trailers {
        status.insert(HeaderName::from_bytes(name.as_bytes()).expect("a name"), value(text));
    }
    let mut builder = hyper::Response::builder().status(reply.status);
    builder = builder.header("content-type", "application/grpc");
    for (name, text) in &reply.headers {
        builder = builder.header(name, text);
    }
    if *among_headers {
        if let Some(headers) = builder.headers_mut() {
            headers.extend(status);
        }
        return builder.body(Full::default().boxed()).expect("a response");
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(reply.body.len() as u32).to_be_bytes());
    frame.extend_from_slice(&reply.body);
    let trailers = (reply.trouble != Trouble::CutBody).then_some(Ok(status));
    let body = Full::new(Bytes::from(frame)).with_trailers(std::future::ready(trailers));
    builder.body(body.map_frame(|frame: Frame<Bytes>| frame).boxed()).expect("a response")
}
