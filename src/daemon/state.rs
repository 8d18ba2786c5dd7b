//! Where we keep state, and what we call ourselves.
//!
//! What a newcomer would get wrong: no folder is made here, nor looked for. Only a queue that is opened does that.

use crate::config::deliver::{Deliver, STATE};
use crate::config::serve::Listen;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where state is kept: as configured, else where systemd says, else [`STATE`].
pub fn folder(config: &Deliver, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    if let Some(path) = &config.storage {
        return path.clone();
    }
    // Several are separated by colons: <https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html>.
    let given = variable("STATE_DIRECTORY").and_then(|paths| std::env::split_paths(&paths).next());
    given.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| STATE.into())
}

/// The label `instance` of what we say of ourselves: the name of the machine, and the first port on which we listen.
pub fn instance(listen: &[Listen]) -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let port = listen.iter().find_map(|listen| match listen {
        Listen::Tcp { port, .. } => Some(*port).filter(|port| *port != 0),
        Listen::Unix(_) => None,
    });
    port.map_or(name.clone(), |port| format!("{name}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_where_the_operator_says_else_where_systemd_says() {
        let check = |flag: Option<&str>, variable: Option<&str>, expected: &str| {
            let config = Deliver { storage: flag.map(Into::into), ..Deliver::default() };
            let found =
                folder(&config, |name| variable.filter(|_| name == "STATE_DIRECTORY").map(Into::into));
            assert_eq!(found, PathBuf::from(expected), "{flag:?} {variable:?}");
        };
        check(None, None, "/var/lib/redvigil");
        check(None, Some(""), "/var/lib/redvigil");
        check(None, Some("/s"), "/s");
        check(None, Some("/s:/t"), "/s");
        check(Some("/flag"), Some("/s"), "/flag");
    }

    #[test]
    fn we_are_called_by_machine_and_port() {
        let name = instance(&[]);
        assert!(!name.is_empty() && !name.contains(':'), "{name}");
        let tcp = |port| Listen::Tcp { host: String::new(), port };
        assert_eq!(instance(&[Listen::Unix("/s".into()), tcp(9121), tcp(1)]), format!("{name}:9121"));
        assert_eq!(instance(&[tcp(0)]), name);
    }
}
