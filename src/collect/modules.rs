//! `INFO MODULES`: which modules are loaded and what they say of themselves.
//!
//! Asked with `--include-modules-metrics`; servers before 6.0 have no such section. ACL: `+info`. Cost: that
//! of the modules.
//!
//! The fields are those of RediSearch (Redis 8 and Redis Stack), valkey-search, valkey-bloom and
//! valkey-json. Some names say `_total` or `_count` against the custom: they are those of redis_exporter.

use super::info::fields::{Field, Table, counter, gauge};
use super::{Answers, Asks, Collector, Context, Failure, How, Info, When};
use exposition::{Builder, Desc};
use std::sync::LazyLock;

/// See the head of this file.
pub static COLLECTOR: Collector = Collector { name: "modules", descs, when, how: How::Read { ask, read } };

static MODULE: Desc = Desc::gauge("redis_module_info", "Modules that are loaded; always 1.")
    .labels(&["name", "ver", "api", "filters", "usedby", "using"]);

/// In the order of the metric names.
#[rustfmt::skip]
static FIELDS: &[Field] = &[
    gauge("bf_bloom_capacity_across_objects", "redis_bf_bloom_capacity_across_objects", "Items that all Bloom filters are made for."),
    counter("bf_bloom_defrag_hits", "redis_bf_bloom_defrag_hits_total", "Bloom filter allocations that active defragmentation has moved."),
    counter("bf_bloom_defrag_misses", "redis_bf_bloom_defrag_misses_total", "Bloom filter allocations that active defragmentation left alone."),
    gauge("bf_bloom_num_filters_across_objects", "redis_bf_bloom_num_filters_across_objects", "Filters in all Bloom objects."),
    gauge("bf_bloom_num_items_across_objects", "redis_bf_bloom_num_items_across_objects", "Items added to all Bloom objects."),
    gauge("bf_bloom_num_objects", "redis_bf_bloom_num_objects", "Bloom objects."),
    gauge("bf_bloom_total_memory_bytes", "redis_bf_bloom_total_memory_bytes", "Memory of all Bloom objects, in bytes."),
    gauge("json_num_documents", "redis_json_num_documents", "JSON documents."),
    gauge("json_total_memory_bytes", "redis_json_total_memory_bytes", "Memory of all JSON documents, in bytes."),
    counter("search_total_active_queries", "redis_search_active_queries_total", "Search queries that are running, as the module counts them."),
    gauge("search_bytes_collected", "redis_search_collected_bytes", "Memory that the garbage collection of search indexes freed, in bytes (Redis Stack 7.4)."),
    counter("search_total_cycles", "redis_search_cycles_total", "Rounds of the garbage collection of search indexes (Redis Stack 7.4)."),
    gauge("search_dialect_1", "redis_search_dialect_1", "Whether search dialect 1 has been used."),
    gauge("search_dialect_2", "redis_search_dialect_2", "Whether search dialect 2 has been used."),
    gauge("search_dialect_3", "redis_search_dialect_3", "Whether search dialect 3 has been used."),
    gauge("search_dialect_4", "redis_search_dialect_4", "Whether search dialect 4 has been used."),
    gauge("search_errors_indexing_failures", "redis_search_errors_indexing_failures", "Documents that could not be indexed."),
    counter("search_failure_requests_count", "redis_search_failure_requests_count", "Search requests that failed."),
    gauge("search_gc_bytes_collected", "redis_search_gc_collected_bytes", "Memory that the garbage collection of search indexes freed, in bytes."),
    counter("search_gc_total_cycles", "redis_search_gc_cycles_total", "Rounds of the garbage collection of search indexes."),
    gauge("search_gc_marked_deleted_vectors", "redis_search_gc_marked_deleted_vectors", "Vectors marked as deleted that are still in their index."),
    counter("search_gc_total_ms_run", "redis_search_gc_run_ms_total", "Time spent in the garbage collection of search indexes, in milliseconds."),
    gauge("search_gc_total_docs_not_collected", "redis_search_gc_total_docs_not_collected", "Deleted documents that the garbage collection has not yet removed from search indexes."),
    gauge("search_global_idle", "redis_search_global_idle", "Idle search cursors (Redis Stack 7.4)."),
    gauge("search_global_idle_internal", "redis_search_global_idle_internal", "Idle search cursors between shards."),
    gauge("search_global_idle_user", "redis_search_global_idle_user", "Idle search cursors of users."),
    gauge("search_global_total", "redis_search_global_total", "Search cursors (Redis Stack 7.4)."),
    gauge("search_global_total_internal", "redis_search_global_total_internal", "Search cursors between shards."),
    gauge("search_global_total_user", "redis_search_global_total_user", "Search cursors of users."),
    counter("search_hnsw_add_exceptions_count", "redis_search_hnsw_add_exceptions_count", "Failures to add a vector to an HNSW index."),
    counter("search_hnsw_create_exceptions_count", "redis_search_hnsw_create_exceptions_count", "Failures to create an HNSW index."),
    counter("search_hnsw_modify_exceptions_count", "redis_search_hnsw_modify_exceptions_count", "Failures to change a vector in an HNSW index."),
    counter("search_hnsw_remove_exceptions_count", "redis_search_hnsw_remove_exceptions_count", "Failures to remove a vector from an HNSW index."),
    counter("search_hnsw_search_exceptions_count", "redis_search_hnsw_search_exceptions_count", "Failures to search an HNSW index."),
    counter("search_hybrid_requests_count", "redis_search_hybrid_requests_count", "Search requests that combine vectors with a filter."),
    counter("search_total_indexing_time", "redis_search_indexing_time_ms_total", "Time spent indexing documents, in milliseconds."),
    counter("search_inline_filtering_requests_count", "redis_search_inline_filtering_requests_count", "Vector searches that filtered while they went through the index."),
    gauge("search_largest_memory_index", "redis_search_largest_memory_index_bytes", "Memory of the largest search index, in bytes."),
    gauge("search_number_of_active_indexes", "redis_search_number_of_active_indexes", "Search indexes with work under way."),
    gauge("search_number_of_active_indexes_indexing", "redis_search_number_of_active_indexes_indexing", "Search indexes that are indexing documents."),
    gauge("search_number_of_active_indexes_running_queries", "redis_search_number_of_active_indexes_running_queries", "Search indexes that are answering queries."),
    gauge("search_number_of_attributes", "redis_search_number_of_attributes", "Attributes in all search indexes."),
    gauge("search_number_of_indexes", "redis_search_number_of_indexes", "Search indexes."),
    counter("search_total_queries_processed", "redis_search_queries_processed_total", "Search queries that have succeeded."),
    counter("search_total_query_commands", "redis_search_query_commands_total", "Search commands that have succeeded."),
    counter("search_total_query_execution_time_ms", "redis_search_query_execution_time_ms_total", "Time spent in search queries, in milliseconds."),
    gauge("search_query_queue_size", "redis_search_query_queue_size", "Search queries that wait for a thread."),
    counter("search_rdb_load_failure_cnt", "redis_search_rdb_load_failure_count", "Search indexes that could not be loaded from a snapshot."),
    counter("search_rdb_load_success_cnt", "redis_search_rdb_load_success_count", "Search indexes loaded from a snapshot."),
    counter("search_rdb_save_failure_cnt", "redis_search_rdb_save_failure_count", "Search indexes that could not be saved to a snapshot."),
    counter("search_rdb_save_success_cnt", "redis_search_rdb_save_success_count", "Search indexes saved to a snapshot."),
    counter("search_reader_resumed_cnt", "redis_search_reader_resumed_count", "How often searching went on after a pause."),
    counter("search_total_ms_run", "redis_search_run_ms_total", "Time spent in the garbage collection of search indexes, in milliseconds (Redis Stack 7.4)."),
    gauge("search_smallest_memory_index", "redis_search_smallest_memory_index_bytes", "Memory of the smallest search index, in bytes."),
    gauge("search_string_interning_store_size", "redis_search_string_interning_store_size", "Strings that search indexes share."),
    counter("search_successful_requests_count", "redis_search_successful_requests_count", "Search requests that succeeded."),
    gauge("search_total_active_write_threads", "redis_search_total_active_write_threads", "Threads that write to search indexes."),
    gauge("search_total_indexed_documents", "redis_search_total_indexed_documents", "Documents in all search indexes."),
    gauge("search_total_num_docs_in_indexes", "redis_search_total_num_docs_in_indexes", "Documents in all search indexes."),
    gauge("search_used_memory_bytes", "redis_search_used_memory_bytes", "Memory of the search module, in bytes."),
    gauge("search_used_memory_indexes", "redis_search_used_memory_indexes_bytes", "Memory of all search indexes, in bytes."),
    gauge("search_used_memory_vector_index", "redis_search_used_memory_vector_index_bytes", "Memory of all vector indexes, in bytes."),
    counter("search_vector_externing_deferred_entry_cnt", "redis_search_vector_externing_deferred_entry_count", "Vectors whose hand-over to the search module was put off."),
    counter("search_vector_externing_entry_count", "redis_search_vector_externing_entry_count", "Vectors that the search module shares with the data set."),
    counter("search_vector_externing_generated_value_cnt", "redis_search_vector_externing_generated_value_count", "Shared vectors that were written out again as a string."),
    gauge("search_vector_externing_hash_extern_errors", "redis_search_vector_externing_hash_extern_errors", "Hash fields that could not be shared with the search module."),
    counter("search_vector_externing_lru_promote_cnt", "redis_search_vector_externing_lru_promote_count", "Shared vectors that moved up in the cache."),
    gauge("search_vector_externing_num_lru_entries", "redis_search_vector_externing_num_lru_entries", "Shared vectors in the cache."),
    counter("search_worker_pool_suspend_cnt", "redis_search_worker_pool_suspend_count", "How often the search threads were paused."),
    gauge("search_writer_queue_size", "redis_search_writer_queue_size", "Changes that wait to be indexed."),
    counter("search_writer_resumed_cnt", "redis_search_writer_resumed_count", "How often indexing went on after a pause."),
    counter("search_writer_suspension_expired_cnt", "redis_search_writer_suspension_expired_count", "Pauses of indexing that ended because their time was over."),
];

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(FIELDS));

