//! Files that flags name are followed, too: nobody has to ask for a reload.

use crate::{PATIENCE, exporter};
use testbed::{Part, Server, wait_until};

#[test]
fn the_password_file_of_a_flag_counts_when_it_changes() {
    let server = Server::start(Part::Redis7);
    server.ok(&["CONFIG", "SET", "requirepass", "hunter2"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("passwords.json");
    let write = |password: &str| {
        std::fs::write(&path, format!("{{\"{}\": \"{password}\"}}", server.address())).expect("written");
    };
    write("hunter1");
    let address = format!("--redis.addr={}", server.address());
    let exporter = exporter(&[address, format!("--redis.password-file={}", path.display())]).start();
    let is_up = || exporter.metrics().contains("\nredis_up 1\n");
    assert!(!is_up());
    write("hunter2");
    wait_until("the new password", PATIENCE, is_up);
    let config = exporter.get("/api/v1/config", &[]);
    assert!(config.text().contains("\"source\":\"named_file\""), "{}", config.text());
}
