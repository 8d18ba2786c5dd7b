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

impl Level {
    /// Reads `DEBUG`, `INFO`, `WARN`, `WARNING` or `ERROR` in any case; nothing at all is `INFO`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(Self::Debug),
            "info" | "" => Ok(Self::Info),
            "warn" | "warning" => Ok(Self::Warn),
            "error" => Ok(Self::Error),
            _ => Err("is no log level; expected DEBUG, INFO, WARN or ERROR".into()),
        }
    }
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

impl Format {
    /// Reads `txt` (also `logfmt`) or `json` in any case; nothing at all is `txt`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "txt" | "logfmt" | "" => Ok(Self::Logfmt),
            "json" => Ok(Self::Json),
            _ => Err("is no log format; expected txt or json".into()),
        }
    }
}
