//! The command line: from words to an exit code.
//!
//! What the words mean is the matter of [`compat`]; here stands what is printed, and
//! how the program ends: 0 when all is well, 1 when it could not go on, 2 when the words made no sense.
//! [`help`], [`completions`] and [`mod@reference`] are three views of the table of flags.

pub mod completions;
pub mod help;
pub mod reference;

use crate::config::compat::{self, Outcome, Warning};
use crate::config::{Config, build};
use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

/// Reads the command line and the environment of this process, and does what they say. `run` is the program
/// proper; it gets the configuration and what to log first.
pub fn main(run: impl FnOnce(Config, Vec<Warning>) -> anyhow::Result<()>) -> ExitCode {
    let outcome = compat::parse(env::args_os().skip(1), |name| env::var_os(name));
    // Not locked: whoever logs while `run` works must get at them.
    ExitCode::from(answer(outcome, &mut io::stdout(), &mut io::stderr(), run))
}

/// The exit code of an outcome, after all was printed and done. What goes wrong is one line on `errors`.
pub fn answer(
    outcome: Outcome,
    output: &mut impl Write,
    errors: &mut impl Write,
    run: impl FnOnce(Config, Vec<Warning>) -> anyhow::Result<()>,
) -> u8 {
    let printed = match outcome {
        Outcome::Run(config, warnings) => {
            return match run(*config, warnings) {
                Ok(()) => 0,
                Err(error) => {
                    complain(errors, &format!("{error:#}"));
                    1
                }
            };
        }
        Outcome::Problems(problems) => {
            for problem in problems {
                complain(errors, &problem.to_string());
            }
            return 2;
        }
        Outcome::Migrated(migrated) => {
            for line in &migrated.lost {
                complain(errors, &format!("could not be carried over: {line}"));
            }
            migrated.write_to(output)
        }
        Outcome::Checked(path, Ok(checked)) => {
            // As compilers do it, so that editors find the line.
            for Warning { place, message } in checked.warnings {
                let _ = writeln!(errors, "{place}: warning: {}", message.replace('\n', " "));
            }
            let services = if checked.services == 1 { "service" } else { "services" };
            let outputs = match checked.outputs {
                0 => String::new(),
                1 => ", 1 output".into(),
                outputs => format!(", {outputs} outputs"),
            };
            writeln!(output, "{}: ok, {} {services}{outputs}", path.display(), checked.services)
        }
        Outcome::Checked(_, Err(problems)) => {
            for problem in problems {
                let _ = writeln!(errors, "{}", problem.to_string().replace('\n', " "));
            }
            return 2;
        }
        Outcome::Help => output.write_all(help::text().as_bytes()),
        Outcome::Version => writeln!(output, "{}", build::line()),
        Outcome::Completions(shell) => output.write_all(completions::script(shell).as_bytes()),
    };
    match printed.and_then(|()| output.flush()) {
        // A reader that has seen enough (`| head`) is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(errors, &format!("cannot write to stdout: {error}"));
            1
        }
        _ => 0,
    }
}

