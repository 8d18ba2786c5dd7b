//! Completion scripts for bash, zsh and fish, written from the table of flags.
//!
//! They need nothing but the shell itself: `redvigil completions bash > …/bash-completion/completions/redvigil`.

use super::help::choices;
use crate::config::compat::flags::{self, Flag, Set};
use crate::config::compat::{COMMANDS, Shell};

/// The script to be sourced by this shell.
pub fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Zsh => zsh(),
        Shell::Fish => fish(),
    }
}

fn takes_file(flag: &Flag) -> bool {
    matches!(flag.value, "FILE" | "FILES")
}

/// Both names of each flag, with the dashes that people type.
fn names(flag: &Flag) -> impl Iterator<Item = String> {
    flag.names().filter(|name| name.len() > 1).map(|name| format!("--{name}"))
}

fn bash() -> String {
    let mut cases = String::new();
    for flag in flags::all() {
        let names = names(flag).collect::<Vec<_>>().join("|");
        let words = choices(flag).join(" ");
        let offer = match (takes_file(flag), &flag.set) {
            (true, _) => "value=1 files=1".into(),
            // A switch takes its value behind = only.
            (_, Set::Switch(_)) => format!("value=$equals words='{words}'"),
            (_, Set::Action) => continue,
            _ => format!("value=1 words='{words}'"),
        };
        cases.push_str(&format!("        {names}) {offer} ;;\n"));
    }
    let all: Vec<String> = flags::all()
        .flat_map(|flag| names(flag).map(|name| if flag.is_switch() { name } else { format!("{name}=") }))
        .collect();
    format!(
        r#"# Completions of redvigil for bash.
_redvigil() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} equals= value= words= files=
    # Readline takes = for a word of its own.
    if [[ $cur == = ]]; then
        cur= equals=1
    elif [[ $prev == = ]]; then
        prev=${{COMP_WORDS[COMP_CWORD-2]}} equals=1
    fi
    case $prev in
{cases}        completions) value=1 words='bash zsh fish' ;;
        check|--prometheus) value=1 files=1 ;;
        migrate) value=1 words=--prometheus= ;;
    esac
    COMPREPLY=()
    if [[ $files ]]; then
        COMPREPLY=($(compgen -f -- "$cur"))
    elif [[ $value ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    elif [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W '{all}' -- "$cur"))
        if [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == *= ]]; then
            compopt -o nospace 2>/dev/null
        fi
    elif [[ $COMP_CWORD == 1 ]]; then
        COMPREPLY=($(compgen -W '{commands}' -- "$cur"))
    fi
}}
complete -F _redvigil redvigil
"#,
        all = all.join(" "),
        commands = COMMANDS.join(" ")
    )
}

fn zsh() -> String {
    let mut specs = String::new();
    for flag in flags::all() {
        let meaning = first_sentence(flag).replace('\'', "'\\''");
        let meaning = meaning.replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
        let action = match (takes_file(flag), choices(flag)) {
            (true, _) => "_files".into(),
            (_, []) => String::new(),
            (_, words) => format!("({})", words.join(" ")),
        };
        let repeated = if matches!(flag.set, Set::Repeated(_)) { "*" } else { "" };
        for name in names(flag) {
            specs.push_str(&match flag.set {
                Set::Action => format!("    '{name}[{meaning}]' \\\n"),
                Set::Switch(_) => format!("    '{name}=-[{meaning}]::value:{action}' \\\n"),
                _ => format!("    '{repeated}{name}=[{meaning}]:{}:{action}' \\\n", flag.value),
            });
        }
    }
    format!(
        "#compdef redvigil
# Completions of redvigil for zsh.
_redvigil_argument() {{
    case $words[2] in
        completions) compadd bash zsh fish ;;
        check) _files ;;
        migrate) compadd -- --prometheus= ;;
    esac
}}
_arguments \\
{specs}    '1:command:({commands})' \\
    '2:argument:_redvigil_argument'
",
        commands = COMMANDS.join(" ")
    )
}

fn fish() -> String {
    let mut lines = format!(
        "# Completions of redvigil for fish.
complete -c redvigil -f
complete -c redvigil -n __fish_use_subcommand -a '{}'
complete -c redvigil -n '__fish_seen_subcommand_from completions' -a 'bash zsh fish'
complete -c redvigil -n '__fish_seen_subcommand_from check' -F
complete -c redvigil -n '__fish_seen_subcommand_from migrate' -l prometheus -r -F
",
        COMMANDS.join(" ")
    );
    for flag in flags::all() {
        let meaning = first_sentence(flag).replace('\\', "\\\\").replace('\'', "\\'");
        let value = match (takes_file(flag), flag.is_switch(), choices(flag)) {
            (true, ..) => " -r -F".into(),
            (_, true, _) => String::new(),
            (.., []) => " -x".into(),
            (.., words) => format!(" -x -a '{}'", words.join(" ")),
        };
        for name in flag.names().filter(|name| name.len() > 1) {
            lines.push_str(&format!("complete -c redvigil -l {name}{value} -d '{meaning}'\n"));
        }
    }
    lines
}

fn first_sentence(flag: &Flag) -> &'static str {
    let end = flag.meaning.find(". ").map_or(flag.meaning.len(), |end| end);
    flag.meaning[..end].trim_end_matches('.')
}
