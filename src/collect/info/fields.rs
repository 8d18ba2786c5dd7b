//! Everything in INFO that is one number under one name.
//!
//! A row is the field, its family and how the number is turned; a new field is one row. `ok` and `true`
//! count as 1, `err`, `fail` and `false` as 0; a value that is none of this drops its sample alone.
//!
//! Fields without a row are ignored, but for numbers that start with `cluster_` or `db`: they pass under
//! their own name, see [`unlisted`].

use super::super::Context;
use super::number::number;
use super::{Info, keyspace};
use crate::config::collect::Collect;
use exposition::{Builder, Desc, Kind, family};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::LazyLock;

/// One row: the field, its family, and what the number is divided by to have the family's unit.
pub struct Field {
    key: &'static str,
    desc: Desc,
    divisor: f64,
    wanted: fn(&Collect) -> bool,
}

impl Field {
    /// The same, with the number divided: `1e6` turns microseconds into seconds.
    pub const fn per(self, divisor: f64) -> Self {
        Self { divisor, ..self }
    }

    /// The same, only if the operator wants it.
    pub const fn only(self, wanted: fn(&Collect) -> bool) -> Self {
        Self { wanted, ..self }
    }

    const fn new(key: &'static str, desc: Desc) -> Self {
        Self { key, desc, divisor: 1.0, wanted: |_| true }
    }
}

/// A row whose family is a gauge.
pub const fn gauge(key: &'static str, name: &'static str, help: &'static str) -> Field {
    Field::new(key, Desc::gauge(name, help))
}

/// A row whose family is a counter.
pub const fn counter(key: &'static str, name: &'static str, help: &'static str) -> Field {
    Field::new(key, Desc::counter(name, help))
}

