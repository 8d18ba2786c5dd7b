//! Tells the crate which build it is: commit, its day, and the compiler. Never fails: what cannot be found
//! out is `unknown`. Packagers without git set `REDVIGIL_COMMIT` and `REDVIGIL_DATE`.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for name in ["REDVIGIL_COMMIT", "REDVIGIL_DATE"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let rustc = output(&env::var("RUSTC").unwrap_or_default(), &["--version"]);
    // `rustc 1.95.0 (f2d3ce0bd 2026-03-21)`
    tell("REDVIGIL_RUSTC", rustc.and_then(|line| line.split(' ').nth(1).map(Into::into)));

    // In a debug build the commit would only make every commit compile everything again.
    if env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    // The log of HEAD changes with every commit and every checkout.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = output("git", &["rev-parse", "--git-path", file]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let given = |name| env::var(name).ok().filter(|text| !text.is_empty());
    tell(
        "REDVIGIL_COMMIT",
        given("REDVIGIL_COMMIT").or_else(|| output("git", &["rev-parse", "--short=12", "HEAD"])),
    );
    tell(
        "REDVIGIL_DATE",
        given("REDVIGIL_DATE").or_else(|| output("git", &["log", "-1", "--format=%cs", "HEAD"])),
    );
}

fn tell(name: &str, value: Option<String>) {
    if let Some(value) = value {
        println!("cargo::rustc-env={name}={value}");
    }
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}
