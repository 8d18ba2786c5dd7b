//! `db0:keys=259,expires=51,avg_ttl=345332,subexpiry=1`: the keys of each database.
//!
//! Values are taken by their names: what stands fourth differs from fork to fork. Only databases with keys
//! are listed; [`empty_databases`] adds the others.

use super::super::Context;
use super::number::number;
use super::{Info, parts};
use crate::connect::Kind;
use exposition::{Builder, Desc};

static AVG_TTL: Desc = Desc::gauge(
    "redis_db_avg_ttl_seconds",
    "Mean time until keys with an expiry expire, estimated, in seconds.",
)
.labels(&["db"]);
static KEYS: Desc = Desc::gauge("redis_db_keys", "Keys in the database.").labels(&["db"]);
static CACHED: Desc =
    Desc::gauge("redis_db_keys_cached", "Keys of the database that are in memory (KeyDB).").labels(&["db"]);
static EXPIRING: Desc = Desc::gauge("redis_db_keys_expiring", "Keys with an expiry.").labels(&["db"]);
static WITH_EXPIRING_ITEMS: Desc =
    Desc::gauge("redis_db_keys_with_expiring_items", "Hashes of which some field has an expiry.")
        .labels(&["db"]);

/// The number of databases where CONFIG does not tell it: the server's own default.
pub const DATABASES: u32 = 16;

/// More empty databases than that are not listed, whatever CONFIG says.
pub const MOST_DATABASES: u32 = 16_384;

/// Every family of this file.
pub fn descs() -> [&'static Desc; 5] {
    [&AVG_TTL, &KEYS, &CACHED, &EXPIRING, &WITH_EXPIRING_ITEMS]
}

/// Records the databases that INFO lists. The empty ones are added by the collector that asks CONFIG for
/// their number; where CONFIG is not asked or was refused, they are added here.
pub fn read(info: &Info<'_>, context: &Context<'_>, out: &mut Builder) {
    let databases = databases(info);
    let [avg_ttl, keys, cached, expiring, items] = descs().map(|desc| out.family(desc));
    for (name, database) in &databases {
        out.sample(keys, &[name], database.keys);
        out.sample(expiring, &[name], database.expires);
        let others = [
            (avg_ttl, database.avg_ttl.map(|ms| ms / 1e3)),
            (cached, database.cached),
            (items, database.items),
        ];
        for (family, value) in others {
            if let Some(value) = value {
                out.sample(family, &[name], value);
            }
        }
    }
    if context.config.empty_databases && is_untold(context) {
        empty_databases(info, DATABASES, out);
    }
}

/// Whether nobody will learn how many databases there are.
fn is_untold(context: &Context<'_>) -> bool {
    // Before 7.0 several parameters at once are `Unsupported`, and are then asked one by one.
    let for_good = |(what, kind): (&&str, &Kind)| {
        *what == "CONFIG GET" || (what.starts_with("CONFIG GET") && *kind != Kind::Unsupported)
    };
    let no_command = context.config.config_command.is_none();
    context.is_sentinel() || no_command || context.memory.refused.iter().any(for_good)
}

/// Records 0 keys for each of `databases` databases that INFO does not list. A cluster node has one.
pub fn empty_databases(info: &Info<'_>, databases: u32, out: &mut Builder) {
    let count = if info.get("cluster_enabled") == Some("1") { 1 } else { databases.min(MOST_DATABASES) };
    let mut listed: Vec<_> = self::databases(info).into_iter().map(|(name, _)| name).collect();
    listed.sort_unstable();
    let (keys, expiring) = (out.family(&KEYS), out.family(&EXPIRING));
    let mut name = String::from("db");
    for number in 0..count {
        name.truncate(2);
        name.push_str(itoa::Buffer::new().format(number));
        if listed.binary_search(&name.as_str()).is_err() {
            out.sample(keys, &[&name], 0.0);
            out.sample(expiring, &[&name], 0.0);
        }
    }
}

#[derive(Default)]
struct Database {
    keys: f64,
    expires: f64,
    avg_ttl: Option<f64>,
    cached: Option<f64>,
    items: Option<f64>,
}

/// Every database that INFO lists, by its name.
fn databases<'a>(info: &Info<'a>) -> Vec<(&'a str, Database)> {
    let is_database = |name: &str| name.strip_prefix("db").is_some_and(super::is_digits);
    let lines = info.lines().iter().filter(|line| is_database(line.field));
    lines.filter_map(|line| Some((line.field, database(line.value)?))).collect()
}

