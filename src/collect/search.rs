//! `FT._LIST` and `FT.INFO`: the size and state of every search index.
//!
//! Only with its flag, and for indexes whose name matches. RediSearch (in Redis since 8.0) and valkey-search
//! have both commands. ACL: `+ft._list +ft.info`. Cost: O(fields) for each
//! index; RediSearch sums the memory of text and tag fields anew each time.
//! <https://redis.io/docs/latest/commands/ft.info/> <https://valkey.io/commands/ft.info/>
//!
//! What a newcomer would get wrong: the same field is an integer, a double or a text, depending on module,
//! version and protocol. What a module does not have counts 0.

use super::{Collector, Context, Failure, How, When, Work, Working};
use crate::connect::{Batch, Reply};
use exposition::{Builder, Desc, FamilyId};

/// See the head of this file.
pub static COLLECTOR: Collector =
    Collector { name: "search", descs, when, how: How::Work(|work, out| collect(work, out)) };

const LABELS: &[&str] = &["index_name"];
const MIB: f64 = 1_048_576.0;

/// A field of FT.INFO, its family, and the factor from the field's unit to the family's.
struct Field(&'static str, Desc, f64);

const fn gauge(key: &'static str, name: &'static str, help: &'static str) -> Field {
    Field(key, Desc::gauge(name, help).labels(LABELS), 1.0)
}

const fn counter(key: &'static str, name: &'static str, help: &'static str) -> Field {
    Field(key, Desc::counter(name, help).labels(LABELS), 1.0)
}

/// A size that the server gives in MiB.
const fn mib(key: &'static str, name: &'static str, help: &'static str) -> Field {
    Field(key, Desc::gauge(name, help).labels(LABELS), MIB)
}

#[rustfmt::skip]
static FIELDS: [Field; 24] = [
    gauge("num_docs", "redis_search_index_num_docs", "Documents in the index."),
    gauge("max_doc_id", "redis_search_index_max_doc_id", "Largest internal id of a document in the index."),
    gauge("num_terms", "redis_search_index_num_terms", "Different terms in the index."),
    gauge("num_records", "redis_search_index_num_records", "Records in the index."),
    gauge("indexing", "redis_search_index_indexing", "Whether existing keys are being indexed."),
    gauge("percent_indexed", "redis_search_index_percent_indexed", "Share of the keys that is indexed, from 0 to 1."),
    gauge("hash_indexing_failures", "redis_search_index_hash_indexing_failures", "Keys that could not be indexed."),
    gauge("cleaning", "redis_search_index_cleaning", "Whether the index is being cleaned."),
    counter("number_of_uses", "redis_search_index_number_of_uses_total", "How often the index was used."),
    gauge("total_inverted_index_blocks", "redis_search_index_total_inverted_index_blocks", "Blocks of the inverted index."),
    gauge("records_per_doc_avg", "redis_search_index_avg_per_doc_records", "Records of a document on average."),
    gauge("bytes_per_record_avg", "redis_search_index_avg_per_record_bytes", "Size of a record on average, in bytes."),
    gauge("offsets_per_term_avg", "redis_search_index_avg_per_term_offsets", "Offsets of a term on average."),
    gauge("offset_bits_per_record_avg", "redis_search_index_avg_per_record_offset_bits", "Bits for the offsets of a record on average."),
    mib("inverted_sz_mb", "redis_search_index_inverted_size_bytes", "Memory of the inverted index, in bytes."),
    mib("vector_index_sz_mb", "redis_search_index_vector_index_size_bytes", "Memory of the vector index, in bytes."),
    mib("offset_vectors_sz_mb", "redis_search_index_offset_vectors_size_bytes", "Memory of the positions of terms, in bytes."),
    mib("doc_table_size_mb", "redis_search_index_doc_table_size_bytes", "Memory of the table of documents, in bytes."),
    mib("sortable_values_size_mb", "redis_search_index_sortable_values_size_bytes", "Memory of sortable values, in bytes."),
    mib("key_table_size_mb", "redis_search_index_key_table_size_bytes", "Memory of the table of keys, in bytes."),
    mib("tag_overhead_sz_mb", "redis_search_index_tag_overhead_size_bytes", "Memory beside the data of tag fields, in bytes."),
    mib("text_overhead_sz_mb", "redis_search_index_text_overhead_size_bytes", "Memory beside the data of text fields, in bytes."),
    mib("geoshapes_sz_mb", "redis_search_index_geoshapes_size_bytes", "Memory of geometric shapes, in bytes."),
    mib("total_index_memory_sz_mb", "redis_search_index_total_index_memory_size_bytes", "Memory of the whole index, in bytes."),
];

const LIST: &str = "FT._LIST";
const INFO: &str = "FT.INFO";

/// Indexes that are asked together.
const AT_ONCE: usize = 100;
/// Longer names of indexes are left out, in bytes.
const LONGEST_NAME: usize = 4096;
/// More indexes than that are left out, lest a server makes us write without end.
const MOST_INDEXES: usize = 10_000;

fn descs() -> Vec<&'static Desc> {
    FIELDS.iter().map(|field| &field.1).collect()
}

