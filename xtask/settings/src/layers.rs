//! The layers below the flags: what the file says is added to the command line where nothing above it speaks.
//!
//! A file is TOML. Keys are the long names of options; a command with subcommands has a table for each:
//! `[serve]`, `[run]`. Other tables are the command's own business.

use std::{collections::BTreeSet, ffi::OsString, fs};

use clap::{Arg, ArgAction, ArgMatches, Command, builder::ValueHint, error::ErrorKind};
use toml::{Table, Value};

/// A command line with the file's settings, and which those are.
#[derive(Debug)]
pub(super) struct Layered {
    pub(super) args: Vec<OsString>,
    pub(super) from_file: BTreeSet<String>,
}

/// Adds `--config`, `--print-config` and `--log-format` to every command that does something.
pub(super) fn equip(command: Command) -> Command {
    if command.has_subcommands() {
        let names: Vec<String> = command
            .get_subcommands()
            .map(|sub| sub.get_name().to_owned())
            .collect();
        return names
            .into_iter()
            .fold(command, |command, name| command.mut_subcommand(name, equip));
    }
    let has_config = command
        .get_arguments()
        .any(|arg| arg.get_long() == Some("config"));
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .env("WEIR_CONFIG")
        .help("Settings file (TOML); flags and the environment win over it");
    let command = if has_config {
        command
    } else {
        command.arg(config)
    };
    command
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Print the settings in effect and where each comes from, secrets hidden, and end"),
        )
        .arg(
            Arg::new("log-format")
                .long("log-format")
                .env("WEIR_LOG_FORMAT")
                .value_parser(["text", "json"])
                .default_value("text")
                .help("How log lines look"),
        )
}

/// The command line with what the file adds. The command must be built.
pub(super) fn with_file(
    command: &Command,
    mut args: Vec<OsString>,
) -> Result<Layered, clap::Error> {
    let mut from_file = BTreeSet::new();
    let words: Vec<String> = args
        .iter()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let mut leaf = command;
    let mut path = Vec::new();
    for word in &words {
        if let Some(below) = leaf.find_subcommand(word) {
            leaf = below;
            path.push(below.get_name());
        }
    }
    let file = leaf
        .get_arguments()
        .find(|arg| arg.get_long() == Some("config"));
    let Some(file) = file.and_then(|arg| given(arg, &words)) else {
        return Ok(Layered { args, from_file });
    };
    let bad = |message: String| command.clone().error(ErrorKind::ValueValidation, message);
    let text = fs::read_to_string(&file)
        .map_err(|error| bad(format!("cannot read the settings file {file}: {error}")))?;
    let whole: Table = text
        .parse()
        .map_err(|error| bad(format!("{file} is no TOML: {error}")))?;
    let Some(settings) = settings_of(&whole, &path) else {
        return Ok(Layered { args, from_file });
    };
    let is_given = |arg: &&Arg| given(arg, &words).is_some();
    let above: Vec<&Arg> = leaf.get_arguments().filter(is_given).collect();
    for (key, value) in settings {
        let long = key.replace('_', "-");
        let arg = leaf
            .get_arguments()
            .find(|arg| arg.get_long() == Some(long.as_str()));
        let arg = arg.filter(|arg| {
            !matches!(
                arg.get_id().as_str(),
                "help" | "version" | "config" | "print-config"
            )
        });
        let arg = arg.ok_or_else(|| {
            bad(format!(
                "{file}: [{}] has no setting `{key}`; {}",
                path.join("."),
                known(leaf)
            ))
        })?;
        let conflicts = |a: &Arg, b: &Arg| {
            leaf.get_arg_conflicts_with(a)
                .iter()
                .any(|other| other.get_id() == b.get_id())
        };
        let is_overruled = above.iter().any(|other| {
            other.get_id() == arg.get_id() || conflicts(arg, other) || conflicts(other, arg)
        });
        if !is_overruled {
            let words = as_words(&long, arg, value)
                .ok_or_else(|| bad(format!("{file}: `{key}` cannot be {value}")))?;
            args.extend(words);
            from_file.insert(arg.get_id().to_string());
        }
    }
    Ok(Layered { args, from_file })
}

/// The command that does something, the way to it, and its matches.
pub(super) fn leaf<'a>(
    command: &'a Command,
    matches: &'a ArgMatches,
) -> (Vec<&'a str>, &'a Command, &'a ArgMatches) {
    let (mut path, mut leaf, mut below) = (Vec::new(), command, matches);
    while let Some((name, matches)) = below.subcommand() {
        path.push(name);
        leaf = leaf.find_subcommand(name).unwrap_or(leaf);
        below = matches;
    }
    (path, leaf, below)
}

/// The table of a command; for a command without subcommands, the file itself.
fn settings_of<'a>(whole: &'a Table, path: &[&str]) -> Option<&'a Table> {
    path.iter()
        .try_fold(whole, |table, name| table.get(*name)?.as_table())
}

/// The first value of an option on the command line or in the environment; empty for a flag.
fn given(arg: &Arg, words: &[String]) -> Option<String> {
    let long = format!("--{}", arg.get_long()?);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if *word == long {
            return Some(words.next().cloned().unwrap_or_default());
        }
        if let Some(value) = word
            .strip_prefix(&long)
            .and_then(|rest| rest.strip_prefix('='))
        {
            return Some(value.to_owned());
        }
    }
    let value = std::env::var(arg.get_env()?).ok();
    value.filter(|value| !value.is_empty())
}

fn as_words(long: &str, arg: &Arg, value: &Value) -> Option<Vec<OsString>> {
    let takes_value = arg.get_action().takes_values();
    match value {
        Value::Boolean(on) if !takes_value => {
            let flag = OsString::from(format!("--{long}"));
            Some(on.then_some(flag).into_iter().collect())
        }
        Value::Array(values) => {
            let words = values.iter().map(|value| as_words(long, arg, value));
            Some(words.collect::<Option<Vec<_>>>()?.concat())
        }
        Value::Table(_) => None,
        _ if !takes_value => None,
        Value::String(text) => Some(vec![format!("--{long}={text}").into()]),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
            Some(vec![format!("--{long}={value}").into()])
        }
    }
}

fn known(leaf: &Command) -> String {
    let names = leaf.get_arguments().filter_map(Arg::get_long);
    let hidden = ["help", "version", "config", "print-config"];
    let names: Vec<&str> = names.filter(|name| !hidden.contains(name)).collect();
    format!("it knows {}", names.join(", "))
}
