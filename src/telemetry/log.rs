//! Where log lines go and what they look like: logfmt or JSON on stderr, one event a line.

use crate::config::telemetry::{Format, Level, Telemetry};
use std::fmt::{self, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, UtcTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, reload};

/// Starts logging. To be called once, before anything logs; a second call changes nothing.
pub fn start(config: &Telemetry) {
    let (filter, handle) = reload::Layer::new(filter(config.level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    IS_JSON.store(config.format == Format::Json, Ordering::Relaxed);
    let _ = registry.with(lines.event_format(Line)).try_init();
    let _ = FILTER.set(handle);
}

/// Goes on as another configuration says, before anything runs.
pub fn go_on(config: &Telemetry) {
    set_level(config.level);
    IS_JSON.store(config.format == Format::Json, Ordering::Relaxed);
}

/// The form of the lines of the process.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// The filter of the process, of which there is one, like its log.
static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Logs so much from now on.
pub fn set_level(level: Level) {
    if let Some(handle) = FILTER.get() {
        // It is gone only where logging is.
        let _ = handle.reload(filter(level));
    }
}

fn filter(level: Level) -> Targets {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    // What libraries say is of use only to those who mend them, and may hold what a peer sent.
    Targets::new().with_target("redvigil", level).with_default(LevelFilter::WARN.min(level))
}

/// An error and its causes in one line, as an edge says them.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// One event, one line.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        UtcTime::rfc_3339().format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields(vec![
            ("time", time),
            ("level", event.metadata().level().as_str().to_ascii_lowercase()),
            ("msg", String::new()),
        ]);
        event.record(&mut fields);
        let text = if IS_JSON.load(Ordering::Relaxed) { fields.json() } else { fields.logfmt() };
        writeln!(writer, "{text}")
    }
}

/// The fields of one event, in order; the message among them.
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: String) {
        match name {
            "message" => self.0[2].1 = value,
            name => self.0.push((name, value)),
        }
    }

    fn logfmt(&self) -> String {
        let mut line = String::new();
        for (name, value) in &self.0 {
            let separator = if line.is_empty() { "" } else { " " };
            let plain =
                !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'=');
            // A String's Debug form quotes and escapes, line ends and control characters included.
            let _ = if plain {
                write!(line, "{separator}{name}={value}")
            } else {
                write!(line, "{separator}{name}={value:?}")
            };
        }
        line
    }

    /// Written pair by pair, since a map would put the time somewhere in the middle.
    fn json(&self) -> String {
        let pair = |(name, value): &(&str, String)| {
            format!("{}:{}", serde_json::Value::from(*name), serde_json::Value::from(value.as_str()))
        };
        format!("{{{}}}", self.0.iter().map(pair).collect::<Vec<_>>().join(","))
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_from_outside_cannot_make_a_second_line() {
        let fields =
            Fields(vec![("time", "t".into()), ("msg", "two\nlines \"x\"".into()), ("n", "1".into())]);
        assert_eq!(fields.logfmt(), r#"time=t msg="two\nlines \"x\"" n=1"#);
        assert_eq!(fields.json(), r#"{"time":"t","msg":"two\nlines \"x\"","n":"1"}"#);
    }
}