fn descs() -> Vec<&'static Desc> {
    TABLE.descs().chain([&MODULE]).collect()
}

fn when(context: &Context<'_>) -> When {
    match context.server {
        _ if !context.config.modules => When::Never,
        None => When::AfterInfo,
        Some(_) if context.is_sentinel() => When::Never,
        Some(_) => When::Now,
    }
}

fn ask(_: &Context<'_>, asks: &mut Asks<'_>) {
    asks.push("INFO MODULES", &["INFO", "MODULES"]);
}

fn read(context: &Context<'_>, answers: &Answers<'_>, out: &mut Builder) -> Result<(), Failure> {
    let text = answers.get(0)?.text().ok_or(Failure::shape("INFO MODULES"))?;
    write(text, context, out);
    Ok(())
}

fn write(text: &str, context: &Context<'_>, out: &mut Builder) {
    let mut reading = TABLE.reading();
    for line in Info::parse(text).lines() {
        if line.field == "module" {
            module(line.value, out);
        } else {
            reading.take(line.field, line.value);
        }
    }
    reading.write(context.config, out);
}

/// `name=search,ver=80205,api=1,filters=0,usedby=[],using=[ReJSON],options=[handle-io-errors]`
fn module(value: &str, out: &mut Builder) {
    let fields = outside_brackets(value);
    let of = |name: &str| {
        let field = fields.iter().filter_map(|field| field.split_once('=')).find(|(n, _)| *n == name);
        field.map(|(_, value)| value)
    };
    if of("name").is_some() {
        let labels: Vec<_> = MODULE.labels.iter().map(|name| of(name).unwrap_or_default()).collect();
        let family = out.family(&MODULE);
        out.sample(family, &labels, 1.0);
    }
}

