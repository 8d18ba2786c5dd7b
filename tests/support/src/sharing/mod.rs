//! What exporters that share work may do, and may not, judged from outside.
//!
//! - [`claims`]: from etcd's own history: nobody claims what another has
//! - [`collections`]: from the servers and receivers: how long nobody looked, and when two looked at once
//!
//! Pure: what happened goes in, what was wrong comes out, each in one line.
//!
//! What a newcomer would get wrong: etcd gives no times. What happened there is in the order of its revisions, and what
//! happened at servers and receivers in the order of this machine's clock; neither is translated into the other.

pub mod claims;
pub mod collections;
