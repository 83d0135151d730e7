//! The reference of the command line, made from the command tree, so that it says what parses. It writes no file.

use std::fmt::Write;

use clap::{Arg, Command};
use clap_mangen::Man;

use super::error::EXIT_CODES;
use crate::monitor;
use crate::serve::metrics::table::{Kind, TABLE};

/// The command tree as a person sees it, without what is hidden.
pub(super) fn tree() -> Command {
    let whole = super::command();
    let mut tree = Command::new("emberline")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .about(whole.get_about().cloned().unwrap_or_default())
        .after_help(whole.get_after_help().cloned().unwrap_or_default())
        .args(whole.get_arguments())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()))
        .subcommand_required(true)
        .disable_help_subcommand(true);
    tree.build();
    tree
}

/// A man page for the tool and one for each command.
pub(super) fn pages(tree: &Command) -> Vec<Man> {
    let commands = parts(tree).flat_map(pages);
    std::iter::once(Man::new(tree.clone())).chain(commands).collect()
}

/// The commands that `command` is made of, without clap's own.
fn parts(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|part| part.get_name() != "help")
}

/// Each command that does something, with its name in full: `train`, `ci init`.
fn commands_by_name<'a>(tree: &'a Command, before: &str) -> Vec<(String, &'a Command)> {
    let named = parts(tree).map(|command| (format!("{before}{}", command.get_name()), command));
    named
        .flat_map(|(name, command)| {
            if command.has_subcommands() {
                commands_by_name(command, &format!("{name} "))
            } else {
                vec![(name, command)]
            }
        })
        .collect()
}

/// cli.md: every command with its arguments, options, defaults, environment variables and examples.
pub(super) fn commands(tree: &Command) -> String {
    let mut text = String::from(
        "# Command line\n\n\
         This page is made from the tool itself: `emberline COMMAND --help` says the same.\n\n\
         Results go to stdout, everything else to stderr. A flag wins over its environment variable, that over \
         `emberline.yaml`, that over the default. A switch is on unless its variable is `0`, `false`, `no` or `off`; a \
         variable that is empty says nothing. What the codes mean that a command ends with stands in \
         [exit-codes.md](exit-codes.md).\n\n\
         | command | |\n| --- | --- |\n",
    );
    let named = commands_by_name(tree, "");
    for (name, command) in &named {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let anchor = name.replace(' ', "-");
        let _ = writeln!(text, "| [`{name}`](#emberline-{anchor}) | {about} |");
    }
    text.push_str("\n## Options of every command\n\n");
    text.push_str(&table(tree.get_arguments().filter(|argument| argument.is_global_set())));
    for (name, command) in named {
        let about = command.get_long_about().or(command.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        let usage = command.clone().render_usage().to_string();
        let _ = write!(
            text,
            "\n## emberline {name}\n\n{}.\n\n```console\n{}\n```\n\n",
            about.trim_end_matches('.'),
            usage.trim_start_matches("Usage: ")
        );
        let own =
            |argument: &&Arg| !argument.is_global_set() && !["help", "version"].contains(&argument.get_id().as_str());
        text.push_str(&table(command.get_arguments().filter(own)));
        text.push_str(&after(command));
    }
    text
}

/// The metrics of the server, from the table that it counts by.
pub(super) fn metrics() -> String {
    let mut page = String::from(
        "# Metrics\n\nWhat the server tells at `GET /metrics`, in Prometheus' text format. Names are only ever added.\n\n\
         | metric | type | unit | labels | tells |\n| --- | --- | --- | --- | --- |\n",
    );
    for metric in TABLE {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {kind} | {} | {} | {} |",
            metric.name,
            metric.unit,
            labels.join(", "),
            metric.help
        );
    }
    page
}