/// In the order of the metric names, so that little is left to sort.
#[rustfmt::skip]
static FIELDS: &[Field] = &[
    counter("acl_access_denied_auth", "redis_acl_access_denied_auth_total", "Logins refused by AUTH or HELLO."),
    counter("acl_access_denied_channel", "redis_acl_access_denied_channel_total", "Commands refused because the user may not use the Pub/Sub channel."),
    counter("acl_access_denied_cmd", "redis_acl_access_denied_cmd_total", "Commands refused because the user may not run them."),
    counter("acl_access_denied_db", "redis_acl_access_denied_db_total", "Commands refused because the user may not use the database."),
    counter("acl_access_denied_key", "redis_acl_access_denied_key_total", "Commands refused because the user may not touch the key."),
    counter("acl_access_denied_tls_cert", "redis_acl_access_denied_tls_cert_total", "Logins by TLS certificate that were refused."),
    gauge("active_defrag_running", "redis_active_defrag_running", "How hard active defragmentation works now, in percent of CPU; 0 when it rests."),
    counter("used_active_time_main_thread", "redis_active_time_main_thread_seconds_total", "Time that the main thread was busy, in seconds."),
    gauge("allocator_active", "redis_allocator_active_bytes", "Memory in the pages that the allocator uses, gaps inside them included, in bytes."),
    gauge("allocator_allocated", "redis_allocator_allocated_bytes", "Memory that the allocator has handed out, in bytes."),
    gauge("allocator_frag_bytes", "redis_allocator_frag_bytes", "Gaps inside the pages in use: active minus allocated, in bytes."),
    gauge("allocator_frag_ratio", "redis_allocator_frag_ratio", "Active over allocated memory; what exceeds 1 can be won back by defragmentation."),
    gauge("allocator_muzzy", "redis_allocator_muzzy_bytes", "Freed memory that the allocator has lent back to the kernel but may still hold, in bytes."),
    gauge("allocator_resident", "redis_allocator_resident_bytes", "Memory that the allocator holds resident, unused pages included, in bytes."),
    gauge("allocator_rss_bytes", "redis_allocator_rss_bytes", "Pages that the allocator could return: resident minus active, in bytes."),
    gauge("allocator_rss_ratio", "redis_allocator_rss_ratio", "Resident over active memory of the allocator."),
    gauge("aof_base_size", "redis_aof_base_size_bytes", "Size of the append-only file after the last start or rewrite, in bytes."),
    gauge("aof_buffer_length", "redis_aof_buffer_length", "Data waiting to be written to the append-only file, in bytes."),
    gauge("aof_current_rewrite_time_sec", "redis_aof_current_rewrite_duration_sec", "How long the rewrite of the append-only file has been running, in seconds; -1 when none is."),
    gauge("aof_current_size", "redis_aof_current_size_bytes", "Size of the append-only file now, in bytes."),
    gauge("aof_delayed_fsync", "redis_aof_delayed_fsync", "Writes that had to wait for an fsync of the append-only file."),
    gauge("aof_enabled", "redis_aof_enabled", "Whether the append-only file is on."),
    gauge("aof_last_bgrewrite_status", "redis_aof_last_bgrewrite_status", "Whether the last rewrite of the append-only file succeeded."),
    gauge("aof_last_cow_size", "redis_aof_last_cow_size_bytes", "Memory copied on write during the last rewrite of the append-only file, in bytes."),
    gauge("aof_last_rewrite_time_sec", "redis_aof_last_rewrite_duration_sec", "How long the last rewrite of the append-only file took, in seconds; -1 before the first."),
    gauge("aof_last_write_status", "redis_aof_last_write_status", "Whether the last write to the append-only file succeeded."),
    gauge("aof_pending_bio_fsync", "redis_aof_pending_bio_fsync", "Fsync jobs of the append-only file that wait for a background thread."),
    gauge("aof_pending_rewrite", "redis_aof_pending_rewrite", "Whether a rewrite of the append-only file starts as soon as the snapshot under way is done."),
    gauge("aof_rewrite_buffer_length", "redis_aof_rewrite_buffer_length", "Data collected for the rewrite of the append-only file, in bytes."),
    gauge("aof_rewrite_in_progress", "redis_aof_rewrite_in_progress", "Whether the append-only file is being rewritten."),
    gauge("aof_rewrite_scheduled", "redis_aof_rewrite_scheduled", "Whether a rewrite of the append-only file waits for the snapshot under way to end."),
    gauge("aof_rewrites_consecutive_failures", "redis_aof_rewrites_consecutive_failures", "Rewrites of the append-only file that failed since the last success."),
    gauge("async_loading", "redis_async_loading", "Whether a replica serves its old data while it loads the new."),
    gauge("blocked_clients", "redis_blocked_clients", "Clients that wait in a blocking command."),
    counter("cached_keys", "redis_cached_keys_total", "Keys that KeyDB holds in memory."),
    gauge("client_biggest_input_buf", "redis_client_biggest_input_buf", "Largest query buffer among the clients, in bytes (up to Redis 4)."),
    gauge("client_longest_output_list", "redis_client_longest_output_list", "Longest output list among the clients, in replies (up to Redis 4)."),
    counter("client_output_buffer_limit_disconnections", "redis_client_output_buffer_limit_disconnections_total", "Clients cut off because their output buffer grew past its limit."),
    counter("client_query_buffer_limit_disconnections", "redis_client_query_buffer_limit_disconnections_total", "Clients cut off because their query buffer grew past its limit."),
    gauge("client_recent_max_input_buffer", "redis_client_recent_max_input_buffer_bytes", "Largest query buffer among the clients of late, in bytes."),
    gauge("client_recent_max_output_buffer", "redis_client_recent_max_output_buffer_bytes", "Largest output buffer among the clients of late, in bytes."),
    gauge("clients_in_timeout_table", "redis_clients_in_timeout_table", "Clients whose blocking command has a time-out."),
    gauge("cluster_connections", "redis_cluster_connections", "Connections of the cluster bus, estimated by the server."),
    gauge("cluster_enabled", "redis_cluster_enabled", "Whether the server is a node of a cluster."),
    counter("total_commands_processed", "redis_commands_processed_total", "Commands that the server has run."),
    gauge("configured_hz", "redis_configured_hz", "Configured frequency of the background work, in runs a second."),
    gauge("connected_clients", "redis_connected_clients", "Client connections, without those of replicas."),
    gauge("connected_slaves", "redis_connected_slaves", "Replicas that are connected."),
    counter("total_connections_received", "redis_connections_received_total", "Connections that the server has accepted."),
    counter("used_cpu_sys_children", "redis_cpu_sys_children_seconds_total", "CPU time that child processes spent in the kernel, in seconds."),
    counter("used_cpu_sys_main_thread", "redis_cpu_sys_main_thread_seconds_total", "CPU time that the main thread spent in the kernel, in seconds."),
    counter("used_cpu_sys", "redis_cpu_sys_seconds_total", "CPU time that the server spent in the kernel, in seconds."),
    counter("used_cpu_user_children", "redis_cpu_user_children_seconds_total", "CPU time that child processes spent in user mode, in seconds."),
    counter("used_cpu_user_main_thread", "redis_cpu_user_main_thread_seconds_total", "CPU time that the main thread spent in user mode, in seconds."),
    counter("used_cpu_user", "redis_cpu_user_seconds_total", "CPU time that the server spent in user mode, in seconds."),
    gauge("current_client_thread", "redis_current_client_thread", "Thread that answered INFO (KeyDB)."),
    gauge("current_cow_size", "redis_current_cow_size_bytes", "Memory copied on write by the child at work, in bytes."),
    gauge("current_eviction_exceeded_time", "redis_current_eviction_exceeded_time_ms", "How long memory has been above maxmemory, in milliseconds; 0 when it is not."),
    gauge("current_fork_perc", "redis_current_fork_percentage", "How far the child at work is, in percent."),
    gauge("active_defrag_hits", "redis_defrag_hits", "Allocations that active defragmentation has moved."),
    gauge("active_defrag_key_hits", "redis_defrag_key_hits", "Keys of which active defragmentation moved something."),
    gauge("active_defrag_key_misses", "redis_defrag_key_misses", "Keys of which active defragmentation moved nothing."),
    gauge("active_defrag_misses", "redis_defrag_misses", "Allocations that active defragmentation looked at and left alone."),
    counter("dump_payload_sanitizations", "redis_dump_payload_sanitizations", "Deep checks of RESTORE payloads and RDB values."),
    counter("eventloop_cycles", "redis_eventloop_cycles_total", "Rounds of the event loop."),
    counter("eventloop_duration_cmd_sum", "redis_eventloop_duration_cmd_sum_usec_total", "Time that the event loop spent in commands, in microseconds."),
    counter("eventloop_duration_sum", "redis_eventloop_duration_sum_usec_total", "Time that the event loop was busy, waiting left out, in microseconds."),
    counter("evicted_clients", "redis_evicted_clients_total", "Clients cut off to keep within maxmemory-clients."),
    counter("evicted_keys", "redis_evicted_keys_total", "Keys removed to keep within maxmemory."),
    counter("evicted_scripts", "redis_evicted_scripts_total", "Scripts dropped from the cache to make room."),
    counter("total_eviction_exceeded_time", "redis_eviction_exceeded_time_ms_total", "Time that memory was above maxmemory, in milliseconds."),
    counter("expire_cycle_cpu_milliseconds", "redis_expire_cycle_cpu_time_ms_total", "CPU time spent looking for expired keys, in milliseconds."),
    counter("expired_fields", "redis_expired_fields_total", "Hash fields removed because their time was over (Valkey)."),
    counter("expired_keys", "redis_expired_keys_total", "Keys removed because their time was over."),
    gauge("expired_keys_with_volatile_items_stale_perc", "redis_expired_keys_with_volatile_items_stale_percentage", "Share of hashes with expired fields that are still there, estimated, in percent (Valkey)."),
    gauge("expired_stale_perc", "redis_expired_stale_percentage", "Share of keys that are expired but still there, estimated, in percent."),
    counter("expired_subkeys", "redis_expired_subkeys_total", "Hash fields removed because their time was over (Redis)."),
    counter("expired_time_cap_reached_count", "redis_expired_time_cap_reached_total", "Searches for expired keys that ran out of their time slice."),
    counter("total_forks", "redis_forks_total", "Forks of the server."),
    gauge("hz", "redis_hz", "Frequency of the background work now, in runs a second."),
    gauge("instantaneous_eventloop_cycles_per_sec", "redis_instantaneous_eventloop_cycles_per_sec", "Rounds of the event loop a second, over the last 1.6 seconds."),
    gauge("instantaneous_eventloop_duration_usec", "redis_instantaneous_eventloop_duration_usec", "Mean length of a round of the event loop of late, in microseconds."),
    counter("io_threaded_total_prefetch_batches", "redis_io_threaded_prefetch_batches_total", "Batches of commands whose keys were prefetched."),
    counter("io_threaded_total_prefetch_entries", "redis_io_threaded_prefetch_entries_total", "Commands whose keys were prefetched."),
    counter("io_threaded_reads_processed", "redis_io_threaded_reads_processed", "Reads from clients done by I/O threads."),
    counter("io_threaded_writes_processed", "redis_io_threaded_writes_processed", "Writes to clients done by I/O threads."),
    gauge("io_threads_active", "redis_io_threads_active", "Whether I/O threads are at work."),
    counter("keyspace_hits", "redis_keyspace_hits_total", "Key lookups by reading commands that found the key."),
    counter("keyspace_misses", "redis_keyspace_misses_total", "Key lookups by reading commands that found nothing."),
    gauge("latest_fork_usec", "redis_latest_fork_seconds", "How long the last fork took, in seconds.").per(1e6),
    gauge("lazyfree_pending_objects", "redis_lazyfree_pending_objects", "Objects that wait to be freed in the background."),
    gauge("lazyfreed_objects", "redis_lazyfreed_objects", "Objects that were freed in the background."),
    gauge("loading", "redis_loading_dump_file", "Whether the server is loading its data and answers little else."),
    gauge("loading_eta_seconds", "redis_loading_eta_seconds", "Time until the file is loaded, estimated by the server, in seconds."),
    gauge("loading_loaded_bytes", "redis_loading_loaded_bytes", "How much of the file is loaded, in bytes."),
    gauge("loading_total_bytes", "redis_loading_total_bytes", "Size of the file that is being loaded, in bytes."),
    gauge("long_lock_waits", "redis_long_lock_waits_total", "Long waits for the global lock (KeyDB)."),
    gauge("master_current_sync_attempts", "redis_master_current_sync_attempts", "Attempts to synchronise with the master since the link was lost."),
    counter("total_disconnect_time_sec", "redis_master_disconnected_seconds_total", "Time without a link to the master, in seconds."),
    gauge("master_link_down_since_seconds", "redis_master_link_down_since_seconds", "How long the link to the master has been down, in seconds; -1 when it never was up."),
    gauge("master_link_up_since_seconds", "redis_master_link_up_since_seconds", "How long the link to the master has been up, in seconds; -1 when it is not."),
    gauge("master_repl_offset", "redis_master_repl_offset", "Replication offset of this server, in bytes."),
    counter("master_total_sync_attempts", "redis_master_sync_attempts_total", "Attempts to synchronise with the master."),
    gauge("maxclients", "redis_max_clients", "Most clients at once that INFO admits."),
    gauge("mem_aof_buffer", "redis_mem_aof_buffer_bytes", "Memory of the buffers of the append-only file, in bytes."),
    gauge("mem_clients_normal", "redis_mem_clients_normal", "Memory of the buffers of ordinary clients, in bytes."),
    gauge("mem_clients_slaves", "redis_mem_clients_slaves", "Memory of the buffers of replicas, in bytes."),
    gauge("mem_cluster_links", "redis_mem_cluster_links_bytes", "Memory of the links of the cluster bus, in bytes."),
    gauge("mem_fragmentation_bytes", "redis_mem_fragmentation_bytes", "Resident minus used memory, in bytes."),
    gauge("mem_fragmentation_ratio", "redis_mem_fragmentation_ratio", "Resident over used memory; far above 1 means waste, below 1 means swapping."),
    gauge("mem_not_counted_for_evict", "redis_mem_not_counted_for_eviction_bytes", "Memory that eviction does not count: buffers for replicas and the append-only file, in bytes."),
    gauge("mem_overhead_db_hashtable_rehashing", "redis_mem_overhead_db_hashtable_rehashing_bytes", "Memory held only because key tables are being resized, in bytes."),
    gauge("mem_replica_full_sync_buffer", "redis_mem_replica_full_sync_buffer_bytes", "Memory of the stream that a replica buffers during a full synchronisation (Redis), in bytes."),
    gauge("mem_replicas_repl_buffer", "redis_mem_replicas_repl_buffer_bytes", "Memory of the stream that a replica buffers during a full synchronisation (Valkey), in bytes."),
    gauge("mem_replication_backlog", "redis_mem_replication_backlog_bytes", "Memory of the replication backlog, in bytes."),
    gauge("mem_total_replication_buffers", "redis_mem_total_replication_buffers_bytes", "Memory of all replication buffers, the backlog included, in bytes."),
    gauge("maxmemory", "redis_memory_max_bytes", "Memory limit (maxmemory), in bytes; 0 means none."),
    gauge("maxfragmentationmemory_reservation", "redis_memory_max_fragmentation_reservation_bytes", "Memory set aside for fragmentation (Azure), in bytes."),
    gauge("maxfragmentationmemory_desired_reservation", "redis_memory_max_fragmentation_reservation_desired_bytes", "Memory asked to be set aside for fragmentation (Azure), in bytes."),
    gauge("maxmemory_reservation", "redis_memory_max_reservation_bytes", "Memory set aside for other uses than the cache (Azure), in bytes."),
    gauge("maxmemory_desired_reservation", "redis_memory_max_reservation_desired_bytes", "Memory asked to be set aside for other uses than the cache (Azure), in bytes."),
    gauge("used_memory", "redis_memory_used_bytes", "Memory that the allocator has given out to the server, in bytes."),
    gauge("used_memory_dataset", "redis_memory_used_dataset_bytes", "Memory of the data: used memory minus overhead, in bytes."),
    gauge("used_memory_functions", "redis_memory_used_functions_bytes", "Memory of functions outside their engine, in bytes."),
    gauge("used_memory_lua", "redis_memory_used_lua_bytes", "Memory of the Lua engine that runs EVAL, in bytes."),
    gauge("used_memory_overhead", "redis_memory_used_overhead_bytes", "Memory of all that is not data: start-up, buffers, tables, in bytes."),
    gauge("used_memory_peak", "redis_memory_used_peak_bytes", "Most memory ever used, in bytes."),
    gauge("used_memory_peak_time", "redis_memory_used_peak_timestamp_seconds", "Unix time of the memory peak, in seconds."),
    gauge("used_memory_rss", "redis_memory_used_rss_bytes", "Memory that the kernel has given to the process, in bytes."),
    gauge("used_memory_scripts", "redis_memory_used_scripts_bytes", "Memory of cached scripts and functions outside their engines, in bytes."),
    gauge("used_memory_scripts_eval", "redis_memory_used_scripts_eval_bytes", "Memory of cached EVAL scripts outside the engine, in bytes."),
    gauge("used_memory_startup", "redis_memory_used_startup_bytes", "Memory used right after the start, in bytes."),
    gauge("used_memory_vm_eval", "redis_memory_used_vm_eval_bytes", "Memory of the engines that run EVAL, in bytes."),
    gauge("used_memory_vm_functions", "redis_memory_used_vm_functions_bytes", "Memory of the engines that run functions, in bytes."),
    gauge("used_memory_vm_total", "redis_memory_used_vm_total", "Memory of all script engines, in bytes."),
    gauge("migrate_cached_sockets", "redis_migrate_cached_sockets_total", "Sockets that MIGRATE keeps open."),
    gauge("module_fork_in_progress", "redis_module_fork_in_progress", "Whether a module has a forked child at work."),
    gauge("module_fork_last_cow_size", "redis_module_fork_last_cow_size", "Memory copied on write during the last fork of a module, in bytes."),
    counter("total_net_input_bytes", "redis_net_input_bytes_total", "Bytes read from the network."),
    counter("total_net_output_bytes", "redis_net_output_bytes_total", "Bytes written to the network."),
    counter("total_net_repl_input_bytes", "redis_net_repl_input_bytes_total", "Bytes read from the master."),
    counter("total_net_repl_output_bytes", "redis_net_repl_output_bytes_total", "Bytes written to replicas."),
    gauge("number_of_cached_scripts", "redis_number_of_cached_scripts", "EVAL scripts in the cache."),
    gauge("number_of_functions", "redis_number_of_functions", "Functions that are loaded."),
    gauge("number_of_libraries", "redis_number_of_libraries", "Function libraries that are loaded."),
    gauge("process_id", "redis_process_id", "Process id of the server."),
    gauge("pubsub_channels", "redis_pubsub_channels", "Pub/Sub channels with a subscriber."),
    gauge("pubsub_clients", "redis_pubsub_clients", "Clients in Pub/Sub mode."),
    gauge("pubsub_patterns", "redis_pubsub_patterns", "Pub/Sub patterns with a subscriber."),
    gauge("pubsubshard_channels", "redis_pubsubshard_channels", "Shard channels with a subscriber."),
    gauge("rdb_bgsave_in_progress", "redis_rdb_bgsave_in_progress", "Whether a snapshot is being written in the background."),
    gauge("rdb_changes_since_last_save", "redis_rdb_changes_since_last_save", "Changes since the last snapshot."),
    gauge("rdb_current_bgsave_time_sec", "redis_rdb_current_bgsave_duration_sec", "How long the snapshot under way has taken so far, in seconds; -1 when none is."),
    gauge("rdb_last_bgsave_time_sec", "redis_rdb_last_bgsave_duration_sec", "How long the last snapshot took, in seconds; -1 before the first."),
    gauge("rdb_last_bgsave_status", "redis_rdb_last_bgsave_status", "Whether the last snapshot in the background succeeded."),
    gauge("rdb_last_cow_size", "redis_rdb_last_cow_size_bytes", "Memory copied on write during the last snapshot, in bytes."),
    gauge("rdb_last_load_keys_expired", "redis_rdb_last_load_expired_keys", "Keys that were already expired when the last snapshot was loaded."),
    gauge("rdb_last_load_keys_loaded", "redis_rdb_last_load_loaded_keys", "Keys that came from the last snapshot loaded."),
    gauge("rdb_last_save_time", "redis_rdb_last_save_timestamp_seconds", "Unix time of the last snapshot that succeeded, in seconds."),
    gauge("rdb_saves", "redis_rdb_saves_total", "Snapshots since the start."),
    counter("rejected_connections", "redis_rejected_connections_total", "Connections refused because of maxclients."),
    gauge("repl_backlog_first_byte_offset", "redis_repl_backlog_first_byte_offset", "Replication offset of the oldest byte in the backlog."),
    gauge("repl_backlog_histlen", "redis_repl_backlog_history_bytes", "Data in the replication backlog, in bytes."),
    gauge("repl_backlog_active", "redis_repl_backlog_is_active", "Whether there is a replication backlog."),
    gauge("replica_full_sync_buffer_peak", "redis_replica_full_sync_buffer_peak_bytes", "Most that this replica has buffered during a full synchronisation (Redis), in bytes."),
    gauge("replica_full_sync_buffer_size", "redis_replica_full_sync_buffer_size_bytes", "Stream buffered by this replica during its full synchronisation (Redis), in bytes."),
    gauge("sync_partial_ok", "redis_replica_partial_resync_accepted", "Partial resynchronisations granted to replicas."),
    gauge("sync_partial_err", "redis_replica_partial_resync_denied", "Partial resynchronisations refused to replicas."),
    gauge("sync_full", "redis_replica_resyncs_full", "Full resynchronisations of replicas."),
    gauge("replicas_repl_buffer_peak", "redis_replicas_repl_buffer_peak_bytes", "Most that this replica has buffered during a full synchronisation (Valkey), in bytes."),
    gauge("replicas_repl_buffer_size", "redis_replicas_repl_buffer_size_bytes", "Stream buffered by this replica during its full synchronisation (Valkey), in bytes."),
    gauge("replicas_waiting_psync", "redis_replicas_waiting_psync", "Replicas that load a snapshot over a second connection and will ask for the rest (Valkey)."),
    gauge("repl_backlog_size", "redis_replication_backlog_bytes", "Size of the replication backlog, in bytes."),
    counter("reply_buffer_expands", "redis_reply_buffer_expands_total", "Reply buffers of clients that were enlarged."),
    counter("reply_buffer_shrinks", "redis_reply_buffer_shrinks_total", "Reply buffers of clients that were made smaller."),
    gauge("rss_overhead_bytes", "redis_rss_overhead_bytes", "Resident memory beyond that of the allocator, in bytes."),
    gauge("rss_overhead_ratio", "redis_rss_overhead_ratio", "Resident memory of the process over that of the allocator."),
    gauge("engines_count", "redis_scripting_engines_count", "Script engines that are registered (Valkey)."),
    gauge("engines_total_memory_overhead", "redis_scripting_engines_memory_overhead_bytes", "Memory that the server needs for its script engines, in bytes (Valkey)."),
    gauge("engines_total_used_memory", "redis_scripting_engines_memory_used_bytes", "Memory of all script engines, in bytes (Valkey)."),
    gauge("second_repl_offset", "redis_second_repl_offset", "Offset up to which the previous replication id is accepted; -1 when there is none."),
    gauge("sentinel_masters", "redis_sentinel_masters", "Masters that the Sentinel watches."),
    gauge("sentinel_running_scripts", "redis_sentinel_running_scripts", "Scripts that the Sentinel is running."),
    gauge("sentinel_scripts_queue_length", "redis_sentinel_scripts_queue_length", "Scripts of the Sentinel that wait to run."),
    gauge("sentinel_simulate_failure_flags", "redis_sentinel_simulate_failure_flags", "Failures that the Sentinel was told to simulate, as a bit mask."),
    gauge("sentinel_tilt", "redis_sentinel_tilt", "Whether the Sentinel is in TILT mode: it watches but does not act."),
    counter("sentinel_total_tilt", "redis_sentinel_tilts_total", "How often the Sentinel went into TILT mode."),
    gauge("server_threads", "redis_server_threads_total", "Threads that serve clients (KeyDB)."),
    gauge("slave_expires_tracked_keys", "redis_slave_expires_tracked_keys", "Keys with an expiry that a writable replica keeps track of by itself."),
    gauge("slave_priority", "redis_slave_priority", "Priority of this replica in a failover; 0 is never chosen."),
    gauge("slave_read_repl_offset", "redis_slave_read_repl_offset", "Replication offset up to which this replica has read, in bytes; it may not have applied all of it."),
    gauge("slowlog_commands_time_ms_max", "redis_slowlog_commands_duration_seconds_max", "Run time of the slowest command so far, in seconds; 0 when none was slow enough for the slow log.").per(1e3),
    counter("slowlog_commands_time_ms_sum", "redis_slowlog_commands_duration_seconds_total", "Run time of all commands that were slow enough for the slow log, in seconds.").per(1e3),
    counter("slowlog_commands_count", "redis_slowlog_commands_total", "Commands that were slow enough for the slow log."),
    counter("storage_provider_read_hits", "redis_storage_provider_read_hits", "Reads that found the key on flash (KeyDB)."),
    counter("storage_provider_read_misses", "redis_storage_provider_read_misses", "Reads that did not find the key on flash (KeyDB)."),
    gauge("total_blocking_keys", "redis_total_blocking_keys", "Keys that clients wait for in blocking commands."),
    gauge("total_blocking_keys_on_nokey", "redis_total_blocking_keys_on_nokey", "Keys whose waiting clients are also to be woken when the key is deleted."),
    counter("total_error_replies", "redis_total_error_replies", "Error replies that the server has given."),
    counter("total_reads_processed", "redis_total_reads_processed", "Reads from client connections."),
    gauge("total_system_memory", "redis_total_system_memory_bytes", "Memory of the machine that the server runs on, in bytes.").only(|config| config.system_metrics),
    gauge("total_watched_keys", "redis_total_watched_keys", "Keys that clients WATCH."),
    counter("total_writes_processed", "redis_total_writes_processed", "Writes to client connections."),
    gauge("tracking_clients", "redis_tracking_clients", "Clients with client-side caching."),
    gauge("tracking_total_items", "redis_tracking_total_items", "Pairs of key and client that client-side caching remembers."),
    gauge("tracking_total_keys", "redis_tracking_total_keys", "Keys that client-side caching remembers."),
    gauge("tracking_total_prefixes", "redis_tracking_total_prefixes", "Key prefixes that client-side caching remembers in broadcast mode."),
    counter("unexpected_error_replies", "redis_unexpected_error_replies", "Errors of commands on the replication link or in the append-only file."),
    gauge("uptime_in_seconds", "redis_uptime_in_seconds", "Time since the server started, in seconds."),
    gauge("watching_clients", "redis_watching_clients", "Clients that WATCH keys."),
];

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(FIELDS));

