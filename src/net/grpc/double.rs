//! A server of gRPC that answers from a closure: for tests of what a real one seldom says.

use super::framed;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What it says to a call.
pub(in crate::net) enum Says {
    /// These bytes, and a status behind them.
    Body(Vec<u8>, &'static str),
    /// A status and a text, and no body.
    Status(u32, &'static str),
    /// No gRPC at all.
    Http(u16),
    /// Nothing, ever.
    Nothing,
    /// It breaks off.
    Break,
    /// A message, and that the connection is to be left (GOAWAY).
    Farewell(Vec<u8>),
}

impl Says {
    /// A message, and that all went well.
    pub(in crate::net) fn message(message: &impl prost::Message) -> Self {
        Self::Body(framed(&message.encode_to_vec()), "0")
    }
}

/// A call as it came.
#[derive(Clone, Debug)]
pub(in crate::net) struct Call {
    pub(in crate::net) path: String,
    pub(in crate::net) headers: HeaderMap,
    /// Without what stands before a message.
    pub(in crate::net) message: Bytes,
}

pub(in crate::net) struct Double {
    pub(in crate::net) port: u16,
    calls: Arc<Mutex<Vec<Call>>>,
    /// What serves; it ends with this.
    _tasks: JoinSet<()>,
}

impl Double {
    pub(in crate::net) async fn start(answer: impl Fn(&Call) -> Says + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let calls = Arc::new(Mutex::new(vec![]));
        let mut tasks = JoinSet::new();
        let (kept, answer) = (calls.clone(), Arc::new(answer));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (kept, answer, leave) = (kept.clone(), answer.clone(), Arc::new(Notify::new()));
                let told = leave.clone();
                let service =
                    service_fn(move |request| reply(request, kept.clone(), answer.clone(), leave.clone()));
                let server = http2::Builder::new(TokioExecutor::new());
                let mut serving = Box::pin(server.serve_connection(TokioIo::new(stream), service));
                connections.spawn(async move {
                    tokio::select! {
                        _ = &mut serving => return,
                        () = told.notified() => serving.as_mut().graceful_shutdown(),
                    }
                    drop(serving.await);
                });
            }
        });
        Self { port, calls, _tasks: tasks }
    }

    /// All calls so far.
    pub(in crate::net) fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("no panic").clone()
    }
}

async fn reply(
    request: Request<Incoming>,
    calls: Arc<Mutex<Vec<Call>>>,
    answer: Arc<impl Fn(&Call) -> Says>,
    leave: Arc<Notify>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, &'static str> {
    let (head, mut body) = request.into_parts();
    // Of an open stream the first message.
    let piece = body.frame().await.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
    let message = piece.unwrap_or_default();
    let message = message.slice(message.len().min(5)..);
    let call = Call { path: head.uri.path().into(), headers: head.headers, message };
    let says = answer(&call);
    calls.lock().expect("no panic").push(call);
    let builder = Response::builder().header(CONTENT_TYPE, "application/grpc");
    let says = match says {
        Says::Farewell(body) => {
            leave.notify_one();
            Says::Body(body, "0")
        }
        says => says,
    };
    let response = match says {
        Says::Body(body, status) => {
            let mut trailers = HeaderMap::new();
            trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status));
            let body = Full::new(Bytes::from(body)).with_trailers(async { Some(Ok(trailers)) });
            builder.body(body.boxed())
        }
        Says::Status(code, text) => {
            builder.header("grpc-status", code).header("grpc-message", text).body(Empty::new().boxed())
        }
        Says::Http(code) => Response::builder().status(code).body(Empty::new().boxed()),
        Says::Nothing | Says::Farewell(_) => std::future::pending().await,
        Says::Break => return Err("told to"),
    };
    Ok(response.expect("a response"))
}
