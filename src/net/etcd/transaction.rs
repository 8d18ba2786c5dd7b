//! Compare and act, as one step: <https://etcd.io/docs/v3.5/learning/api/#transaction>.
//!
//! What a newcomer would get wrong: a transaction whose answer is lost may have been done. It is not sent again by itself:
//! whoever sent it looks at the keys.

use super::error::Error;
use super::messages::{
    self, DeleteRequest, PutRequest, Request, RequestOp, Response, ResponseOp, Target, TxnRequest,
    TxnResponse,
};
use super::{Keys, Page, Range};
use bytes::Bytes;
use std::sync::Arc;

/// Compare, then act.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must be so. Nothing is always so.
    pub if_: Vec<Compare>,
    /// What is done then. etcd takes 128 at most (`--max-txn-ops`), and each key once.
    pub then: Vec<Op>,
    /// What is done else.
    pub else_: Vec<Op>,
}

/// What a key must be like: all of them are "equal to".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Vec<u8>,
    /// What it must be like.
    pub is: Is,
}

/// What a key may be compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Is {
    /// It was made by that revision; 0: there is no such key.
    Created(i64),
    /// It was changed last by that revision; 0: there is no such key.
    Modified(i64),
    /// It has been written so many times since it was made; 0: there is no such key.
    Version(i64),
    /// It has that value.
    Value(Bytes),
    /// It is under that lease; 0: under none.
    Lease(i64),
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a key.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its value.
        value: Bytes,
        /// Its lease; 0: none.
        lease: i64,
    },
    /// Deletes keys.
    Delete(Keys),
    /// Reads keys.
    Get(Range),
}

/// What came of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Whether all was as it must be.
    pub succeeded: bool,
    /// The revision of its changes; where it changed nothing, that at which it looked.
    pub revision: i64,
    /// The id of the cluster: another one after a restore, and where an address leads elsewhere. 0: it was not told.
    pub cluster: u64,
    /// One for each thing that was done, in order.
    pub outcomes: Vec<Outcome>,
}

/// What came of one [`Op`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was written.
    Put,
    /// So many were deleted.
    Deleted(u64),
    /// What was read.
    Got(Page),
}

impl From<Txn> for TxnRequest {
    fn from(txn: Txn) -> Self {
        let ops = |ops: Vec<Op>| ops.into_iter().map(RequestOp::from).collect();
        Self {
            compare: txn.if_.into_iter().map(messages::Compare::from).collect(),
            success: ops(txn.then),
            failure: ops(txn.else_),
        }
    }
}

impl From<Compare> for messages::Compare {
    fn from(compare: Compare) -> Self {
        let value = match compare.is {
            Is::Created(revision) => Target::Created(revision),
            Is::Modified(revision) => Target::Modified(revision),
            Is::Version(version) => Target::Version(version),
            Is::Value(value) => Target::Value(value),
            Is::Lease(lease) => Target::Lease(lease),
        };
        Self { target: value.number(), key: compare.key, value: Some(value) }
    }
}

impl From<Op> for RequestOp {
    fn from(op: Op) -> Self {
        let request = match op {
            Op::Put { key, value, lease } => Request::Put(PutRequest { key, value, lease }),
            Op::Delete(Keys { key, end }) => Request::Delete(DeleteRequest { key, range_end: end }),
            Op::Get(range) => Request::Range(range.into()),
        };
        Self { request: Some(request) }
    }
}

impl Done {
    pub(super) fn of(answer: TxnResponse, server: &Arc<str>) -> Result<Self, Error> {
        let outcomes: Result<_, Error> =
            answer.responses.into_iter().map(|response| Outcome::of(response, server)).collect();
        let header = answer.header.unwrap_or_default();
        Ok(Self {
            succeeded: answer.succeeded,
            revision: header.revision,
            cluster: header.cluster,
            outcomes: outcomes?,
        })
    }
}

impl Outcome {
    fn of(response: ResponseOp, server: &Arc<str>) -> Result<Self, Error> {
        match response.response {
            Some(Response::Put(_)) => Ok(Self::Put),
            Some(Response::Delete(answer)) => Ok(Self::Deleted(answer.deleted.try_into().unwrap_or(0))),
            Some(Response::Range(answer)) => Ok(Self::Got(answer.into())),
            None => Err(Error::Protocol { server: server.clone(), what: "an outcome of nothing" }),
        }
    }
}