/// The parts between commas, but for commas inside of brackets.
fn outside_brackets(value: &str) -> Vec<&str> {
    let mut depth = 0;
    let separates = |c: char| {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        c == ',' && depth <= 0
    };
    value.split(separates).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::info::testing::lines;

    fn check(reply: &str, expected: &[&str]) {
        assert_eq!(lines("", |_, context, out| write(reply, context, out)), expected, "{reply}");
    }

    #[test]
    fn each_module_has_its_properties_as_labels() {
        check(
            "module:name=graph,ver=41603,api=1,filters=0,usedby=[],using=[],options=[]",
            &["redis_module_info{api=1,filters=0,name=graph,usedby=[],using=[],ver=41603} 1"],
        );
    }

    #[test]
    fn lists_may_hold_commas_and_colons() {
        check(
            "module:name=search,ver=1,api=1,filters=0,usedby=[a,b],using=[c:d],options=[x|y]",
            &["redis_module_info{api=1,filters=0,name=search,usedby=[a,b],using=[c:d],ver=1} 1"],
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_costs_itself() {
        check("module:\nmodule:ver=1\nmodule:]]],name\nsearch_number_of_indexes:x", &[]);
    }

    #[test]
    fn fields_of_modules_are_gauges_and_counters() {
        check(
            "# search_gc\r\nsearch_gc_total_ms_run:3\r\n# x\r\nbf_bloom_num_objects:2\r\nunheard_of:1",
            &["redis_bf_bloom_num_objects 2", "redis_search_gc_run_ms_total 3"],
        );
    }

    #[test]
    fn rows_stand_in_the_order_of_their_names() {
        assert!(TABLE.descs().is_sorted_by(|a, b| a.name < b.name));
    }
}
