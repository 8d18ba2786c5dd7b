//! `CLUSTER INFO`: how a node sees its cluster.
//!
//! Only nodes of a cluster are asked. ACL: `+cluster|info` (before 7.0 `+cluster`). Cost: a few microseconds.
//! <https://redis.io/docs/latest/commands/cluster-info/>
//!
//! Message types appear once one was sent or received, so that families come and go. Numbers without a row
//! pass under their own name. Valkey 9.1 says all this in INFO as well, where it is left out.

use super::info::fields::{Field, Table, gauge, unlisted};
use super::{Answers, Asks, Collector, Context, Failure, How, Info, When};
use crate::connect::Mode;
use exposition::{Builder, Desc};
use std::sync::LazyLock;

/// See the head of this file.
pub static COLLECTOR: Collector = Collector { name: "cluster", descs, when, how: How::Read { ask, read } };

/// In the order of the metric names.
#[rustfmt::skip]
static FIELDS: &[Field] = &[
    gauge("cluster_current_epoch", "redis_cluster_current_epoch", "Highest configuration epoch that the node knows."),
    gauge("cluster_known_nodes", "redis_cluster_known_nodes", "Nodes that the node knows, those in handshake included."),
    gauge("cluster_stats_messages_received", "redis_cluster_messages_received_total", "Messages received on the cluster bus."),
    gauge("cluster_stats_messages_sent", "redis_cluster_messages_sent_total", "Messages sent on the cluster bus."),
    gauge("cluster_my_epoch", "redis_cluster_my_epoch", "Configuration epoch of this node."),
    gauge("cluster_size", "redis_cluster_size", "Masters that serve slots."),
    gauge("cluster_slots_assigned", "redis_cluster_slots_assigned", "Slots that belong to some node."),
    gauge("cluster_slots_fail", "redis_cluster_slots_fail", "Slots whose node has failed."),
    gauge("cluster_slots_ok", "redis_cluster_slots_ok", "Slots whose node is well."),
    gauge("cluster_slots_pfail", "redis_cluster_slots_pfail", "Slots whose node may have failed."),
    gauge("cluster_state", "redis_cluster_state", "Whether the node holds the cluster for able to serve: 1 ok, 0 fail."),
    gauge("cluster_stats_messages_auth-ack_received", "redis_cluster_stats_messages_auth_ack_received", "Messages of type auth-ack received on the cluster bus."),
    gauge("cluster_stats_messages_auth-ack_sent", "redis_cluster_stats_messages_auth_ack_sent", "Messages of type auth-ack sent on the cluster bus."),
    gauge("cluster_stats_messages_auth-req_received", "redis_cluster_stats_messages_auth_req_received", "Messages of type auth-req received on the cluster bus."),
    gauge("cluster_stats_messages_auth-req_sent", "redis_cluster_stats_messages_auth_req_sent", "Messages of type auth-req sent on the cluster bus."),
    gauge("cluster_stats_messages_fail_received", "redis_cluster_stats_messages_fail_received", "Messages of type fail received on the cluster bus."),
    gauge("cluster_stats_messages_fail_sent", "redis_cluster_stats_messages_fail_sent", "Messages of type fail sent on the cluster bus."),
    gauge("cluster_stats_messages_meet_received", "redis_cluster_stats_messages_meet_received", "Messages of type meet received on the cluster bus."),
    gauge("cluster_stats_messages_meet_sent", "redis_cluster_stats_messages_meet_sent", "Messages of type meet sent on the cluster bus."),
    gauge("cluster_stats_messages_mfstart_received", "redis_cluster_stats_messages_mfstart_received", "Messages of type mfstart received on the cluster bus."),
    gauge("cluster_stats_messages_mfstart_sent", "redis_cluster_stats_messages_mfstart_sent", "Messages of type mfstart sent on the cluster bus."),
    gauge("cluster_stats_messages_module_received", "redis_cluster_stats_messages_module_received", "Messages of type module received on the cluster bus."),
    gauge("cluster_stats_messages_module_sent", "redis_cluster_stats_messages_module_sent", "Messages of type module sent on the cluster bus."),
    gauge("cluster_stats_messages_ping_received", "redis_cluster_stats_messages_ping_received", "Messages of type ping received on the cluster bus."),
    gauge("cluster_stats_messages_ping_sent", "redis_cluster_stats_messages_ping_sent", "Messages of type ping sent on the cluster bus."),
    gauge("cluster_stats_messages_pong_received", "redis_cluster_stats_messages_pong_received", "Messages of type pong received on the cluster bus."),
    gauge("cluster_stats_messages_pong_sent", "redis_cluster_stats_messages_pong_sent", "Messages of type pong sent on the cluster bus."),
    gauge("cluster_stats_messages_publish_received", "redis_cluster_stats_messages_publish_received", "Messages of type publish received on the cluster bus."),
    gauge("cluster_stats_messages_publish_sent", "redis_cluster_stats_messages_publish_sent", "Messages of type publish sent on the cluster bus."),
    gauge("cluster_stats_messages_publishshard_received", "redis_cluster_stats_messages_publishshard_received", "Messages of type publishshard received on the cluster bus."),
    gauge("cluster_stats_messages_publishshard_sent", "redis_cluster_stats_messages_publishshard_sent", "Messages of type publishshard sent on the cluster bus."),
    gauge("cluster_stats_messages_update_received", "redis_cluster_stats_messages_update_received", "Messages of type update received on the cluster bus."),
    gauge("cluster_stats_messages_update_sent", "redis_cluster_stats_messages_update_sent", "Messages of type update sent on the cluster bus."),
];

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(FIELDS));

