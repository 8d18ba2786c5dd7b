//! A real server of the Nacos kind: `rnacos`, where somebody built one. It takes a quarter of an hour to build, so that it is no
//! part that is installed; `REDVIGIL_RNACOS` names its binary.
//!
//! What a newcomer would get wrong: about every second time that it starts on an empty folder it loses its storage in a race,
//! answers `true` and keeps nothing. So it is tried out, and started anew on another folder where it does not work.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::http::{self, Request};
use crate::{Port, Process, wait_for};

/// How long it may take to be ready.
const START: Duration = Duration::from_secs(15);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How often it is started anew.
const TRIES: usize = 12;

/// A running rnacos. It ends when this is dropped.
#[derive(Debug)]
pub struct Rnacos {
    ports: [Port; 3],
    _process: Process,
    _folder: TempDir,
}

impl Rnacos {
    /// Starts one that works; nothing where no binary is named.
    pub fn start() -> Option<Self> {
        let program = PathBuf::from(std::env::var_os("REDVIGIL_RNACOS")?);
        Some((0..TRIES).find_map(|_| Self::attempt(&program)).expect("one start in a few works"))
    }

    fn attempt(program: &std::path::Path) -> Option<Self> {
        let (folder, ports) =
            (TempDir::with_prefix("redvigil-rnacos-").expect("a folder"), [(); 3].map(|()| Port::take()));
        let env = [
            ("RUST_LOG", "error".to_owned()),
            ("RNACOS_SDK_HOST", "127.0.0.1".to_owned()),
            ("RNACOS_CONSOLE_HOST", "127.0.0.1".to_owned()),
            ("RNACOS_HTTP_PORT", ports[0].number().to_string()),
            ("RNACOS_GRPC_PORT", ports[1].number().to_string()),
            ("RNACOS_HTTP_CONSOLE_PORT", ports[2].number().to_string()),
            ("RNACOS_DATA_DIR", folder.path().display().to_string()),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value));
        let process = Process::start(program, &[], &env);
        let rnacos = Self { ports, _process: process, _folder: folder };
        wait_for("rnacos to listen", START, || rnacos.send("GET", "/nacos/v1/ns/operator/metrics").map(drop));
        let works = || {
            rnacos.publish("probe", "DEFAULT_GROUP", "yes");
            let path = "/nacos/v1/cs/configs?dataId=probe&group=DEFAULT_GROUP";
            (rnacos.send("GET", path)? == (200, "yes".to_owned())).then_some(())
        };
        let mut tries = 0..20;
        tries.find_map(|_| {
            std::thread::sleep(Duration::from_millis(100));
            works()
        })?;
        Some(rnacos)
    }

    /// The port of its HTTP API.
    pub fn port(&self) -> u16 {
        self.ports[0].number()
    }

    /// Publishes a document of letters that need no encoding.
    pub fn publish(&self, id: &str, group: &str, text: &str) {
        self.send("POST", &format!("/nacos/v1/cs/configs?dataId={id}&group={group}&content={text}"));
    }

    /// Takes a document away.
    pub fn remove(&self, id: &str, group: &str) {
        self.send("DELETE", &format!("/nacos/v1/cs/configs?dataId={id}&group={group}"));
    }

    fn send(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let answer =
            http::send(self.port(), None, Request { method, path, headers: &[], body: b"" }, ANSWER).ok()?;
        Some((answer.status, answer.text().to_owned()))
    }
}
