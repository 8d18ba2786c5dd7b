//! Sockets to all that is not Redis, and TLS for everything.

pub mod consul;
pub mod etcd;
pub mod grpc;
pub mod http;
pub mod tls;