/// Every family of the table.
pub fn descs() -> impl Iterator<Item = &'static Desc> {
    TABLE.descs()
}

/// Records a sample for each line that has a row.
pub fn read(info: &Info<'_>, context: &Context<'_>, out: &mut Builder) {
    let mut reading = TABLE.reading();
    for line in info.lines() {
        // Many lines, none of which has a row; and what CLUSTER INFO says better.
        let listed_elsewhere = line.field.starts_with("cmdstat_")
            || line.field.starts_with("latency_percentiles_usec_")
            || line.section == "Cluster Info";
        if !listed_elsewhere && !reading.take(line.field, line.value) {
            unlisted(line.field, line.value, out);
        }
    }
    reading.write(context.config, out);
}

/// Rows with their index by field: the form of every reply that is a list of fields.
pub struct Table {
    fields: &'static [Field],
    by_key: HashMap<&'static str, usize, BuildHasherDefault<Fnv>>,
}

impl Table {
    /// Rows should stand in the order of their metric names. A field has one row.
    pub fn new(fields: &'static [Field]) -> Self {
        Self { fields, by_key: fields.iter().enumerate().map(|(i, field)| (field.key, i)).collect() }
    }

    /// Every family.
    pub fn descs(&self) -> impl Iterator<Item = &'static Desc> + use<> {
        self.fields.iter().map(|field| &field.desc)
    }

    /// Begins to read one reply.
    pub fn reading(&self) -> Reading<'_> {
        Reading { table: self, values: vec![None; self.fields.len()] }
    }
}

