//! `global:`.

use super::{DAY, Draft, HOUR, MILLISECOND, field, idle, label, name};
use crate::config::document::reader::{Set, Table};
use std::time::Duration;

pub(super) static GLOBAL: Table<Draft> = Table {
    fields: &[
        field(
            "scrape_interval",
            "15s",
            "15s",
            Set::Duration(Duration::from_millis(10), DAY, |d: &mut Draft, v| d.config.scrape.interval = v),
            "How often each member is collected. Set it to the scrape_interval of the Prometheus that reads \
             /metrics: what is older than two of these intervals is left out of the page.",
        )
        .tunable(),
        field(
            "scrape_timeout",
            "5s",
            "5s",
            Set::Duration(MILLISECOND, HOUR, |d: &mut Draft, v| d.config.scrape.timeout = v),
            "How long the collection of a member may take in all: name, connection, TLS, login and commands. \
             Not more than scrape_interval, which it is where that is shorter than the default.",
        )
        .tunable(),
        field(
            "labels",
            "",
            "{ env: prod }",
            Set::Map("labels to texts", |d: &mut Draft, name, text, around| {
                d.labels.insert(name.into(), label(name, text, around)?);
                Ok(())
            }),
            "Labels of every series of every member. None begins with __, is one of the labels of web, or one of those by \
             which we say how services and members are: collector, err, instance_role, kind, outcome, phase, reason, role, \
             state. Families of servers that have a label of that name, such as db or user, keep their own.",
        ),
        field(
            "job",
            "redvigil",
            "redvigil",
            Set::Parsed("a text", |d: &mut Draft, v, _| name(v, &mut d.config.deliver.job)),
            "The label job of every series that outputs get. Pages have none: the Prometheus that reads them sets it.",
        ),
    ],
    finish: |draft, scope| {
        let scrape = &mut draft.config.scrape;
        if scrape.timeout > scrape.interval {
            if scope.said("scrape_timeout") {
                scope.problem("scrape_timeout", "is longer than scrape_interval; expected at most that");
            }
            scrape.timeout = scrape.interval;
        }
        idle::of_labels(&draft.labels, scope);
    },
};
