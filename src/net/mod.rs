//! Sockets to all that is not Redis, and TLS for everything.

pub mod http;
pub mod tls;