/// The values of one reply, until all are known and can be written in the order of the rows.
pub struct Reading<'t> {
    table: &'t Table,
    values: Vec<Option<f64>>,
}

impl Reading<'_> {
    /// Notes the value of a field; says whether it has a row. The first value of a field stays.
    pub fn take(&mut self, field: &str, value: &str) -> bool {
        let Some(row) = self.table.by_key.get(field) else { return false };
        let seen = &mut self.values[*row];
        *seen = seen.or_else(|| number(value));
        true
    }

    /// Records a sample for each value.
    pub fn write(self, config: &Collect, out: &mut Builder) {
        for (field, value) in self.table.fields.iter().zip(self.values) {
            if let Some(value) = value
                && (field.wanted)(config)
            {
                out.push(&field.desc, value / field.divisor);
            }
        }
    }
}

/// Passes on a number without a row under its own name if that starts with `cluster_` or `db`: servers
/// add such fields. Names of families with labels are not taken.
pub fn unlisted(field: &str, value: &str, out: &mut Builder) {
    if !(field.starts_with("cluster_") || field.starts_with("db")) {
        return;
    }
    let Some(value) = number(value) else { return };
    let name = format!("redis_{}", family::clean_name(field));
    if keyspace::descs().iter().all(|desc| desc.name != name) {
        let family = out.named_family(&name, Kind::Gauge, "A field that the server reports under this name.");
        out.sample(family, &[], value);
    }
}

