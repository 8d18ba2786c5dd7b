//! `log:`.

use super::{field, no_more};
use crate::config::Telemetry;
use crate::config::document::reader::{Set, Table};
use crate::config::telemetry::Level;

pub(super) static LOG: Table<Telemetry> = Table {
    fields: &[field(
        "level",
        "info",
        "info",
        Set::Parsed("debug, info, warn or error", |t: &mut Telemetry, v, _| {
            t.level = Level::parse(v)?;
            Ok(())
        }),
        "How much is logged.",
    )
    .tunable()],
    finish: no_more,
};
