//! Members that files list: `file_sd:`, in the format of Prometheus.
//!
//! `[{"targets": ["host:port", "rediss://…"], "labels": {"team": "a"}}]`, as JSON in files that end in `.json`,
//! as YAML in all others. <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config>
//!
//! Their folders are watched ([`source::folders`](crate::source::folders)). As a net below that all files are
//! read each interval, and understood where their content changed. A thread that may block does that, since a
//! file may be on a network.
//!
//! What a newcomer would get wrong: a file that is broken or gone keeps the members that it listed. Only for
//! a file that was found by `*` it is otherwise: its folder says that it is gone, twice, for an editor may be
//! at work.

use super::board::World;
use super::fixed::member;
use super::list::{List, Troubles, pause};
use super::service::Member;
use crate::config::scrape::glob_matches;
use crate::config::{Address, discover, validate};
use crate::connect::Kind;
use crate::source::folders::{Folders, folder, settled};
use crate::telemetry::events;
use serde::Deserialize;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// A larger file is a mistake.
const LARGEST_FILE: u64 = 16 << 20;

/// More files than a list has.
const MOST_FILES: usize = 1000;

/// More targets than one process can look after.
const MOST_TARGETS: usize = 50_000;

/// How many faults of one file are told.
const MOST_FAULTS: usize = 10;

/// How long a file that was found by `*` must be gone.
const GONE: Duration = Duration::from_secs(1);

/// Who writes is given this long to go on; but not longer than ten times that.
const QUIET: Duration = Duration::from_millis(50);

/// Follows files; never returns.
pub async fn run(world: World, mut wanted: watch::Receiver<Arc<discover::Service>>) {
    let mut list = List::new(world.clone(), &wanted.borrow());
    let changed = Arc::<Notify>::default();
    let mut folders = Folders::new(changed.clone());
    let mut files = Files::default();
    loop {
        let service = wanted.borrow_and_update().clone();
        let looking = tokio::task::spawn_blocking(move || {
            let patterns = match &service.source {
                discover::Source::FileSd(patterns) => &patterns[..],
                _ => &[],
            };
            // First, so that no change falls between the look and the watch.
            folders.watch(patterns.iter().map(PathBuf::as_path));
            let faults = files.look(patterns, Instant::now());
            (folders, files, faults, service)
        });
        let service;
        let faults;
        (folders, files, faults, service) = match looking.await {
            Ok(looked) => looked,
            // Told as what it is by whoever owns us.
            Err(fault) if fault.is_panic() => std::panic::resume_unwind(fault.into_panic()),
            // The process ends.
            Err(_) => return std::future::pending().await,
        };
        for fault in faults {
            world.events.push(&service.name, events::Kind::Discovery, None, None, fault);
        }
        list.found(files.members(), files.troubles(), Kind::File);
        let until = if files.is_one_gone() { list.interval().min(GONE) } else { list.interval() };
        tokio::select! {
            () = pause(&mut wanted, until) => {}
            () = changed.notified() => settled(&changed, QUIET, QUIET * 10).await,
        }
    }
}

/// The name if it is one for several files.
fn glob(pattern: &Path) -> Option<&str> {
    pattern.file_name()?.to_str().filter(|name| name.contains('*'))
}