/// FNV-1a: field names are short, and the table is ours, so nobody can make its rows collide.
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::info::testing::lines;

    fn check(info: &str, expected: &[&str]) {
        assert_eq!(lines(info, read), expected, "{info}");
    }

    #[test]
    fn values_are_numbers_or_words_that_stand_for_one() {
        check("connected_clients:7", &["redis_connected_clients 7"]);
        check("mem_fragmentation_ratio:5.32", &["redis_mem_fragmentation_ratio 5.32"]);
        check("second_repl_offset:-1", &["redis_second_repl_offset -1"]);
        check("rdb_last_bgsave_status:ok", &["redis_rdb_last_bgsave_status 1"]);
        check("aof_last_write_status:err", &["redis_aof_last_write_status 0"]);
        check("used_memory:18446744073709551615", &["redis_memory_used_bytes 18446744073709552000"]);
        check("used_memory:many\nhz:10", &["redis_hz 10"]);
        check("used_memory:\nused_memory_human:3.60M", &[]);
    }

    #[test]
    fn units_are_turned_by_division() {
        check("latest_fork_usec:682", &["redis_latest_fork_seconds 0.000682"]);
    }

    #[test]
    fn the_first_of_two_values_stays() {
        check("hz:10\nhz:11", &["redis_hz 10"]);
    }

    #[test]
    fn system_memory_needs_its_flag() {
        check("total_system_memory:5", &[]);
        let all = Collect { system_metrics: true, ..Collect::default() };
        let mut out = Builder::new();
        let mut reading = TABLE.reading();
        assert!(reading.take("total_system_memory", "5"));
        reading.write(&all, &mut out);
        assert!(out.finish().get("redis_total_system_memory_bytes").is_some());
    }

    #[test]
    fn numbers_that_start_with_cluster_or_db_pass_under_their_cleaned_name() {
        let received = "cluster_stats_messages_auth-req_received:3";
        check(received, &["redis_cluster_stats_messages_auth_req_received 3"]);
        check("dbx_size:4", &["redis_dbx_size 4"]);
        check("db0_distrib_strings_sizes:1=54,2=9", &[]);
        check("db_keys:5", &[]);
        check("lru_clock:5\ncmdstat_x:1", &[]);
        check("# Cluster Info\ncluster_size:3\n# Cluster\ncluster_enabled:1", &["redis_cluster_enabled 1"]);
    }

    #[test]
    fn keydb_tells_of_its_storage() {
        check(
            "storage_provider_read_hits:7\nstorage_provider_read_misses:2\ncached_keys:3",
            &[
                "redis_cached_keys_total 3",
                "redis_storage_provider_read_hits 7",
                "redis_storage_provider_read_misses 2",
            ],
        );
    }

    #[test]
    fn rows_stand_in_the_order_of_their_names_and_no_field_has_two() {
        assert!(FIELDS.is_sorted_by(|a, b| a.desc.name < b.desc.name));
        assert_eq!(TABLE.by_key.len(), FIELDS.len());
    }
}
