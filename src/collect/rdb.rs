//! The size of the RDB file, where it is on this machine: `CONFIG GET dir dbfilename`, then one `stat`.
//!
//! Only with its flag, and of use only beside a server on the same machine. All data nodes have it; a
//! Sentinel keeps no data. ACL: `+config|get` (before 7.0 `+config`). Cost: O(1), and one system call here.
//!
//! What a newcomer would get wrong: both words come from the server, so a hostile one could have us look at
//! any file. The name must be one plain name inside the directory, and nothing but a size is exported.

use super::{Answers, Asks, Collector, Context, Failure, How, When};
use exposition::{Builder, Desc};
use std::io;
use std::path::{Component, Path};

/// See the head of this file.
pub static COLLECTOR: Collector =
    Collector { name: "rdb", descs: || vec![&SIZE], when, how: How::Read { ask, read } };

static SIZE: Desc = Desc::gauge(
    "redis_rdb_current_size_bytes",
    "Size of the RDB file on the disk of this machine, in bytes; 0 when there is none.",
);

const GET: &str = "CONFIG GET";
const PARAMETERS: [&str; 2] = ["dir", "dbfilename"];

fn when(context: &Context<'_>) -> When {
    if !context.config.rdb_file_size || context.config.config_command.is_none() {
        return When::Never;
    }
    match context.server {
        None => When::AfterInfo,
        Some(_) if context.is_sentinel() => When::Never,
        Some(_) => When::Now,
    }
}

fn ask(context: &Context<'_>, asks: &mut Asks<'_>) {
    let Some(command) = context.config.config_command.as_deref() else { return };
    // One by one: every server takes that.
    PARAMETERS.iter().for_each(|parameter| asks.push(GET, &[command, "GET", parameter]));
}

fn read(_: &Context<'_>, answers: &Answers<'_>, out: &mut Builder) -> Result<(), Failure> {
    let setting = |index: usize| {
        let value = answers.get(index)?.field(PARAMETERS[index]).and_then(|value| value.text());
        value.ok_or(Failure::shape(GET))
    };
    out.push(&SIZE, size(setting(0)?, setting(1)?)? as f64);
    Ok(())
}

/// The size of the regular file `name` in `dir`, 0 when it does not exist.
fn size(dir: &str, name: &str) -> Result<u64, Failure> {
    let dir = Path::new(dir);
    if !dir.is_absolute() || dir.components().any(|part| part == Component::ParentDir) {
        return Err(Failure::Own("the data directory is not an absolute path".into()));
    }
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(Failure::Own("the name of the RDB file is not a plain file name".into()));
    }
    match std::fs::metadata(dir.join(name)) {
        Ok(file) if file.is_file() => Ok(file.len()),
        Ok(_) => Err(Failure::Own("the RDB file is not a regular file".into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Failure::Own(format!("cannot look at the RDB file: {}", error.kind()))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{Recorded, array};
    use super::*;
    use std::path::PathBuf;

    /// A directory that is removed at the end of the test.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("redvigil-rdb-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn server(dir: &str, name: &str) -> Recorded {
        Recorded::new("redis_version:7.0.15\r\n")
            .with(|c| c.rdb_file_size = true)
            .reply("CONFIG GET dir", array(&["dir", dir]))
            .reply("CONFIG GET dbfilename", array(&["dbfilename", name]))
    }

    fn check(dir: &str, name: &str, expected: Option<&str>) {
        let found = server(dir, name).collect(&COLLECTOR);
        assert_eq!(found.ok().as_deref(), expected.map(|line| [line.to_owned()]).as_ref().map(|l| &l[..]));
    }

    #[test]
    fn the_size_is_that_of_the_regular_file() {
        let dir = Dir::new("sizes");
        for (name, bytes) in [("small.rdb", 21), ("large.rdb", 10 << 20)] {
            std::fs::File::create(dir.0.join(name)).unwrap().set_len(bytes).unwrap();
            check(dir.path(), name, Some(&format!("redis_rdb_current_size_bytes {bytes}")));
        }
    }

    #[test]
    fn a_missing_file_has_size_0() {
        check(Dir::new("missing").path(), "dump.rdb", Some("redis_rdb_current_size_bytes 0"));
    }

    #[test]
    fn what_is_no_plain_file_in_the_directory_makes_nothing() {
        let dir = Dir::new("rules");
        std::fs::create_dir(dir.0.join("directory")).unwrap();
        std::fs::write(dir.0.join("directory/inner.rdb"), "x").unwrap();
        let absolute = format!("{}/directory/inner.rdb", dir.path());
        for name in ["directory", "directory/inner.rdb", &absolute, "..", ".", "", "../x", "nul\0", "x/"] {
            check(dir.path(), name, None);
        }
        for dir in ["", "relative", "/tmp/../etc"] {
            check(dir, "dump.rdb", None);
        }
    }

    #[test]
    fn without_dir_or_dbfilename_there_is_nothing() {
        for missing in ["CONFIG GET dir", "CONFIG GET dbfilename"] {
            let found = server("/tmp", "dump.rdb").reply(missing, "*0\r\n").collect(&COLLECTOR);
            assert!(matches!(found, Err(Failure::Shape { .. })));
        }
    }

    #[test]
    fn it_is_off_without_its_flag_without_config_and_on_a_sentinel() {
        let off = server("/tmp", "x").with(|c| c.rdb_file_size = false);
        let no_config = server("/tmp", "x").with(|c| c.config_command = None);
        let sentinel = Recorded::new("redis_mode:sentinel\r\n").with(|c| c.rdb_file_size = true);
        assert_eq!(off.when(&COLLECTOR), [When::Never; 2]);
        assert_eq!(no_config.when(&COLLECTOR), [When::Never; 2]);
        assert_eq!(sentinel.when(&COLLECTOR), [When::AfterInfo, When::Never]);
    }
}
