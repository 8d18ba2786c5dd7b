//! `discover:`.

use super::{HOUR, field, no_more};
use crate::config::Discover;
use crate::config::document::reader::{Set, Table};
use std::time::Duration;

pub(super) static DISCOVER: Table<Discover> = Table {
    fields: &[field(
        "interval",
        "5s",
        "5s",
        Set::Duration(Duration::from_millis(10), HOUR, |d: &mut Discover, v| d.interval = v),
        "How often Sentinels, nodes, files and names are asked who the members are, where nothing tells of a \
         change.",
    )],
    finish: no_more,
};
