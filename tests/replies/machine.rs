//! A recorded machine: answers commands with what the real one said.
//!
//! Where a machine's own reply was not recorded, that of the `standalone` machine of the same version is
//! given: `SLOWLOG`, `CONFIG GET` and `LATENCY` do not depend on the role.

use super::{fixtures, printed};
use redvigil::collect::Info;
use redvigil::connect::replay::Replay;
use redvigil::connect::{Asking, Batch, Converse, Deadline, Replies, Server};
use std::fs;
use std::path::PathBuf;

/// Which version of the protocol is spoken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// RESP2.
    Resp2,
    /// RESP3.
    Resp3,
}

/// See the head of this file.
pub struct Machine {
    info: String,
    /// Where its replies may stand, best first.
    folders: Vec<PathBuf>,
    after_failover: bool,
    form: Form,
    replay: Replay,
    /// Every command that was asked and its reply, round by round.
    pub asked: Vec<Vec<(String, Vec<u8>)>>,
    /// Commands whose reply was never recorded: they are answered as unknown.
    pub unheard: Vec<String>,
}

impl Machine {
    /// The machine of that name.
    pub fn new(name: &str, form: Form) -> Self {
        let info = fs::read_to_string(fixtures().join(format!("info/{name}.txt"))).unwrap();
        let version: String = name.split('-').take(2).collect::<Vec<_>>().join("-");
        let role = name[version.len() + 1..].to_owned();
        let after_failover = role == "sentinel-after-failover";
        let own = if after_failover { "sentinel" } else { &role };
        let mut folders = vec![own];
        if own != "sentinel" {
            folders.push("standalone");
        }
        let folders =
            folders.iter().map(|role| fixtures().join(format!("replies/{version}-{role}"))).collect();
        Self {
            info,
            folders,
            after_failover,
            form,
            replay: Replay::default(),
            asked: vec![],
            unheard: vec![],
        }
    }

    /// What it says of itself.
    pub fn server(&self) -> Server {
        Info::parse(&self.info).server()
    }

    /// Lets the conversation begin with that knowledge, as after HELLO.
    pub fn know(&mut self, server: Option<Server>) {
        self.replay = Replay::new(server);
    }

    fn reply(&self, command: &str) -> Option<Vec<u8>> {
        let words: Vec<_> = command.split(' ').collect();
        match *words.as_slice() {
            ["INFO", "ALL"] => Some(self.text(&self.info)),
            ["INFO", "MODULES"] => Some(self.text(&self.modules())),
            ["CLUSTER", "INFO"] => self.recorded("cluster_info"),
            ["CLIENT", "LIST"] => self.recorded("client_list"),
            ["SLOWLOG", "LEN"] => self.recorded("slowlog_len"),
            // It was asked without a limit; entries beyond the first are not looked at.
            ["SLOWLOG", "GET", _] => self.recorded("slowlog_get"),
            ["LATENCY", "LATEST"] => self.recorded("latency_latest"),
            ["LATENCY", "HISTOGRAM"] => self.recorded("latency_histogram"),
            ["COMMANDLOG", "LEN", log] => self.recorded(&format!("commandlog_len_{log}")),
            ["CONFIG", "GET", ..] => self.settings(&words[2..]),
            ["SENTINEL", "MASTERS"] => self.recorded("sentinel_masters"),
            ["SENTINEL", "CONFIG", "GET", "*"] => self.recorded("sentinel_config_get"),
            ["SENTINEL", "CKQUORUM", master] => self.recorded(if master == "mymaster" {
                "sentinel_ckquorum_ok"
            } else {
                "sentinel_ckquorum_bad"
            }),
            ["SENTINEL", what @ ("SENTINELS" | "REPLICAS" | "SLAVES"), master] => match master {
                "mymaster" => self.recorded(&format!("sentinel_{}", what.to_lowercase())),
                // Nobody else watches the other master, and it has no replicas.
                _ => Some(b"*0\r\n".to_vec()),
            },
            _ => None,
        }
    }

    /// The bytes that were recorded, or those of what `redis-cli` printed.
    fn recorded(&self, name: &str) -> Option<Vec<u8>> {
        let later = format!("{name}_after_failover");
        let names = if self.after_failover { vec![later.as_str(), name] } else { vec![name] };
        let bytes = match self.form {
            Form::Resp2 => "resp2",
            Form::Resp3 => "resp3",
        };
        for folder in &self.folders {
            for name in &names {
                let path = |extension| folder.join(name).with_extension(extension);
                if let Ok(bytes) = fs::read(path(bytes)) {
                    return Some(bytes);
                }
                if let Ok(text) = fs::read_to_string(path("txt")) {
                    return Some(printed::to_resp(&text));
                }
            }
        }
        None
    }

    /// The settings that match any of these patterns, as a server picks them from all. All were recorded
    /// under RESP2 only.
    fn settings(&self, patterns: &[&str]) -> Option<Vec<u8>> {
        let all = self.folders.iter().find_map(|folder| {
            fs::read_to_string(folder.join("config_get_all.txt"))
                .or_else(|_| fs::read_to_string(folder.join("config_get.txt")))
                .ok()
        })?;
        let Some(settings) = printed::strings(&all) else { return Some(printed::to_resp(&all)) };
        let matches = |name: &str, pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        };
        let picked: Vec<_> = settings
            .chunks(2)
            .filter(|pair| patterns.iter().any(|pattern| matches(&pair[0], pattern)))
            .flatten()
            .collect();
        let mut reply = format!("*{}\r\n", picked.len()).into_bytes();
        picked.iter().for_each(|text| reply.extend(printed::bulk(text)));
        Some(reply)
    }

    /// `INFO MODULES` is what INFO has from `# Modules` on, up to the sections of the server itself.
    fn modules(&self) -> String {
        let begin = self.info.find("# Modules").unwrap_or(self.info.len());
        let rest = &self.info[begin..];
        rest[..rest.find("\r\n\r\n").unwrap_or(rest.len())].to_owned()
    }

    fn text(&self, text: &str) -> Vec<u8> {
        match self.form {
            Form::Resp2 => printed::bulk(text),
            Form::Resp3 => format!("={}\r\ntxt:{text}\r\n", text.len() + 4).into_bytes(),
        }
    }
}

impl Converse for Machine {
    fn ask<'a>(&'a mut self, batch: &'a Batch, into: &'a mut Replies, deadline: Deadline) -> Asking<'a> {
        let unknown = |command: &str| {
            let name = command.split(' ').next().unwrap_or_default();
            format!("-ERR unknown command '{name}', with args beginning with: \r\n").into_bytes()
        };
        let mut round = vec![];
        for command in commands(batch) {
            let reply = self.reply(&command).unwrap_or_else(|| {
                self.unheard.push(command.clone());
                unknown(&command)
            });
            self.replay.record(&command, reply.clone());
            round.push((command, reply));
        }
        self.asked.push(round);
        self.replay.ask(batch, into, deadline)
    }

    fn server(&self) -> Option<&Server> {
        self.replay.server()
    }
}

/// The commands of a batch, read back from its bytes: arrays of bulk strings.
fn commands(batch: &Batch) -> Vec<String> {
    let mut tokens = std::str::from_utf8(batch.bytes()).unwrap().split("\r\n");
    let mut commands = vec![];
    while let Some(count) = tokens.next().and_then(|head| head.strip_prefix('*')) {
        let words = (0..count.parse().unwrap()).map(|_| tokens.nth(1).unwrap());
        commands.push(words.collect::<Vec<_>>().join(" "));
    }
    commands
}
