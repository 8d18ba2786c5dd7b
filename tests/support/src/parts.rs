//! The programs that the tests need but that are not ours.
//!
//! `scripts/parts.sh` installs them and writes `parts.tsv` (name, version, path). The list is looked for in the
//! folder that `REDVIGIL_PARTS` names, else in `.parts/` at the root of the repository. What it does not name
//! may still stand where Debian puts it.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A program that the tests start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Redis 6.2, without TLS.
    Redis62,
    /// Redis 7.0, Debian's.
    Redis7,
    /// Redis 8.0.
    Redis8,
    /// Redis 8.2, without TLS. Optional. A module, `falkordb.so`, lies beside the program.
    Redis82,
    /// Valkey 8.1.
    Valkey8,
    /// Valkey 9, without TLS.
    Valkey9,
    /// Redis' own command line, for `--cluster create`.
    RedisCli,
    /// The exporter that ours replaces: `prometheus-redis-exporter` 1.45.
    Peer,
    /// Prometheus itself.
    Prometheus,
    /// The checker of Prometheus' formats.
    Promtool,
    /// Prometheus 2.53, the last of the second line. Its receiver knows remote write 1.0 alone.
    Prometheus253,
    /// Prometheus 3, whose receiver knows remote write 2.0. Optional: its packages change daily.
    Prometheus3,
    /// VictoriaMetrics, single node.
    VictoriaMetrics,
    /// A receiver of OTLP.
    Rotel,
    /// Consul 1.8, from a release of Debian that may go away. Optional.
    Consul,
    /// etcd 3.4, Debian's.
    Etcd34,
    /// etcd 3.5.
    Etcd35,
    /// The command line of etcd, 3.4.
    Etcdctl,
}

/// One line for each part: its name in `parts.tsv`, where Debian puts it, the beginning of the version it must
/// have there (empty: any), and whether tests may be skipped without it.
type Row = (Part, &'static str, &'static str, &'static str, bool);

const ROWS: [Row; 18] = [
    (Part::Redis62, "redis-6.2", "", "6.2.", false),
    (Part::Redis7, "redis-7", "/usr/bin/redis-server", "7.", false),
    (Part::Redis8, "redis-8", "", "8.", false),
    (Part::Redis82, "redis-8.2", "", "8.2.", true),
    (Part::Valkey8, "valkey-8", "", "8.", false),
    (Part::Valkey9, "valkey-9", "", "9.", false),
    (Part::RedisCli, "redis-cli", "/usr/bin/redis-cli", "", false),
    (Part::Peer, "peer", "/usr/bin/prometheus-redis-exporter", "", false),
    (Part::Prometheus, "prometheus", "/usr/bin/prometheus", "", false),
    (Part::Promtool, "promtool", "/usr/bin/promtool", "", false),
    (Part::Prometheus253, "prometheus-2.53", "", "2.53", false),
    (Part::Prometheus3, "prometheus-3", "", "3.", true),
    (Part::VictoriaMetrics, "victoria-metrics", "", "1.", false),
    (Part::Rotel, "rotel", "", "0.", false),
    (Part::Consul, "consul", "", "1.8", true),
    (Part::Etcd34, "etcd-3.4", "/usr/bin/etcd", "3.4", false),
    (Part::Etcd35, "etcd-3.5", "", "3.5", false),
    (Part::Etcdctl, "etcdctl", "/usr/bin/etcdctl", "", false),
];

impl Part {
    /// Every server that no test may do without, oldest first.
    pub const SERVERS: [Part; 5] = [Part::Redis62, Part::Redis7, Part::Redis8, Part::Valkey8, Part::Valkey9];

    fn row(self) -> &'static Row {
        ROWS.iter().find(|row| row.0 == self).expect("every part has its row")
    }

    /// Its name in `parts.tsv`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Whether this is a Valkey server.
    pub fn is_valkey(self) -> bool {
        matches!(self, Part::Valkey8 | Part::Valkey9)
    }

    /// Whether this server was built with TLS.
    pub fn has_tls(self) -> bool {
        matches!(self, Part::Redis7 | Part::Redis8 | Part::Valkey8)
    }

    /// Whether this server knows the directives that came with Redis 7.
    pub(crate) fn is_redis_7_or_later(self) -> bool {
        self != Part::Redis62
    }

    /// Where the program is, or nothing when it is not installed.
    pub fn find(self) -> Option<PathBuf> {
        let (_, name, debian, version, _) = *self.row();
        if let Some((_, path)) = listed().get(name)
            && path.exists()
        {
            return Some(path.clone());
        }
        let path = PathBuf::from(debian);
        let right = path.exists() && (version.is_empty() || version_of(&path)?.starts_with(version));
        right.then_some(path)
    }

    /// Where the program is. Panics when it is not installed, with the command that installs it.
    pub fn path(self) -> PathBuf {
        self.find().unwrap_or_else(|| {
            panic!("part missing: {} (run `make test` or scripts/parts.sh, which installs it)", self.name())
        })
    }

    /// Where an optional program is. Nothing means that the test returns at once; that is said on stderr and
    /// counted in the summary of `make test`. Panics for a part that is not optional.
    pub fn or_skip(self, test: &str) -> Option<PathBuf> {
        let found = self.find();
        if found.is_none() {
            assert!(self.row().4, "{test} cannot be skipped: {} is no optional part", self.name());
            skipped(test, &format!("part missing: {}", self.name()));
        }
        found
    }

    /// The version as `parts.tsv` has it, or as the program says, such as `7.0.15`.
    pub fn version(self) -> String {
        match listed().get(self.name()) {
            Some((version, _)) => version.clone(),
            None => version_of(&self.path()).unwrap_or_default(),
        }
    }
}

