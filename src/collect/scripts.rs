//! The operator's own Lua: `--script`.
//!
//! A script gets no keys and one argument, `0`, runs in the database of the address, and gives a flat list of
//! key, value, key, value. ACL: `+eval` (or `+eval_ro`, from 7.0 on, with `--lua-script-read-only`) and
//! whatever the script does. Cost: the script's own. One round trip for all of them.
//! <https://redis.io/docs/latest/commands/eval/>
//!
//! What a newcomer would get wrong: values before the first bad one stay, and a script that fails says
//! nothing of the server, so it does not touch `redis_up`.

use super::refusals::Refusals;
use super::{Collector, Failure, How, When, Work, Working, float};
use crate::connect::{Batch, Reply};
use exposition::{Builder, Desc, FamilyId};

/// See the head of this file.
pub static COLLECTOR: Collector = Collector {
    name: "scripts",
    descs: || vec![&RESULT, &VALUES],
    when: |context| if context.config.scripts.is_empty() { When::Never } else { When::Now },
    how: How::Work(run),
};

static RESULT: Desc = Desc::gauge(
    "redis_script_result",
    "How a Lua script went: 1 as it should, 2 without any value, 0 not as it should.",
)
.labels(&["filename"]);
static VALUES: Desc =
    Desc::gauge("redis_script_values", "A value that a Lua script gave.").labels(&["key", "filename"]);

fn run<'a>(work: &'a mut Work<'_>, out: &'a mut Builder) -> Working<'a> {
    Box::pin(run_all(work, out))
}

async fn run_all(work: &mut Work<'_>, out: &mut Builder) -> Result<(), Failure> {
    let config = work.context.config;
    let eval = if config.scripts_read_only { "EVAL_RO" } else { "EVAL" };
    let mut refusals = Refusals::new(&mut work.refused);
    let (result, values) = (out.family(&RESULT), out.family(&VALUES));
    let allowed = refusals.allow(eval);
    if allowed {
        let mut batch = Batch::default();
        config.scripts.iter().for_each(|script| batch.push(&[eval, &script.source, "0", "0"]));
        work.server.ask(&batch, work.replies, work.deadline).await?;
    }
    for (i, script) in config.scripts.iter().enumerate() {
        let path = script.path.to_string_lossy();
        let reply = work.replies.get(i).filter(|_| allowed);
        let reply = reply.and_then(|reply| refusals.accept(eval, reply));
        let outcome = reply.map_or(FAILED, |reply| {
            read(reply, &path, values, out).unwrap_or_else(|why| {
                refusals.note(Failure::Own(format!("script {path}: {why}")));
                FAILED
            })
        });
        out.sample(result, &[&path], outcome);
    }
    refusals.outcome()
}

const FAILED: f64 = 0.0;
const GOOD: f64 = 1.0;
const EMPTY: f64 = 2.0;

/// Records the values of one script and says how it went.
fn read(reply: Reply<'_>, path: &str, values: FamilyId, out: &mut Builder) -> Result<f64, String> {
    let items = reply.items().ok_or("the result is no list")?;
    match items.len() {
        0 => return Ok(EMPTY),
        len if len % 2 == 1 => return Err("the list ends with a key that has no value".into()),
        _ => {}
    }
    for (key, value) in reply.pairs().into_iter().flatten() {
        let key = key.text().ok_or("a key is no text")?;
        let value = value.text().ok_or("a value is no text")?;
        let number = float::parse(value).ok_or_else(|| format!("the value of {key:?} is no number"))?;
        out.sample(values, &[key, path], number);
    }
    Ok(GOOD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::replay::Replay;
    use crate::connect::{Converse, Deadline, Replies};
    use tokio::time::Instant;

    async fn check(reply: &str, expected: Result<f64, &str>, samples: &[(&str, f64)]) {
        let mut server = Replay::default();
        server.record("X", reply);
        let (mut batch, mut replies, mut out) = (Batch::default(), Replies::default(), Builder::new());
        batch.push(&["X"]);
        server.ask(&batch, &mut replies, Deadline::until(Instant::now())).await.expect("a reply");
        let values = out.family(&VALUES);
        let found = read(replies.get(0).expect("a reply"), "a.lua", values, &mut out);
        assert_eq!(found.as_ref().map(|v| *v).map_err(|e| e.as_str()), expected, "{reply:?}");
        let families = out.finish();
        let samples_found: Vec<_> = families
            .iter()
            .flat_map(|family| family.samples())
            .map(|sample| (sample.label("key").unwrap_or_default(), sample.value()))
            .collect();
        let samples: Vec<_> =
            samples.iter().map(|(k, v)| (*k, exposition::family::Value::Number(*v))).collect();
        assert_eq!(samples_found, samples, "{reply:?}");
    }

    #[tokio::test]
    async fn a_flat_list_of_keys_and_numbers_is_good() {
        check("*4\r\n+a\r\n+11\r\n+b\r\n+0x1p4\r\n", Ok(GOOD), &[("a", 11.0), ("b", 16.0)]).await;
        check("*2\r\n+a\r\n:3\r\n", Ok(GOOD), &[("a", 3.0)]).await;
        check("*0\r\n", Ok(EMPTY), &[]).await;
    }

    #[tokio::test]
    async fn what_came_before_the_first_bad_value_stays() {
        check("*4\r\n+a\r\n+1\r\n+b\r\n+abc\r\n", Err("the value of \"b\" is no number"), &[("a", 1.0)])
            .await;
        check("*2\r\n+a\r\n*0\r\n", Err("a value is no text"), &[]).await;
        check("*3\r\n+a\r\n+1\r\n+b\r\n", Err("the list ends with a key that has no value"), &[]).await;
        check("+OK\r\n", Err("the result is no list"), &[]).await;
        check("$-1\r\n", Err("the result is no list"), &[]).await;
    }
}