fn database(value: &str) -> Option<Database> {
    let (mut keys, mut expires, mut database) = (None, None, Database::default());
    for part in parts(value) {
        let (name, value) = part?;
        match name {
            "keys" => keys = Some(number(value)?),
            "expires" => expires = Some(number(value)?),
            "avg_ttl" => database.avg_ttl = Some(number(value)?),
            "cached_keys" => database.cached = Some(number(value)?),
            // Redis and Valkey.
            "subexpiry" | "keys_with_volatile_items" => database.items = Some(number(value)?),
            _ => {}
        }
    }
    Some(Database { keys: keys?, expires: expires?, ..database })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Memory;
    use crate::collect::info::testing::lines;
    use crate::config::collect::{Collect, Keys};

    fn check(info: &str, expected: &[&str]) {
        assert_eq!(lines(info, read), expected, "{info}");
    }

    #[test]
    fn three_values_are_keys_expiries_and_time_to_live() {
        check(
            "db0:keys=1,expires=0,avg_ttl=0",
            &[
                "redis_db_avg_ttl_seconds{db=db0} 0",
                "redis_db_keys{db=db0} 1",
                "redis_db_keys_expiring{db=db0} 0",
            ],
        );
        check("db3:keys=213,expires=2", &["redis_db_keys{db=db3} 213", "redis_db_keys_expiring{db=db3} 2"]);
    }

    #[test]
    fn other_values_are_taken_by_their_names() {
        let common = |fourth: &str| {
            lines(&format!("db0:keys=25714011,expires=25091314,avg_ttl=685620459,{fourth}"), read)
        };
        assert_eq!(common("subexpiry=7")[0], "redis_db_avg_ttl_seconds{db=db0} 685620.459");
        let last = |fourth| common(fourth).last().cloned().unwrap_or_default();
        assert_eq!(last("subexpiry=7"), "redis_db_keys_with_expiring_items{db=db0} 7");
        assert_eq!(last("keys_with_volatile_items=3"), "redis_db_keys_with_expiring_items{db=db0} 3");
        assert_eq!(last("unheard_of=3"), "redis_db_keys_expiring{db=db0} 25091314");
        assert!(common("cached_keys=9,x=1").contains(&"redis_db_keys_cached{db=db0} 9".to_owned()));
    }

    #[test]
    fn a_line_that_cannot_be_read_costs_itself() {
        check("xdb0:keys=1,expires=0,avg_ttl=0", &[]);
        check("db:keys=1,expires=0,avg_ttl=0", &[]);
        check("db0x:keys=1,expires=0,avg_ttl=0", &[]);
        check("db0:keys=a,expires=0,avg_ttl=0", &[]);
        check("db0:keys=1,expires=b,avg_ttl=0", &[]);
        check("db0:keys=1,expires=0,avg_ttl=c", &[]);
        check("db0:keys=1,expires=0,avg_ttl=0,cached_keys=x", &[]);
        check("db0:keys=1=2,expires=0,avg_ttl=0", &[]);
        check("db0:keys=1", &[]);
        check("db0:", &[]);
        check("db0_distrib_lists_items:64=1", &[]);
    }

    fn empty(info: &str, databases: u32, expected: &[&str]) {
        let keys = |line: &String| line.starts_with("redis_db_keys{");
        let mut lines = lines(info, |info, _, out| empty_databases(info, databases, out));
        lines.retain(keys);
        assert_eq!(lines, expected, "{info}");
    }

    #[test]
    fn databases_that_are_not_listed_have_no_keys() {
        empty(
            "db1:keys=1,expires=0\ndb2:keys=x",
            4,
            &["redis_db_keys{db=db0} 0", "redis_db_keys{db=db2} 0", "redis_db_keys{db=db3} 0"],
        );
        empty("cluster_enabled:1", 16, &["redis_db_keys{db=db0} 0"]);
        empty("cluster_enabled:1\ndb0:keys=1,expires=0", 16, &[]);
    }

    #[test]
    fn a_sentinel_has_sixteen_empty_databases() {
        assert_eq!(lines("redis_mode:sentinel", read).len(), 32);
    }

    #[test]
    fn where_config_says_nothing_there_are_sixteen_databases_too() {
        let untold = |what: Option<(&'static str, Kind)>, command: Option<String>| {
            let config = Collect { config_command: command, ..Collect::default() };
            let memory = Memory { refused: what.into_iter().collect(), ..Memory::default() };
            let keys = Keys::default();
            let context =
                Context { config: &config, keys: &keys, server: None, info: None, memory: &memory, now: 0.0 };
            is_untold(&context)
        };
        let config = || Some("CONFIG".to_owned());
        assert!(!untold(None, config()));
        assert!(untold(None, None));
        assert!(untold(Some(("CONFIG GET", Kind::Unsupported)), config()));
        assert!(untold(Some(("CONFIG GET (several)", Kind::NoPerm)), config()));
        assert!(!untold(Some(("CONFIG GET (several)", Kind::Unsupported)), config()));
        assert!(!untold(Some(("SLOWLOG GET", Kind::NoPerm)), config()));
    }
}