fn when(context: &Context<'_>) -> When {
    match (&context.config.search_indexes, context.server) {
        (None, _) => When::Never,
        (Some(_), None) => When::AfterInfo,
        (Some(_), Some(_)) if context.is_sentinel() => When::Never,
        (Some(_), Some(_)) => When::Now,
    }
}

fn collect<'a>(work: &'a mut Work<'_>, out: &'a mut Builder) -> Working<'a> {
    Box::pin(async move {
        let indexes = list(work).await?;
        let families = FIELDS.each_ref().map(|field| out.family(&field.1));
        let mut batch = Batch::default();
        for some in indexes.chunks(AT_ONCE) {
            may_ask(work, INFO)?;
            batch.clear();
            some.iter().for_each(|index| batch.push(&[INFO, index]));
            work.server.ask(&batch, work.replies, work.deadline).await?;
            for (index, reply) in some.iter().zip(work.replies.iter()) {
                read(index, reply, &families, out)?;
            }
        }
        Ok(())
    })
}

/// The names of the indexes that are wanted.
async fn list(work: &mut Work<'_>) -> Result<Vec<String>, Failure> {
    may_ask(work, LIST)?;
    let mut batch = Batch::default();
    batch.push(&[LIST]);
    work.server.ask(&batch, work.replies, work.deadline).await?;
    let reply = work.replies.get(0).ok_or(Failure::shape(LIST))?;
    if let Some(refusal) = reply.error() {
        return Err(Failure::Refused { what: LIST, kind: refusal.kind(), reply: refusal.text() });
    }
    let wanted = work.context.config.search_indexes.as_ref();
    let names = reply.items().ok_or(Failure::shape(LIST))?.filter_map(Reply::text);
    let names = names.filter(|name| wanted.is_some_and(|wanted| wanted.is_match(name)));
    let names = names.filter(|name| name.len() <= LONGEST_NAME);
    Ok(names.take(MOST_INDEXES).map(str::to_owned).collect())
}

/// Whether the server did not refuse the command before.
fn may_ask(work: &Work<'_>, what: &'static str) -> Result<(), Failure> {
    match work.context.memory.refused.get(what) {
        Some(kind) => Err(Failure::Remembered { what, kind: *kind }),
        None => Ok(()),
    }
}

