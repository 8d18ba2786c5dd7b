//! A conversation with recorded replies instead of a server: for tests that compare whole outputs.

use super::resp::{Decoder, Progress};
use super::{Asking, Batch, Converse, Deadline, Error, Limits, Replies, Server};
use std::collections::HashMap;

/// Answers each command with the bytes that were recorded for it.
#[derive(Debug, Default)]
pub struct Replay {
    server: Option<Server>,
    recorded: HashMap<String, Vec<u8>>,
    /// Every command that was asked, as words joined by a space, batch by batch.
    pub asked: Vec<Vec<String>>,
}

impl Replay {
    /// A server that said this of itself and knows no command yet.
    pub fn new(server: Option<Server>) -> Self {
        Self { server, ..Self::default() }
    }

    /// Records the reply (RESP bytes) to a command: its words joined by a space.
    pub fn record(&mut self, command: &str, reply: impl Into<Vec<u8>>) {
        self.recorded.insert(command.to_owned(), reply.into());
    }

    /// The reply to a command. Commands that were not recorded are unknown to the server.
    fn reply(&self, command: &str) -> Vec<u8> {
        self.recorded.get(command).cloned().unwrap_or_else(|| {
            let name = command.split(' ').next().unwrap_or_default();
            format!("-ERR unknown command '{name}', with args beginning with: \r\n").into_bytes()
        })
    }
}

impl Converse for Replay {
    fn ask<'a>(&'a mut self, batch: &'a Batch, into: &'a mut Replies, _deadline: Deadline) -> Asking<'a> {
        let commands = words(batch);
        into.clear();
        for command in &commands {
            into.buffer.extend_from_slice(&self.reply(command));
        }
        self.asked.push(commands);
        let address = || "recorded replies".to_owned();
        let progress = Decoder::default().advance(into, batch.len(), &Limits::default());
        Box::pin(std::future::ready(match progress {
            Ok(Progress::Complete) => Ok(()),
            Ok(Progress::Missing(_)) => {
                Err(Error::Closed { address: address(), source: std::io::ErrorKind::UnexpectedEof.into() })
            }
            Err(source) => Err(Error::Protocol { address: address(), source }),
        }))
    }

    fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }
}

/// The commands of a batch, read back from its bytes.
fn words(batch: &Batch) -> Vec<String> {
    let mut replies = Replies::default();
    replies.push(batch.bytes());
    let decoded = Decoder::default().advance(&mut replies, batch.len(), &Limits::default());
    debug_assert_eq!(decoded, Ok(Progress::Complete), "a batch is valid RESP");
    let text =
        |word: super::Reply<'_>| String::from_utf8_lossy(word.bytes().unwrap_or_default()).into_owned();
    let command = |reply: super::Reply<'_>| reply.items().into_iter().flatten().map(text).collect::<Vec<_>>();
    replies.iter().map(|reply| command(reply).join(" ")).collect()
}
