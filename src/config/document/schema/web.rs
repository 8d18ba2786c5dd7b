//! `web:`.

use super::field;
use crate::config::document::reader::{Set, Table};
use crate::config::{Serve, validate};

pub(super) static WEB: Table<Serve> = Table {
    fields: &[
        field(
            "service_label",
            "service",
            "service",
            Set::Parsed("the name of a label", |s: &mut Serve, v, _| {
                s.service_label = v.into();
                validate::sample_label(v)
            }),
            "The label that names the service.",
        ),
        field(
            "instance_label",
            "instance",
            "instance",
            Set::Parsed("the name of a label", |s: &mut Serve, v, _| {
                s.instance_label = v.into();
                validate::sample_label(v)
            }),
            "The label that names the member by host:port. Prometheus needs honor_labels: true to keep it.",
        ),
        field(
            "external_address",
            "",
            "redvigil.example:9121",
            Set::Parsed("host:port", |s: &mut Serve, v, _| {
                s.external_address = Some(validate::external_address(v)?);
                Ok(())
            }),
            "The host:port under which Prometheus reaches us, for /sd/targets. Without it, the host that the request \
             names, which is wrong behind a proxy. --web.external-address goes before it.",
        )
        .aside(),
    ],
    finish: |serve, scope| {
        if serve.service_label == serve.instance_label {
            let key = if scope.said("instance_label") { "instance_label" } else { "service_label" };
            scope.problem(key, "is the other label, too; expected two names");
        }
    },
};