fn read(index: &str, reply: Reply<'_>, families: &[FamilyId], out: &mut Builder) -> Result<(), Failure> {
    if let Some(refusal) = reply.error() {
        // An index that was dropped meanwhile, or whose keys the user may not read, costs itself alone.
        let failure = Failure::refused(INFO, refusal);
        return if failure.kind().is_lasting() { Err(failure) } else { Ok(()) };
    }
    let mut values = [0.0; FIELDS.len()];
    for (key, value) in reply.pairs().ok_or(Failure::shape(INFO))? {
        let at = FIELDS.iter().position(|field| key.bytes() == Some(field.0.as_bytes()));
        if let (Some(at), Some(value)) = (at, value.number()) {
            values[at] = value * FIELDS[at].2;
        }
    }
    for (family, value) in families.iter().zip(values) {
        out.sample(*family, &[index], value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{Recorded, array};
    use super::*;
    use crate::connect::Kind;

    fn server(info: &str, pattern: &str) -> Recorded {
        let pattern = regex::Regex::new(pattern).unwrap();
        Recorded::new(info).with(|c| c.search_indexes = Some(pattern.into()))
    }

    fn redis(pattern: &str) -> Recorded {
        server("redis_version:8.2.3\r\nredis_mode:standalone\r\n", pattern)
    }

    fn check(mut server: Recorded, expected: &[&str]) {
        let lines = server.collect(&COLLECTOR).unwrap();
        let found: Vec<_> = lines.iter().map(|line| line.trim_start_matches("redis_search_index_")).collect();
        let zero = |line: &&&str| line.ends_with("} 0");
        let numbers: Vec<_> = found.iter().copied().filter(|line| !zero(&line)).collect();
        assert_eq!(numbers, expected);
        assert_eq!(found.len() % FIELDS.len(), 0, "all 24 families for each index");
    }

    /// After the reply that the manual of FT.INFO shows: RESP2, every number a text.
    fn as_the_manual_of_redisearch_shows_it_in_resp2() -> Vec<u8> {
        let pairs = [
            ("index_name", "idx:docs"),
            ("num_docs", "187"),
            ("max_doc_id", "190"),
            ("num_terms", "340"),
            ("num_records", "1000"),
            ("inverted_sz_mb", "0.5"),
            ("vector_index_sz_mb", "2"),
            ("total_inverted_index_blocks", "378"),
            ("offset_vectors_sz_mb", "0.25"),
            ("doc_table_size_mb", "0.125"),
            ("sortable_values_size_mb", "1"),
            ("key_table_size_mb", "3"),
            ("tag_overhead_sz_mb", "4"),
            ("text_overhead_sz_mb", "5"),
            ("geoshapes_sz_mb", "6"),
            ("total_index_memory_sz_mb", "7"),
            ("records_per_doc_avg", "2.5"),
            ("bytes_per_record_avg", "8.5"),
            ("offsets_per_term_avg", "1.5"),
            ("offset_bits_per_record_avg", "9.5"),
            ("hash_indexing_failures", "11"),
            ("total_indexing_time", "10.5"),
            ("indexing", "1"),
            ("percent_indexed", "0.75"),
            ("number_of_uses", "12"),
            ("cleaning", "1"),
        ];
        let nested = "$8\r\ngc_stats\r\n*2\r\n$15\r\nbytes_collected\r\n$1\r\n0\r\n";
        let flat: Vec<_> = pairs.iter().flat_map(|(key, value)| [*key, *value]).collect();
        let flat = array(&flat);
        let body = &flat[flat.iter().position(|b| *b == b'\n').unwrap() + 1..];
        [format!("*{}\r\n{nested}", pairs.len() * 2 + 2).as_bytes(), body].concat()
    }

    const ALL: [&str; 24] = [
        "avg_per_doc_records{index_name=idx:docs} 2.5",
        "avg_per_record_bytes{index_name=idx:docs} 8.5",
        "avg_per_record_offset_bits{index_name=idx:docs} 9.5",
        "avg_per_term_offsets{index_name=idx:docs} 1.5",
        "cleaning{index_name=idx:docs} 1",
        "doc_table_size_bytes{index_name=idx:docs} 131072",
        "geoshapes_size_bytes{index_name=idx:docs} 6291456",
        "hash_indexing_failures{index_name=idx:docs} 11",
        "indexing{index_name=idx:docs} 1",
        "inverted_size_bytes{index_name=idx:docs} 524288",
        "key_table_size_bytes{index_name=idx:docs} 3145728",
        "max_doc_id{index_name=idx:docs} 190",
        "num_docs{index_name=idx:docs} 187",
        "num_records{index_name=idx:docs} 1000",
        "num_terms{index_name=idx:docs} 340",
        "number_of_uses_total{index_name=idx:docs} 12",
        "offset_vectors_size_bytes{index_name=idx:docs} 262144",
        "percent_indexed{index_name=idx:docs} 0.75",
        "sortable_values_size_bytes{index_name=idx:docs} 1048576",
        "tag_overhead_size_bytes{index_name=idx:docs} 4194304",
        "text_overhead_size_bytes{index_name=idx:docs} 5242880",
        "total_index_memory_size_bytes{index_name=idx:docs} 7340032",
        "total_inverted_index_blocks{index_name=idx:docs} 378",
        "vector_index_size_bytes{index_name=idx:docs} 2097152",
    ];

    #[test]
    fn an_index_has_24_families() {
        let info = as_the_manual_of_redisearch_shows_it_in_resp2();
        let server = redis("^idx:").reply("FT._LIST", array(&["idx:docs", "other"]));
        check(server.reply("FT.INFO idx:docs", info), &ALL);
    }

    #[test]
    fn doubles_and_maps_of_resp3_are_read_too() {
        let info = "%4\r\n+num_docs\r\n:3\r\n+inverted_sz_mb\r\n,0.5\r\n+attributes\r\n*1\r\n%1\r\n+num_docs\r\n:9\r\n\
                    +index_definition\r\n%0\r\n";
        let server = redis("").reply("FT._LIST", "~1\r\n+i\r\n").reply("FT.INFO i", info);
        check(server, &["inverted_size_bytes{index_name=i} 524288", "num_docs{index_name=i} 3"]);
    }

    #[test]
    fn what_valkey_search_does_not_have_is_0() {
        // As the manual of valkey-search lists the fields.
        let info = "*10\r\n+index_name\r\n+i\r\n+num_docs\r\n:5\r\n+num_records\r\n:6\r\n\
                    +hash_indexing_failures\r\n:0\r\n+state\r\n+ready\r\n";
        let valkey =
            server("redis_version:7.2.4\r\nvalkey_version:8.1.1\r\nserver_mode:standalone\r\n", ".*");
        let valkey = valkey.reply("FT._LIST", array(&["i"])).reply("FT.INFO i", info);
        check(valkey, &["num_docs{index_name=i} 5", "num_records{index_name=i} 6"]);
    }

    #[test]
    fn many_indexes_are_asked_a_hundred_at_once() {
        let names: Vec<_> = (0..250).map(|i| format!("i{i:03}")).collect();
        let mut server = redis("").reply("FT._LIST", array(&names));
        for name in &names {
            server = server.reply(&format!("FT.INFO {name}"), "*2\r\n+num_docs\r\n:0\r\n");
        }
        assert_eq!(server.collect(&COLLECTOR).unwrap().len(), 24 * 250);
        assert_eq!(server.asked().iter().map(Vec::len).collect::<Vec<_>>(), [1, 100, 100, 50]);
    }

    #[test]
    fn an_index_that_was_dropped_meanwhile_costs_itself_alone() {
        let server = redis("").reply("FT._LIST", array(&["a", "b"]));
        let server = server
            .reply("FT.INFO a", "-a: no such index\r\n")
            .reply("FT.INFO b", "*2\r\n+num_docs\r\n:1\r\n");
        check(server, &["num_docs{index_name=b} 1"]);
    }

    #[test]
    fn a_server_without_the_module_is_asked_once() {
        let found = redis("").collect(&COLLECTOR);
        assert!(matches!(found, Err(Failure::Refused { what: LIST, kind: Kind::Unsupported, .. })));
        let mut server = redis("").refused_before(LIST, Kind::Unsupported);
        assert!(matches!(server.collect(&COLLECTOR), Err(Failure::Remembered { what: LIST, .. })));
        assert!(server.asked().is_empty());
    }

    #[test]
    fn it_is_off_without_its_flag_and_on_a_sentinel() {
        assert_eq!(Recorded::new("redis_version:8.2.3\r\n").when(&COLLECTOR), [When::Never; 2]);
        assert_eq!(server("redis_mode:sentinel\r\n", "").when(&COLLECTOR), [When::AfterInfo, When::Never]);
    }

    #[test]
    fn replies_of_another_form_fail() {
        let found = redis("").reply("FT._LIST", "+OK\r\n").collect(&COLLECTOR);
        assert!(matches!(found, Err(Failure::Shape { what: LIST })));
        let found =
            redis("").reply("FT._LIST", array(&["i"])).reply("FT.INFO i", "+OK\r\n").collect(&COLLECTOR);
        assert!(matches!(found, Err(Failure::Shape { what: INFO })));
    }

    #[test]
    fn an_index_that_the_user_may_not_see_costs_itself_alone() {
        let server = redis("").reply("FT._LIST", array(&["a", "b"]));
        let server = server
            .reply("FT.INFO a", "-NOPERM User does not have the required permissions to query the index\r\n")
            .reply("FT.INFO b", "*2\r\n+num_docs\r\n:1\r\n");
        check(server, &["num_docs{index_name=b} 1"]);
    }
}
