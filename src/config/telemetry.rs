//! What the operator may say about our own logs.

/// Our own logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// `--log-level` or `--debug`.
    pub level: Level,
    /// `--log-format`.
    pub format: Format,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Someone must act.
    Error,
    /// We carry on, but poorer.
    Warn,
    /// Something began, ended or changed.
    #[default]
    Info,
    /// Everything.
    Debug,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// logfmt: `key=value` pairs. The flag value is `txt`.
    #[default]
    Logfmt,
    /// One JSON object a line.
    Json,
}