/// The alerts, from the list that the rules are made from.
pub(super) fn alerts() -> String {
    let mut page = String::from(
        "# Alerts\n\nWhat `emberline monitor alerts` makes, for a project named `digits`. A server that nobody asks \
         anything, or that does as it should, raises none of them. Thresholds are in the file, and yours to change there.\n",
    );
    let alerts = monitor::alerts("digits");
    page.push_str("\n| alert | severity | when | after |\n| --- | --- | --- | --- |\n");
    for alert in &alerts {
        let (name, anchor) = (alert.name, alert.name.to_lowercase());
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| [{name}](#{anchor}) | {} | {} | {} |",
            alert.severity.name(),
            alert.when,
            if alert.lasts == "0m" { "at once" } else { alert.lasts }
        );
    }
    for alert in &alerts {
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n```promql\n{}\n```\n",
            alert.name, alert.action, alert.expression
        );
    }
    page
}

/// exit-codes.md.
pub(super) fn exit_codes() -> String {
    let mut text = String::from(
        "# Exit codes\n\n\
         What a script can branch on. A code never changes its meaning.\n\n\
         | code | meaning |\n| --- | --- |\n",
    );
    for (code, meaning) in EXIT_CODES {
        let _ = writeln!(text, "| {code} | {meaning} |");
    }
    text
}

/// A row for each argument; nothing when there are none.
fn table<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let rows: String = arguments.filter(|argument| !argument.is_hide_set()).map(row).collect();
    if rows.is_empty() {
        return rows;
    }
    format!("| | meaning | default | environment |\n| --- | --- | --- | --- |\n{rows}")
}

fn row(argument: &Arg) -> String {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.replace('|', "\\|").replace('\n', " ");
    // What happens without it, where the help says that in words.
    let (meaning, in_words) = match help.strip_suffix(']').and_then(|help| help.split_once(" [default: ")) {
        Some((meaning, default)) => (meaning, Some(default.to_owned())),
        None => (help.as_str(), None),
    };
    let default = argument.get_default_values().first().filter(|_| takes_value(argument));
    let default = default.map(|value| code(&value.to_string_lossy())).or(in_words);
    let variable = argument.get_env().map(|name| code(&name.to_string_lossy()));
    format!(
        "| {} | {meaning}{} | {} | {} |\n",
        name(argument),
        values(argument),
        default.unwrap_or_default(),
        variable.unwrap_or_default()
    )
}

/// As it is written: `-o`, `--format <FORMAT>`, `[PROJECT]`.
fn name(argument: &Arg) -> String {
    let Some(long) = argument.get_long() else {
        return code(&argument.to_string());
    };
    let short = argument.get_short().map(|short| format!("`-{short}`, "));
    let value = argument.get_value_names().into_iter().flatten().next();
    let value = value
        .filter(|_| takes_value(argument))
        .map(|value| format!(" <{value}>"));
    format!("{}`--{long}{}`", short.unwrap_or_default(), value.unwrap_or_default())
}

/// The values that it takes, where they are known.
fn values(argument: &Arg) -> String {
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set() && takes_value(argument))
        .map(|value| match value.get_help() {
            Some(help) => format!("{}: {help}", code(value.get_name())),
            None => code(value.get_name()),
        })
        .collect();
    if values.is_empty() {
        return String::new();
    }
    format!(". {}", values.join("; "))
}

fn takes_value(argument: &Arg) -> bool {
    argument.get_action().takes_values()
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// What stands below the options in the help: prose as it is, indented lines as commands.
fn after(command: &Command) -> String {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut text = String::new();
    for part in help.split("\n\n") {
        let (commands, prose): (Vec<&str>, Vec<&str>) = part.lines().partition(|line| line.starts_with("  "));
        let _ = write!(text, "\n{}\n", prose.join("\n"));
        if !commands.is_empty() {
            let commands: Vec<&str> = commands.into_iter().map(str::trim_start).collect();
            let _ = write!(text, "\n```sh\n{}\n```\n", commands.join("\n"));
        }
    }
    text
}