/// Says that a test does not run, on stderr and in the summary of `make test`, and why: an optional part or a
/// feature of the machine is missing.
#[expect(clippy::print_stderr, reason = "a test that does not run has to say so")]
pub fn skipped(test: &str, why: &str) {
    let line = format!("SKIPPED: {test} ({why})");
    eprintln!("{line}");
    if let Some(file) = env::var_os("REDVIGIL_SKIPPED") {
        let file = OpenOptions::new().create(true).append(true).open(file);
        let mut file = file.expect("the file that REDVIGIL_SKIPPED names can be written");
        writeln!(file, "{line}").expect("the list of skipped tests takes a line");
    }
}

/// The folder that `scripts/parts.sh` fills.
fn folder() -> PathBuf {
    match env::var_os("REDVIGIL_PARTS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.parts"),
    }
}

/// The list, read once.
fn listed() -> &'static BTreeMap<String, (String, PathBuf)> {
    static LIST: OnceLock<BTreeMap<String, (String, PathBuf)>> = OnceLock::new();
    LIST.get_or_init(|| parse(&fs::read_to_string(folder().join("parts.tsv")).unwrap_or_default()))
}

/// Name, version and path, parted by tabs; other lines are left out.
fn parse(list: &str) -> BTreeMap<String, (String, PathBuf)> {
    let mut parts = BTreeMap::new();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        if let [name, version, path] = line.split('\t').collect::<Vec<_>>()[..] {
            parts.insert(name.to_owned(), (version.to_owned(), PathBuf::from(path)));
        }
    }
    parts
}

/// What follows `v=` or `version` in the answer to `--version`.
fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    version_in(&String::from_utf8_lossy(&output.stdout))
}

fn version_in(answer: &str) -> Option<String> {
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    let found = answer.split([' ', '=', '\n', ',']).find(is_version)?;
    Some(found.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_version(answer: &str, expected: &str) {
        assert_eq!(version_in(answer).as_deref(), Some(expected));
    }

    #[test]
    fn the_version_is_read_from_what_a_program_says_of_itself() {
        check_version("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", "7.0.15");
        check_version("Valkey server v=8.1.1 sha=00000000:0 malloc=jemalloc-5.3.0", "8.1.1");
        check_version("prometheus, version 2.42.0+ds (branch: debian/sid)", "2.42.0+ds");
        check_version("redis-cli 7.0.15\n", "7.0.15");
    }

    #[test]
    fn the_list_keeps_name_version_and_path_and_ignores_what_is_no_row() {
        let parts = parse("# name\tversion\tpath\nredis-7\t7.0.15\t/usr/bin/redis-server\nnonsense\n");
        assert_eq!(parts.len(), 1);
        assert_eq!(parts["redis-7"], ("7.0.15".to_owned(), PathBuf::from("/usr/bin/redis-server")));
    }

    #[test]
    fn every_part_has_a_row_of_its_own() {
        let mut names: Vec<_> = ROWS.iter().map(|row| row.1).collect();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
        assert!(Part::SERVERS.iter().all(|part| !part.name().is_empty()));
    }
}