/// Whether none of these files is there; of several that `*` finds, not even their folder.
pub async fn are_absent(patterns: Vec<PathBuf>) -> bool {
    let is_absent = |pattern: &PathBuf| {
        let path = glob(pattern).map_or(&**pattern, |_| folder(pattern));
        fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    let looked = tokio::task::spawn_blocking(move || patterns.iter().all(is_absent));
    looked.await.unwrap_or_default()
}

/// What is known of the files.
#[derive(Default)]
struct Files {
    held: BTreeMap<PathBuf, Held>,
    /// Folders that cannot be listed, and why.
    folders: Troubles,
}

/// What is known of one file.
#[derive(Default)]
struct Held {
    /// What it said when it was last understood.
    targets: Vec<Arc<Member>>,
    /// The content, by hash, that was looked at last, and whether it was understood.
    seen: Option<(u64, Result<(), String>)>,
    /// Why it cannot be read now.
    unreadable: Option<String>,
    /// What was wrong with parts of it.
    faults: Vec<String>,
    /// Since when its folder does not list it.
    gone: Option<Instant>,
}

impl Files {
    /// Looks at all files. Returns faults that are new.
    fn look(&mut self, patterns: &[PathBuf], now: Instant) -> Vec<String> {
        self.folders.clear();
        let mut listed = BTreeSet::new();
        for pattern in patterns {
            match glob(pattern).map(|name| matching(folder(pattern), name)) {
                None => _ = listed.insert(pattern.clone()),
                Some(Ok(found)) => listed.extend(found),
                Some(Err(why)) => {
                    self.folders.insert(folder(pattern).display().to_string(), why);
                    // Nobody knows whether they are gone.
                    let of_pattern = |path: &&PathBuf| belongs(path, pattern);
                    listed.extend(self.held.keys().filter(of_pattern).cloned());
                }
            }
        }
        if listed.len() > MOST_FILES {
            let why = format!("are {}, and only {MOST_FILES} are read", listed.len());
            self.folders.insert("the files".into(), why);
        }
        let listed: BTreeSet<_> = listed.into_iter().take(MOST_FILES).collect();
        self.held.retain(|path, held| {
            if listed.contains(path) {
                held.gone = None;
                return true;
            }
            let is_wanted = patterns.iter().any(|pattern| belongs(path, pattern));
            let since = *held.gone.get_or_insert(now);
            is_wanted && now.saturating_duration_since(since) < GONE
        });
        let mut faults = vec![];
        for path in listed {
            let held = self.held.entry(path.clone()).or_default();
            let new = held.look(&path);
            faults.extend(new.into_iter().map(|fault| format!("{}: {fault}", path.display())));
        }
        faults
    }

    /// Whether a file is gone whose members stay for a moment.
    fn is_one_gone(&self) -> bool {
        self.held.values().any(|held| held.gone.is_some())
    }

    /// What all of them list, in the order of their paths.
    fn members(&self) -> Vec<Arc<Member>> {
        self.held.values().flat_map(|held| &held.targets).take(MOST_TARGETS).cloned().collect()
    }

    fn troubles(&self) -> Troubles {
        let mut troubles = self.folders.clone();
        for (path, held) in &self.held {
            if let Some(why) = held.trouble() {
                troubles.insert(path.display().to_string(), why.to_owned());
            }
        }
        let targets: usize = self.held.values().map(|held| held.targets.len()).sum();
        if targets > MOST_TARGETS {
            let why = format!("are {targets}, and only {MOST_TARGETS} are taken");
            troubles.insert("the targets".into(), why);
        }
        troubles
    }
}

/// Whether the file is one that the pattern is about.
fn belongs(path: &Path, pattern: &Path) -> bool {
    let name = || path.file_name().and_then(|name| name.to_str());
    path == pattern
        || folder(path) == folder(pattern)
            && glob(pattern).is_some_and(|glob| name().is_some_and(|name| matches(glob, name)))
}

/// As in a shell, `*` does not mean hidden files: editors have theirs beside the one that is edited.
fn matches(glob: &str, name: &str) -> bool {
    glob.starts_with('.') == name.starts_with('.') && glob_matches(glob, name)
}

/// The files of a folder whose names are as the glob says.
fn matching(folder: &Path, glob: &str) -> Result<Vec<PathBuf>, String> {
    let unlisted = |error| format!("cannot be listed: {error}");
    let mut found = vec![];
    for entry in fs::read_dir(folder).map_err(unlisted)? {
        let entry = entry.map_err(unlisted)?;
        if entry.file_name().to_str().is_some_and(|name| matches(glob, name)) {
            // Without the folder where none was given: paths are told as the operator wrote them.
            let path = if folder == Path::new(".") { entry.file_name().into() } else { entry.path() };
            found.push(path);
        }
    }
    // A folder may be called like a file, and a link may lead nowhere.
    found.retain(|path| fs::metadata(path).is_ok_and(|meta| meta.is_file()));
    Ok(found)
}

impl Held {
    /// Reads the file, and understands it where it changed. Returns what is wrong with parts of it and was
    /// not wrong before.
    fn look(&mut self, path: &Path) -> Vec<String> {
        let content = match read(path) {
            Ok(content) => content,
            Err(why) => {
                self.unreadable = Some(why);
                return vec![];
            }
        };
        self.unreadable = None;
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let hash = hasher.finish();
        if self.seen.as_ref().is_some_and(|(seen, _)| *seen == hash) {
            return vec![];
        }
        let understood = parse(&content, path.extension().is_some_and(|ending| ending == "json"));
        let mut new = vec![];
        let outcome = understood.map(|Understood { targets, faults }| {
            new = faults.iter().filter(|fault| !self.faults.contains(fault)).cloned().collect();
            (self.targets, self.faults) = (targets, faults);
        });
        self.seen = Some((hash, outcome));
        new
    }

    fn trouble(&self) -> Option<&str> {
        let not_understood = self.seen.as_ref().and_then(|(_, outcome)| outcome.as_ref().err());
        self.unreadable.as_deref().or(not_understood.map(String::as_str))
    }
}

/// The content of a file. What is no file is not opened: a pipe would make us wait.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unread = |error: std::io::Error| format!("cannot be read: {error}");
    let meta = fs::metadata(path).map_err(unread)?;
    if !meta.is_file() {
        return Err("is no file".into());
    }
    let mut content = vec![];
    let file = File::open(path).map_err(unread)?;
    file.take(LARGEST_FILE + 1).read_to_end(&mut content).map_err(unread)?;
    if content.len() as u64 > LARGEST_FILE {
        return Err(format!("is larger than {} MiB", LARGEST_FILE >> 20));
    }
    Ok(content)
}

