//! What `--help` prints: every flag in its group, with variable and default, in lines that fit a terminal.

use crate::config::build;
use crate::config::compat::flags::{Flag, GROUPS, Set};

/// The longest line.
pub const WIDTH: usize = 100;

/// The whole text.
pub fn text() -> String {
    let mut text = format!(
        "redvigil {} keeps watch over Redis and Valkey, and takes the place of redis_exporter.\n\n\
         Usage: redvigil [flags]\n       redvigil check FILE [flags]\n       \
         redvigil migrate [--prometheus FILE] [flags]\n       \
         redvigil completions bash|zsh|fish\n\n",
        build::VERSION
    );
    text.push_str(&wrap(
        "A flag is --name=value or --name value, a switch is --name or --name=false. One dash does as well. \
         What is not said by a flag is taken from the variable in brackets, then from the default. All that is \
         wrong is told at once, and the exit code is then 2.",
        0,
    ));
    for group in GROUPS {
        text.push_str(&format!("\n{}\n", group.title));
        for flag in group.flags {
            text.push_str(&format!("  {}\n", usage(flag)));
            text.push_str(&wrap(flag.meaning, 6));
            let origin = origin(flag);
            if !origin.is_empty() {
                text.push_str(&wrap(&format!("[{origin}]"), 6));
            }
        }
    }
    text
}

/// The flag as one writes it: `--log-level=LEVEL, --log.level`.
pub fn usage(flag: &Flag) -> String {
    let value = if flag.value.is_empty() { String::new() } else { format!("={}", flag.value) };
    let alias = flag.alias.map(|alias| format!(", {}{alias}", if alias.len() == 1 { "-" } else { "--" }));
    format!("--{}{value}{}", flag.name, alias.unwrap_or_default())
}

/// The words that a flag takes where they are few.
pub fn choices(flag: &Flag) -> &'static [&'static str] {
    match flag.set {
        Set::Choice(choices, _) => choices,
        Set::Switch(_) => &["true", "false"],
        _ => &[],
    }
}

fn origin(flag: &Flag) -> String {
    let choices = match flag.set {
        Set::Choice(choices, _) => choices.join(", "),
        _ => String::new(),
    };
    let default = match (&flag.set, flag.default) {
        (Set::Action, _) | (_, "") | (Set::Switch(_), "false") => String::new(),
        (_, default) => format!("default {default}"),
    };
    [flag.env.to_owned(), choices, default]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// The text in lines of at most [`WIDTH`] characters, each indented and ended.
fn wrap(text: &str, indent: usize) -> String {
    let blanks = " ".repeat(indent);
    lines(text, WIDTH - indent).into_iter().map(|line| format!("{blanks}{line}\n")).collect()
}

/// The text in lines of at most so many characters, cut between words; a longer word has a line of its own.
pub fn lines(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut column = 0;
    for word in text.split(' ') {
        let len = word.chars().count();
        if column > 0 && column + 1 + len > width {
            lines.push(String::new());
            column = 0;
        }
        let line = lines.last_mut().expect("there is one from the start");
        if column > 0 {
            line.push(' ');
            column += 1;
        }
        line.push_str(word);
        column += len;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compat::flags;

    #[test]
    fn every_flag_is_explained_in_lines_that_fit() {
        let text = text();
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH && line == line.trim_end(), "{line}");
        }
        for flag in flags::all() {
            let block = text.split(&format!("\n  {}\n", usage(flag))).nth(1).unwrap_or_default();
            let block = block.split("\n  --").next().and_then(|block| block.split("\n\n").next());
            let block = block.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(block.starts_with(flag.meaning), "{}: {block}", flag.name);
            assert!(
                block.contains(&format!("[{}", flag.env)) || flag.env.is_empty(),
                "{}: {block}",
                flag.name
            );
        }
    }

    #[test]
    fn long_texts_are_wrapped_between_words() {
        fn check(text: &str, indent: usize, lines: &[usize]) {
            let wrapped = wrap(text, indent);
            assert_eq!(wrapped.lines().map(|l| l.chars().count()).collect::<Vec<_>>(), lines, "{wrapped}");
            assert_eq!(wrapped.split_whitespace().collect::<Vec<_>>().join(" "), text);
        }
        check("a b", 2, &[5]);
        check(&["x"; 50].join(" "), 0, &[99]);
        check(&["x"; 51].join(" "), 0, &[99, 1]);
        check(&["x"; 51].join(" "), 1, &[100, 2]);
        check(&format!("a {} b", "x".repeat(120)), 0, &[1, 120, 1]);
    }
}
