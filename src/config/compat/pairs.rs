//! Flags that a key of the configuration file says, too: what `migrate` writes, and what goes before documents.
//!
//! What a newcomer would get wrong: a key of one service is no pair of a flag, which speaks of all of them.

use super::flags;
use super::words::{By, Words};
use crate::config::document::{Other, layers::Said};

/// How the value of a flag of redis_exporter is written in `collect:`.
pub enum Form {
    /// `true` or `false`.
    Switch,
    /// The opposite.
    Opposite,
    /// A number.
    Number,
    /// A text.
    Text,
    /// The name of a command; empty: none.
    Command,
    /// Patterns by comma.
    Keys,
    /// One line of CSV.
    Csv,
    /// Files by comma.
    Files,
}

/// Flags that have a key in `collect:`.
pub const COLLECT: &[(&str, &str, Form)] = &[
    ("config-command", "config_command", Form::Command),
    ("check-keys", "check_keys", Form::Keys),
    ("check-single-keys", "check_single_keys", Form::Keys),
    ("count-keys", "count_keys", Form::Keys),
    ("check-streams", "check_streams", Form::Keys),
    ("check-single-streams", "check_single_streams", Form::Keys),
    ("streams-exclude-consumer-metrics", "streams_exclude_consumer_metrics", Form::Switch),
    ("check-keys-batch-size", "check_keys_batch_size", Form::Number),
    ("check-key-groups", "check_key_groups", Form::Csv),
    ("max-distinct-key-groups", "max_distinct_key_groups", Form::Number),
    ("skip-checkkeys-for-role-master", "skip_checkkeys_for_role_master", Form::Switch),
    ("disable-exporting-key-values", "disable_exporting_key_values", Form::Switch),
    ("script", "scripts", Form::Files),
    ("lua-script-read-only", "lua_script_read_only", Form::Switch),
    ("export-client-list", "client_list", Form::Switch),
    ("export-client-port", "client_port", Form::Switch),
    ("include-config-metrics", "config_metrics", Form::Switch),
    ("redact-config-metrics", "redact_config_metrics", Form::Switch),
    ("include-modules-metrics", "modules_metrics", Form::Switch),
    ("include-search-indexes-metrics", "search_indexes_metrics", Form::Switch),
    ("check-search-indexes", "check_search_indexes", Form::Text),
    ("include-sentinel-peer-info", "sentinel_peer_info", Form::Switch),
    ("exclude-latency-histogram-metrics", "latency_histograms", Form::Opposite),
    ("include-system-metrics", "system_metrics", Form::Switch),
    ("include-rdb-file-size-metric", "rdb_file_size_metric", Form::Switch),
    ("include-metrics-for-empty-databases", "metrics_for_empty_databases", Form::Switch),
    ("append-instance-role-label", "instance_role_label", Form::Switch),
    ("is-tile38", "is_tile38", Form::Switch),
];

/// Flags that have a key elsewhere.
const OTHERS: &[(&str, &str)] = &[
    ("scrape.allow", "scrape.allow"),
    ("scrape.timeout-offset", "scrape.timeout_offset"),
    ("web.external-address", "web.external_address"),
    ("log-level", "log.level"),
    ("debug", "log.level"),
    ("log-format", "log.format"),
];

/// The path of the key that says what this flag says.
pub fn key(flag: &str) -> Option<String> {
    let of_collect =
        COLLECT.iter().find(|(known, ..)| *known == flag).map(|(_, key, _)| format!("collect.{key}"));
    of_collect.or_else(|| OTHERS.iter().find(|(known, _)| *known == flag).map(|(_, key)| (*key).to_owned()))
}

/// What was said by flags and variables, and goes before documents.
pub fn said(words: &Words) -> Vec<Said> {
    let mut all = vec![];
    for flag in flags::all() {
        let (said, Some(key)) = (words.said(flag.name), key(flag.name)) else { continue };
        let text = said.texts.last().cloned().unwrap_or_default();
        // Templates set variables to nothing where they mean "as you like"; --debug=false means what else is said.
        let says_nothing = said.by == By::Default
            || said.by == By::Variable && text.is_empty()
            || flag.name == "debug" && !words.is_on("debug");
        if !says_nothing {
            all.push(Said { key, place: said.place.clone(), text: written(flag.name, &text) });
        }
    }
    all
}