/// Targets that share labels.
#[derive(Deserialize)]
struct Group {
    /// Without it this is no group, however empty.
    targets: Vec<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// What a file says.
struct Understood {
    targets: Vec<Arc<Member>>,
    /// Parts that are left out, and why.
    faults: Vec<String>,
}

/// Understands a file. The error ends a sentence that begins with its path, and shows nothing of the content,
/// which may hold a password.
fn parse(content: &[u8], is_json: bool) -> Result<Understood, String> {
    let text = std::str::from_utf8(content).map_err(|_| "is no UTF-8".to_owned())?;
    if text.trim().is_empty() {
        // As an editor leaves it for a moment. A list without anybody is `[]`.
        return Err("is empty; a list of nobody is []".into());
    }
    let expected = "expected a list of groups with `targets` and `labels`";
    let groups: Vec<Group> = if is_json {
        serde_json::from_str(text)
            .map_err(|error| format!("line {} column {}: {expected}", error.line(), error.column()))?
    } else {
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| match error.location() {
            Some(place) => format!("line {} column {}: {expected}", place.line(), place.column()),
            None => expected.to_owned(),
        })?
    };
    if groups.iter().map(|group| group.targets.len()).sum::<usize>() > MOST_TARGETS {
        return Err(format!("lists more than {MOST_TARGETS} targets"));
    }
    let mut faults = vec![];
    let mut targets = vec![];
    for (number, group) in (1..).zip(groups) {
        let mut labels = group.labels.unwrap_or_default();
        labels.retain(|name, _| match refused(name) {
            Some(why) => {
                faults.push(format!("group {number}: the label {name:?} is left out: it {why}"));
                false
            }
            None => true,
        });
        for (place, target) in (1..).zip(group.targets) {
            match Address::parse(&target) {
                Ok(address) => targets.push(Arc::new(member(address, labels.clone()))),
                Err(error) => {
                    // Nothing that may be a password is shown.
                    let shown = if target.contains('@') { String::new() } else { format!(" {target:.100?}") };
                    faults.push(format!("group {number}: target {place}{shown} is left out: {error}"));
                }
            }
        }
    }
    let more = faults.len().saturating_sub(MOST_FAULTS);
    if more > 0 {
        faults.truncate(MOST_FAULTS);
        faults.push(format!("{more} more parts are left out"));
    }
    Ok(Understood { targets, faults })
}

