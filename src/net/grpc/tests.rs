//! Frames, statuses, and calls to a server of hyper's own; calls to a real etcd are in `tests/etcd`.
