//! Sockets to all that is not Redis, and TLS for everything.

pub mod etcd;
pub mod grpc;
pub mod http;
pub mod tls;