/// One line about something that is wrong.
fn complain(errors: &mut impl Write, text: &str) {
    // Where stderr is closed there is nobody left to tell.
    let _ = writeln!(errors, "redvigil: {}", text.replace('\n', " "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    /// A stdout that answers every write with this error.
    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn check(args: &[&str], expected: (u8, &str, &str)) {
        let (mut output, mut errors) = (vec![], vec![]);
        let outcome = compat::parse(args.iter().map(Into::into), |_| None);
        let code = answer(outcome, &mut output, &mut errors, |config, _| {
            let cause = Err(anyhow::anyhow!("address in use"));
            if config.serve.redis_only { Ok(()) } else { cause.context("cannot listen on :9121") }
        });
        let (output, errors) = (String::from_utf8(output), String::from_utf8(errors));
        let (output, errors) = (output.expect("UTF-8"), errors.expect("UTF-8"));
        assert_eq!(code, expected.0, "{args:?}");
        assert!(output.starts_with(expected.1), "{args:?}: {output}");
        assert_eq!(output.is_empty(), expected.1.is_empty(), "{args:?}: {output}");
        assert_eq!(errors, expected.2, "{args:?}");
    }

    #[test]
    fn exit_codes_and_streams_are_those_of_a_unix_program() {
        check(&["--redis-only-metrics"], (0, "", ""));
        check(&[], (1, "", "redvigil: cannot listen on :9121: address in use\n"));
        check(&["--help"], (0, "redvigil ", ""));
        check(&["-h"], (0, "redvigil ", ""));
        check(&["help"], (0, "redvigil ", ""));
        check(&["--version"], (0, &format!("redvigil {} (commit ", build::VERSION), ""));
        check(&["completions", "bash"], (0, "#", ""));
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path.display().to_string()
        };
        let good = file("good.yaml", "services: [{name: a, instances: [h]}]");
        let bad = file("bad.yaml", "services:\n- name: a\n  instance: [h]\nzzz: 1");
        check(&["check", &good], (0, &format!("{good}: ok, 1 service\n"), ""));
        check(
            &["check", &good, "--redis.user=me"],
            (
                0,
                &format!("{good}: ok, 1 service\n"),
                "--redis.user: warning: without effect: with services, the profiles of credentials say who gets \
                 which password\n",
            ),
        );
        let idle = file("idle.yaml", "services:\n- name: a\n  instances: [h]\n  rewrite: [{from: f, to: t}]");
        check(
            &["check", &idle, "--is-cluster"],
            (
                0,
                &format!("{idle}: ok, 1 service\n"),
                &format!(
                    "--is-cluster: warning: without effect: with services, the key cluster of a service says that \
                     it is one\n\
                     {idle}:4: services[0].rewrite: warning: without effect: addresses that are listed are taken as \
                     they are\n"
                ),
            ),
        );
        for (outputs, expected) in [("b", ", 1 output"), ("b, c", ", 2 outputs")] {
            let of = |name| format!("{{name: {name}, otlp: {{endpoint: \"http://h\"}}}}");
            let outputs: Vec<_> = outputs.split(", ").map(of).collect();
            let pushed =
                format!("services: [{{name: a, instances: [h]}}]\noutputs: [{}]", outputs.join(", "));
            let pushed = file("pushed.yaml", &pushed);
            check(&["check", &pushed], (0, &format!("{pushed}: ok, 1 service{expected}\n"), ""));
        }
        let twice = format!("cannot be combined with check {good}: one file is looked at\n");
        for args in [["check", &good, "--config.file=other", ""], ["check", &good, "-config.file", &idle]] {
            let place = args[2].split('=').next().unwrap_or_default();
            check(&args, (2, "", &format!("{place}: {twice}")));
        }
        let keys = "global, credentials, services, scrape, health, breaker, discover, collect, outputs, registry, web, log";
        check(
            &["check", &bad],
            (
                2,
                "",
                &format!(
                    "{bad}:2: services[0]: there is none of sentinel, cluster, instances, file_sd; expected one of \
                     sentinel, cluster, instances, file_sd\n\
                     {bad}:3: services[0].instance: there is no such key; did you mean instances?\n\
                     {bad}:4: zzz: there is no such key; expected {keys}\n"
                ),
            ),
        );
        let jobs = file("prometheus.yml", "scrape_configs: [{job_name: \"a\\nb\"}]");
        let why = "no rule of relabel_configs sets __param_target, so no exporter is asked for its targets";
        check(
            &["migrate", "--prometheus", &jobs],
            (
                0,
                "# Written by redvigil migrate",
                &format!("redvigil: could not be carried over: job a b: left out: {why}\n"),
            ),
        );
        let expected =
            "redvigil: check: expected the path of a configuration file, then flags where there are some\n";
        check(&["check"], (2, "", expected));
        check(&["check", "--debug"], (2, "", expected));
        check(
            &["--debug=x", "--log-level=loud"],
            (
                2,
                "",
                "redvigil: --log-level: \"loud\" is no log level; expected DEBUG, INFO, WARN or ERROR\n\
                 redvigil: --debug: \"x\" is no boolean; expected true or false\n",
            ),
        );
    }

    #[test]
    fn a_reader_that_left_is_no_failure_but_a_full_disk_is() {
        for (kind, expected) in [(io::ErrorKind::BrokenPipe, 0), (io::ErrorKind::StorageFull, 1)] {
            for outcome in [Outcome::Help, Outcome::Version, Outcome::Completions(compat::Shell::Zsh)] {
                let code = answer(outcome, &mut Broken(kind), &mut io::sink(), |_, _| Ok(()));
                assert_eq!(code, expected, "{kind}");
            }
        }
    }
}
