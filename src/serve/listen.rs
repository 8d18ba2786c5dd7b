//! Connections: from a socket to requests.

use super::{State, answer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::debug;

/// Accepts connections and answers their requests until it is dropped.
pub async fn serve(listener: TcpListener, state: State) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let state = state.clone();
                    connections.spawn(async move {
                        let _ = stream.set_nodelay(true);
                        let service = service_fn(move |request| {
                            let state = state.clone();
                            async move { Ok::<_, Infallible>(answer(state, request).await) }
                        });
                        let mut http = http1::Builder::new();
                        http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
                        if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                            debug!(%error, "connection ended");
                        }
                    });
                }
                Err(error) => debug!(%error, "accept failed"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Listens on all addresses of both families where the host is empty.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}
