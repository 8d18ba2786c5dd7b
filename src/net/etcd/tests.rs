//! Keys, errors and pages; a real etcd is asked in `tests/etcd`.
