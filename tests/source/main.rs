//! Documents that others keep, followed: a real etcd, a Consul (the real one where there is one, and always a double), and
//! doubles of Nacos; and our entry in Consul.
//!
//! Each test prints what it stood on and how long a change took; a change has a second.

mod consul;
mod etcd;
mod first;
mod follow;
mod nacos;
mod registry;
