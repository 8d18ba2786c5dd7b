//! `errorstat_ERR:count=4`: error replies by their first word (6.2 and later; the server keeps 128 words at
//! most).

use super::number::number;
use super::{Info, parts};
use exposition::{Builder, Desc};

static ERRORS: Desc =
    Desc::counter("redis_errors_total", "Error replies by their first word.").labels(&["err"]);

/// Every family of this file.
pub fn descs() -> [&'static Desc; 1] {
    [&ERRORS]
}

/// Records the count of each kind of error.
pub fn read(info: &Info<'_>, out: &mut Builder) {
    let family = out.family(&ERRORS);
    for (error, value) in info.after("errorstat_") {
        let count = parts(value).flatten().find(|(name, _)| *name == "count");
        if let Some(count) = count.and_then(|(_, value)| number(value)) {
            out.sample(family, &[error], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::info::testing::lines;

    fn check(info: &str, expected: &[&str]) {
        assert_eq!(lines(info, |info, _, out| read(info, out)), expected, "{info}");
    }

    #[test]
    fn each_error_has_its_count() {
        check("errorstat_ERR:count=4", &["redis_errors_total{err=ERR} 4"]);
        check("errorstat_a:b:count=4", &[]);
    }

    #[test]
    fn a_line_that_cannot_be_read_costs_itself() {
        check("error_ERR:count=4", &[]);
        check("errorstat_ERR:count=", &[]);
        check("errorstat_ERR:count=x", &[]);
        check("errorstat_ERR:4", &[]);
        check("errorstat_ERR:count=4=5", &[]);
    }
}
