//! `log:`.

use super::{field, no_more};
use crate::config::Telemetry;
use crate::config::document::reader::{Set, Table};
use crate::config::telemetry::{Format, Level};

pub(super) static LOG: Table<Telemetry> = Table {
    fields: &[
        field(
        "level",
        "info",
        "info",
        Set::Parsed("debug, info, warn or error", |t: &mut Telemetry, v, _| {
            t.level = Level::parse(v)?;
            Ok(())
        }),
        "How much is logged.",
    )
    .tunable(),
        field(
            "format",
            "txt",
            "txt",
            Set::Parsed("txt or json", |t: &mut Telemetry, v, _| {
                t.format = Format::parse(v)?;
                Ok(())
            }),
            "Lines of key=value pairs, or of JSON. The log of a process has one form, for whoever reads it; with --config.source \
             its first lines are as --log-format says.",
        )
        .restart(),
    ],
    finish: no_more,
};