/// Why a label is not taken.
fn refused(name: &str) -> Option<String> {
    if matches!(name, "service" | "instance") {
        return Some("has a meaning of its own".into());
    }
    validate::member_label(name).err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::discover::board::Board;
    use crate::telemetry::events::Events;
    use std::os::unix::fs::symlink;
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    /// Instances with their labels, and faults; or why it is not understood.
    fn check(text: &str, is_json: bool, expected: Result<(&[&str], &[&str]), &str>) {
        let found = parse(text.as_bytes(), is_json);
        let found = found.map(|Understood { targets, faults }| {
            let shown = |member: &Arc<Member>| {
                let labels: Vec<_> = member.labels.iter().map(|(k, v)| format!(" {k}={v}")).collect();
                member.address.to_string() + &labels.concat()
            };
            (targets.iter().map(shown).collect::<Vec<_>>(), faults)
        });
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let expected = expected.map(|(targets, faults)| (owned(targets), owned(faults)));
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn groups_are_lists_of_targets_with_labels() {
        let both = r#"[{"targets": ["a:1", "rediss://b:2"], "labels": {"team": "x"}}, {"targets": ["c"]}]"#;
        for is_json in [true, false] {
            check(both, is_json, Ok((&["redis://a:1 team=x", "rediss://b:2 team=x", "redis://c:6379"], &[])));
            check("[]", is_json, Ok((&[], &[])));
            check(r#"[{"targets": [], "labels": null}]"#, is_json, Ok((&[], &[])));
        }
        check(
            "# ours\n- targets:\n  - a:1\n  - unix:///run/r.sock\n  labels:\n    team: x\n    shelf: 7\n- targets: [b]\n",
            false,
            Ok((&["redis://a:1 shelf=7 team=x", "unix:///run/r.sock shelf=7 team=x", "redis://b:6379"], &[])),
        );
    }

    #[test]
    fn what_is_wrong_with_a_part_costs_that_part() {
        check(
            r#"[{"targets": ["a:1", "b:x", "redis://u:hunter2@b:x", ""]},
                {"targets": ["c:1"], "labels": {"__meta": "m", "service": "s", "instance": "i", "a-b": "v", "ok": "o", "role": "r", "db": "d"}}]"#,
            true,
            Ok((
                &["redis://a:1", "redis://c:1 db=d ok=o"],
                &[
                    "group 1: target 2 \"b:x\" is left out: the port is no number from 1 to 65535",
                    "group 1: target 3 is left out: the port is no number from 1 to 65535",
                    "group 1: target 4 \"\" is left out: no host is given",
                    "group 2: the label \"__meta\" is left out: it begins with __, which Prometheus keeps for itself; expected another name",
                    "group 2: the label \"a-b\" is left out: it is no name of a label; expected letters, digits and _, and no digit in front",
                    "group 2: the label \"instance\" is left out: it has a meaning of its own",
                    "group 2: the label \"role\" is left out: it is a label of families of services and members, which would lack it; expected another name",
                    "group 2: the label \"service\" is left out: it has a meaning of its own",
                ],
            )),
        );
        let many = format!(r#"[{{"targets": [{}"a"]}}]"#, r#""h:x","#.repeat(1000));
        let understood = parse(many.as_bytes(), true).expect("a list");
        assert_eq!((understood.targets.len(), understood.faults.len()), (1, MOST_FAULTS + 1));
        assert_eq!(understood.faults[MOST_FAULTS], "990 more parts are left out");
    }

    #[test]
    fn what_is_no_list_says_so_and_shows_nothing_of_it() {
        let expected = "expected a list of groups with `targets` and `labels`";
        for (text, is_json, why) in [
            ("", true, "is empty; a list of nobody is []".to_owned()),
            (" \n", false, "is empty; a list of nobody is []".to_owned()),
            (r#"[{"targets": ["redis://:hunter2@a"]"#, true, format!("line 1 column 35: {expected}")),
            (r#"[{"targets": "redis://:hunter2@a"}]"#, true, format!("line 1 column 33: {expected}")),
            (r#"[{"target": ["a"]}]"#, true, format!("line 1 column 18: {expected}")),
            ("- targets: redis://:hunter2@a\n", false, format!("line 1 column 12: {expected}")),
            ("- target: [a]\n", false, format!("line 1 column 3: {expected}")),
            ("a: [", false, format!("line 1 column 1: {expected}")),
        ] {
            check(text, is_json, Err(&why));
        }
        assert_eq!(parse(b"\xff", true).err().as_deref(), Some("is no UTF-8"));
    }

    #[test]
    fn names_match_as_in_a_shell() {
        for (path, pattern, expected) in [
            ("t/a.json", "t/*.json", true),
            ("t/a.yml", "t/*.json", false),
            ("u/a.json", "t/*.json", false),
            ("t/.a.json", "t/*.json", false),
            ("t/.a.json", "t/.*.json", true),
            ("t/a.json", "t/a.json", true),
            ("a.json", "*.json", true),
        ] {
            assert_eq!(belongs(Path::new(path), Path::new(pattern)), expected, "{path} {pattern}");
        }
    }

    /// Files of one folder, looked at at a time that is given.
    struct Looked {
        folder: tempfile::TempDir,
        files: Files,
        now: Instant,
    }

    impl Looked {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            Self { folder, files: Files::default(), now: Instant::now() }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.folder.path().join(name), text).expect("written");
        }

        /// The instances, and which files are in trouble, `after` that much more time.
        fn check(&mut self, patterns: &[&str], after: Duration, members: &str, troubles: &str) {
            self.now += after;
            let folder = self.folder.path().to_owned();
            let patterns: Vec<_> = patterns.iter().map(|pattern| folder.join(pattern)).collect();
            self.files.look(&patterns, self.now);
            let found: Vec<_> = self.files.members().iter().map(|m| m.instance.to_string()).collect();
            let in_trouble = self.files.troubles().into_iter().map(|(path, why)| {
                let name = path.strip_prefix(&*folder.to_string_lossy()).unwrap_or(&path).to_owned();
                format!("{} {why}", name.trim_start_matches('/')).trim().to_owned()
            });
            let in_trouble: Vec<_> = in_trouble.collect();
            assert_eq!((found.join(" "), in_trouble.join("; ")), (members.into(), troubles.into()));
        }
    }

    #[test]
    fn a_broken_or_missing_file_keeps_what_it_listed() {
        let mut looked = Looked::new();
        let (files, soon) = (&["a.json", "b.yml"][..], Duration::from_secs(60));
        let missing = "cannot be read: No such file or directory (os error 2)";
        looked.write("a.json", r#"[{"targets": ["a:1"]}]"#);
        looked.check(files, soon, "a:1", &format!("b.yml {missing}"));
        looked.write("b.yml", "- targets: [b:1, b:2]");
        looked.check(files, soon, "a:1 b:1 b:2", "");
        looked.write("a.json", r#"[{"targets": ["a:1""#);
        let broken = "a.json line 1 column 19: expected a list of groups with `targets` and `labels`";
        looked.check(files, soon, "a:1 b:1 b:2", broken);
        looked.check(files, soon, "a:1 b:1 b:2", broken);
        fs::remove_file(looked.folder.path().join("b.yml")).expect("there");
        looked.check(files, soon, "a:1 b:1 b:2", &format!("{broken}; b.yml {missing}"));
        looked.write("b.yml", "[]");
        looked.write("a.json", r#"[{"targets": ["a:1"]}]"#);
        looked.check(files, soon, "a:1", "");
        looked.write("a.json", r#"[{"targets": ["a:9"]}]"#);
        looked.check(files, soon, "a:9", "");
        looked.check(&["b.yml"], soon, "", "");
        let too_large = File::create(looked.folder.path().join("b.yml")).expect("a file");
        too_large.set_len(LARGEST_FILE + 1).expect("room");
        looked.check(&["b.yml"], soon, "", "b.yml is larger than 16 MiB");
    }

    #[test]
    fn a_file_that_its_folder_no_longer_lists_goes_after_a_moment() {
        let mut looked = Looked::new();
        let (files, moment) = (&["*.json"][..], GONE / 2);
        looked.write("a.json", r#"[{"targets": ["a:1"]}]"#);
        looked.write("b.json", r#"[{"targets": ["b:1"]}]"#);
        looked.write("c.yml", "broken: [");
        fs::create_dir(looked.folder.path().join("d.json")).expect("a folder");
        looked.check(files, moment, "a:1 b:1", "");
        fs::remove_file(looked.folder.path().join("a.json")).expect("there");
        looked.check(files, moment, "a:1 b:1", "");
        looked.write("a.json", r#"[{"targets": ["a:2"]}]"#);
        looked.check(files, moment, "a:2 b:1", "");
        fs::remove_file(looked.folder.path().join("a.json")).expect("there");
        looked.check(files, moment, "a:2 b:1", "");
        looked.check(files, moment, "a:2 b:1", "");
        looked.check(files, moment, "b:1", "");
        fs::remove_file(looked.folder.path().join("b.json")).expect("there");
        fs::remove_dir_all(looked.folder.path()).expect("there");
        let why = "cannot be listed: No such file or directory (os error 2); \
                   b.json cannot be read: No such file or directory (os error 2)";
        looked.check(files, GONE * 2, "b:1", why);
    }

    /// A provider at work on a folder, with an interval that is never over.
    struct Followed {
        folder: tempfile::TempDir,
        board: Arc<Board>,
        events: Arc<Events>,
        _config: watch::Sender<Arc<Config>>,
        _wanted: watch::Sender<Arc<discover::Service>>,
        _provider: JoinSet<()>,
    }

    impl Followed {
        fn start(patterns: &[&str], interval: Duration, prepare: impl FnOnce(&Path)) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            prepare(folder.path());
            let mut config = Config::default();
            config.discover.interval = interval;
            let (_config, config) = watch::channel(Arc::new(config));
            let (board, events) = (Arc::<Board>::default(), Arc::<Events>::default());
            let world = World { events: events.clone(), board: board.clone(), ..World::new(config) };
            let patterns = patterns.iter().map(|pattern| folder.path().join(pattern)).collect();
            let service = discover::Service::new("legacy", discover::Source::FileSd(patterns));
            let (_wanted, wanted) = watch::channel(Arc::new(service));
            let mut provider = JoinSet::new();
            provider.spawn(run(world, wanted));
            Self { folder, board, events, _config, _wanted, _provider: provider }
        }

        /// Waits until these are the members, and it is failing or not.
        async fn until(&self, members: &str, fails: bool) {
            let all = async {
                loop {
                    let service = self.board.get("legacy");
                    let found = service.as_ref().map(|service| {
                        let names: Vec<_> = service.members.iter().map(|m| m.instance.to_string()).collect();
                        (names.join(" "), service.failure.is_some())
                    });
                    if found == Some((members.into(), fails)) {
                        return;
                    }
                    self.board.changed().await;
                }
            };
            let board = &self.board;
            timeout(Duration::from_secs(20), all)
                .await
                .unwrap_or_else(|_| panic!("not {members:?} but {:?}", board.get("legacy")));
        }
    }

    const NEVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_change_is_seen_without_waiting_for_the_interval() {
        let followed = Followed::start(&["a.json"], NEVER, |folder| {
            fs::write(folder.join("a.json"), r#"[{"targets": ["a:1"]}]"#).expect("written");
        });
        let path = |name: &str| followed.folder.path().join(name);
        followed.until("a:1", false).await;
        fs::write(path("a.json"), r#"[{"targets": ["a:1", "a:2"]}]"#).expect("written");
        followed.until("a:1 a:2", false).await;
        // As editors do it.
        fs::write(path("a.json~"), r#"[{"targets": ["a:2"]}]"#).expect("written");
        fs::rename(path("a.json~"), path("a.json")).expect("renamed");
        followed.until("a:2", false).await;
        fs::write(path("a.json"), "[{").expect("written");
        followed.until("a:2", true).await;
        fs::write(path("a.json"), "[]").expect("written");
        followed.until("", false).await;
        let told: Vec<_> = followed.events.all().into_iter().map(|event| event.message).collect();
        let file = path("a.json").display().to_string();
        let expected = [
            "1 member listed".to_owned(),
            "a:2 joined the list".into(),
            "a:1 left the list".into(),
            format!("{file} line 1 column 2: expected a list of groups with `targets` and `labels`"),
            "a:2 left the list".into(),
            format!("{file} is well again"),
        ];
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn the_swap_of_a_mounted_config_map_is_seen() {
        fn version(folder: &Path, name: &str, text: &str) {
            fs::create_dir(folder.join(name)).expect("a folder");
            fs::write(folder.join(name).join("a.json"), text).expect("written");
            symlink(name, folder.join("..data_tmp")).expect("a link");
            fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("renamed");
        }
        let followed = Followed::start(&["*.json"], NEVER, |folder| {
            version(folder, "..1", r#"[{"targets": ["a:1"]}]"#);
            symlink("..data/a.json", folder.join("a.json")).expect("a link");
        });
        followed.until("a:1", false).await;
        for number in 2..5 {
            let text = format!(r#"[{{"targets": ["a:{number}"]}}]"#);
            version(followed.folder.path(), &format!("..{number}"), &text);
            fs::remove_dir_all(followed.folder.path().join(format!("..{}", number - 1))).expect("there");
            followed.until(&format!("a:{number}"), false).await;
        }
    }

    #[tokio::test]
    async fn files_that_come_and_go_are_followed() {
        let followed = Followed::start(&["*.json", "*.yml"], NEVER, |_| {});
        let path = |name: &str| followed.folder.path().join(name);
        followed.until("", false).await;
        fs::write(path("b.yml"), "- targets: [b:1]").expect("written");
        followed.until("b:1", false).await;
        fs::write(path("a.json"), r#"[{"targets": ["a:1"]}]"#).expect("written");
        followed.until("a:1 b:1", false).await;
        fs::remove_file(path("b.yml")).expect("there");
        followed.until("a:1", false).await;
    }

    #[tokio::test]
    async fn what_nobody_tells_of_is_seen_at_the_interval() {
        // The folder of the link is watched, and that to which it leads is not.
        let elsewhere = tempfile::tempdir().expect("a folder");
        let file = elsewhere.path().join("a.json");
        fs::write(&file, r#"[{"targets": ["a:1"]}]"#).expect("written");
        let followed = Followed::start(&["sub/a.json"], Duration::from_millis(100), |folder| {
            fs::create_dir(folder.join("sub")).expect("a folder");
            symlink(&file, folder.join("sub/a.json")).expect("a link");
        });
        followed.until("a:1", false).await;
        fs::write(&file, r#"[{"targets": ["a:2"]}]"#).expect("written");
        followed.until("a:2", false).await;
        // Another folder in its place.
        let sub = followed.folder.path().join("sub");
        fs::remove_dir_all(&sub).expect("there");
        followed.until("a:2", true).await;
        fs::create_dir(&sub).expect("a folder");
        fs::write(sub.join("a.json"), r#"[{"targets": ["a:3"]}]"#).expect("written");
        followed.until("a:3", false).await;
    }
}