fn descs() -> Vec<&'static Desc> {
    TABLE.descs().collect()
}

fn when(context: &Context<'_>) -> When {
    match context.server {
        None => When::AfterInfo,
        Some(server) if server.mode == Mode::Cluster => When::Now,
        Some(_) => When::Never,
    }
}

fn ask(_: &Context<'_>, asks: &mut Asks<'_>) {
    asks.push("CLUSTER INFO", &["CLUSTER", "INFO"]);
}

fn read(context: &Context<'_>, answers: &Answers<'_>, out: &mut Builder) -> Result<(), Failure> {
    let text = answers.get(0)?.text().ok_or(Failure::shape("CLUSTER INFO"))?;
    write(text, context, out);
    Ok(())
}

fn write(text: &str, context: &Context<'_>, out: &mut Builder) {
    let mut reading = TABLE.reading();
    for line in Info::parse(text).lines() {
        if !reading.take(line.field, line.value) {
            unlisted(line.field, line.value, out);
        }
    }
    reading.write(context.config, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::info::testing::lines;

    fn check(reply: &str, expected: &[&str]) {
        assert_eq!(lines("", |_, context, out| write(reply, context, out)), expected, "{reply}");
    }

    #[test]
    fn the_state_is_one_or_nothing() {
        check("cluster_state:ok", &["redis_cluster_state 1"]);
        check("cluster_state:fail", &["redis_cluster_state 0"]);
        check("cluster_state:unheard of", &[]);
    }

    #[test]
    fn messages_have_names_of_their_own_in_all_and_by_type() {
        check(
            "cluster_stats_messages_sent:106\r\ncluster_stats_messages_auth-req_sent:2\r\n",
            &["redis_cluster_messages_sent_total 106", "redis_cluster_stats_messages_auth_req_sent 2"],
        );
    }

    #[test]
    fn fields_without_a_row_pass_if_they_speak_of_the_cluster() {
        check(
            "cluster_nodes_pfail:1\ntotal_cluster_links_buffer_limit_exceeded:0",
            &["redis_cluster_nodes_pfail 1"],
        );
    }

    #[test]
    fn rows_stand_in_the_order_of_their_names() {
        assert!(TABLE.descs().is_sorted_by(|a, b| a.name < b.name));
    }
}
