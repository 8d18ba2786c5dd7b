//! Messages as gRPC puts them into a body: a byte that says whether it is compressed, four of length, the message.
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
//!
//! What a newcomer would get wrong: a message has nothing to do with the pieces in which a body arrives. One piece may hold
//! half of it, or three.

use super::Error;
use bytes::{Buf as _, Bytes, BytesMut};

/// What stands before a message.
const HEAD: usize = 5;

/// The most that a message may have, in bytes, both ways.
pub const MESSAGE: usize = 8 << 20;

/// A message with its length before it, not compressed.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD + message.len());
    frame.push(0);
    // Who sends has a limit far below 4 GiB.
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

/// What has arrived of a body and is no whole message yet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    rest: BytesMut,
}

impl Frames {
    /// Takes a piece of the body.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
    }

    /// The next message, where all of it is there.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Some((&[flag, ref length @ ..], _)) = self.rest.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        if flag != 0 {
            return Err(Error::Protocol("a message is compressed, which nobody asked for"));
        }
        let length = u32::from_be_bytes(*length) as usize;
        if length > MESSAGE {
            return Err(Error::TooLarge { size: length });
        }
        if self.rest.len() < HEAD + length {
            return Ok(None);
        }
        self.rest.advance(HEAD);
        Ok(Some(self.rest.split_to(length).freeze()))
    }

    /// Whether nothing is left of a message that was cut.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}