/// The value as a document would have it, on one line.
fn written(flag: &str, text: &str) -> String {
    match COLLECT.iter().find(|(known, ..)| *known == flag).map(|(_, _, form)| form) {
        Some(Form::Switch) => crate::config::units::boolean(text).unwrap_or_default().to_string(),
        Some(Form::Opposite) => (!crate::config::units::boolean(text).unwrap_or_default()).to_string(),
        _ if flag == "debug" => "debug".into(),
        _ if flag == "log-level" || flag == "log-format" => text.to_ascii_lowercase(),
        _ => text.into(),
    }
}

/// The flags that no key says, as they may be shown.
pub fn others(words: &Words) -> Vec<Other> {
    let is_setting =
        |flag: &&flags::Flag| !matches!(flag.set, flags::Set::Action) && key(flag.name).is_none();
    flags::all()
        .filter(is_setting)
        .map(|flag| {
            let said = words.said(flag.name);
            let text = said.texts.join(", ");
            let is_hidden =
                !text.is_empty() && (flag.is_private && said.by != By::Default || text.contains('@'));
            Other {
                name: flag.name,
                value: (!is_hidden).then_some(text),
                place: (said.by != By::Default).then(|| said.place.clone()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document::{reader::Row, rows};

    #[test]
    fn every_pair_is_a_flag_and_a_key() {
        for (flag, ..) in COLLECT {
            assert!(flags::find(flag).is_some(), "{flag}");
        }
        for flag in flags::all() {
            let Some(key) = key(flag.name) else { continue };
            let (mut rows, mut row): (Vec<Row>, Option<Row>) = (rows(), None);
            for step in key.split('.') {
                let found =
                    rows.into_iter().find(|row| row.key == step).unwrap_or_else(|| panic!("no {key}"));
                rows = vec![];
                row = Some(found);
                if let Some(found) = &mut row {
                    rows = std::mem::take(&mut found.nested);
                }
            }
            assert!(row.is_some_and(|row| row.key == key.rsplit('.').next().unwrap_or_default()), "{key}");
        }
    }

    #[test]
    fn what_was_said_goes_before_documents_and_nothing_else_does() {
        fn check(args: &[&str], env: &[(&str, &str)], expected: &[(&str, &str, &str)]) {
            let variable =
                |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).into());
            let words = Words::read(args.iter().map(Into::into).collect(), variable, &mut vec![]);
            let found = said(&words);
            let found: Vec<_> = found.iter().map(|said| (&*said.key, &*said.place, &*said.text)).collect();
            assert_eq!(found, expected, "{args:?} {env:?}");
        }
        check(&[], &[], &[]);
        check(&["--export-client-list"], &[], &[("collect.client_list", "--export-client-list", "true")]);
        check(
            &["-exclude-latency-histogram-metrics"],
            &[],
            &[("collect.latency_histograms", "-exclude-latency-histogram-metrics", "false")],
        );
        check(&["--check-keys="], &[], &[("collect.check_keys", "--check-keys", "")]);
        check(&[], &[("REDIS_EXPORTER_CHECK_KEYS", "")], &[]);
        check(
            &[],
            &[("REDIS_EXPORTER_CHECK_KEYS", "a")],
            &[("collect.check_keys", "REDIS_EXPORTER_CHECK_KEYS", "a")],
        );
        check(&["--debug=false"], &[], &[]);
        check(&["--debug"], &[], &[("log.level", "--debug", "debug")]);
        check(&["--log-level=WARN"], &[], &[("log.level", "--log-level", "warn")]);
        check(&["--web.listen-address=:1"], &[], &[]);
    }

    #[test]
    fn no_private_flag_is_shown() {
        let args = ["--redis.addr=redis://u:hunter2@h", "--redis.password=hunter2", "--namespace=x"];
        let words = Words::read(args.map(Into::into).into(), |_| None, &mut vec![]);
        let others = others(&words);
        assert!(!format!("{others:?}").contains("hunter2"));
        let found =
            |name| others.iter().find(|other| other.name == name).and_then(|other| other.value.clone());
        assert_eq!((found("namespace"), found("redis.addr")), (Some("x".into()), None));
        assert_eq!(found("connection-timeout"), Some("15s".into()));
    }
}
