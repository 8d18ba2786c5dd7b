//! A real receiver of OTLP, over gRPC and over HTTP: `rotel`, which writes down all that it gets, and passes it on.
//!
//! What a newcomer would get wrong: it says yes before it has passed anything on. What is behind it is there a moment
//! later.

use std::time::Duration;

use crate::{Part, Port, Process, Store, wait_until};

/// A running rotel. It ends when this is dropped.
#[derive(Debug)]
pub struct Rotel {
    grpc: Port,
    http: Port,
    process: Process,
    _folder: tempfile::TempDir,
}

impl Rotel {
    /// Starts one that passes everything on to this VictoriaMetrics.
    pub fn before(store: &Store) -> Self {
        Self::start(&[
            "--exporter=otlp".to_owned(),
            "--otlp-exporter-protocol=http".to_owned(),
            // It does not start without a place for traces and logs, of which there are none.
            format!("--otlp-exporter-endpoint={}", store.otlp_url()),
            format!("--otlp-exporter-metrics-endpoint={}", store.otlp_url()),
        ])
    }

    /// Starts one that only writes down what it gets.
    pub fn alone() -> Self {
        Self::start(&["--exporter=blackhole".to_owned()])
    }

    fn start(more: &[String]) -> Self {
        let (grpc, http) = (Port::take(), Port::take());
        let folder = tempfile::tempdir().expect("a folder");
        let mut args = vec![
            "start".to_owned(),
            format!("--otlp-grpc-endpoint=127.0.0.1:{}", grpc.number()),
            format!("--otlp-http-endpoint=127.0.0.1:{}", http.number()),
            format!("--pid-file={}", folder.path().join("pid").display()),
            format!("--log-file={}", folder.path().join("log").display()),
            "--debug-log=metrics".to_owned(),
            "--debug-log-verbosity=detailed".to_owned(),
        ];
        args.extend_from_slice(more);
        let mut process = Process::start(&Part::Rotel.path(), &args, &[]);
        for port in [&grpc, &http] {
            wait_until("rotel to listen", Duration::from_secs(15), || {
                assert!(process.status().is_none(), "rotel ended: {}{}", process.stdout(), process.stderr());
                std::net::TcpStream::connect(("127.0.0.1", port.number())).is_ok()
            });
        }
        Self { grpc, http, process, _folder: folder }
    }

    /// Where it takes OTLP by gRPC.
    pub fn grpc_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc.number())
    }

    /// Where it takes OTLP by HTTP.
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http.number())
    }

    /// All that it has written down: every field of every metric, as text.
    pub fn written(&self) -> String {
        self.process.stdout()
    }

    /// What went wrong, by its own account.
    pub fn log(&self) -> String {
        self.process.stderr()
    }
}
