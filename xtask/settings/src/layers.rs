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
    /// Settings whose value in the environment a flag excludes.
    pub(super) overruled: BTreeSet<String>,
    /// The subcommands on the way.
    pub(super) path: Vec<String>,
}

/// Options that are no settings.
const HIDDEN: [&str; 4] = ["help", "version", "config", "print-config"];

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
pub(super) fn with_file(command: &Command, args: Vec<OsString>) -> Result<Layered, clap::Error> {
    let words: Vec<String> = args
        .iter()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .take_while(|word| word != "--")
        .collect();
    let (leaf, path) = find_leaf(command, &words);
    let on_line = |arg: &&Arg| on_line(arg, &words).is_some();
    let flags: Vec<&Arg> = leaf.get_arguments().filter(on_line).collect();
    let is_overruled = |arg: &&Arg| {
        let mut flags = flags.iter();
        in_environment(arg).is_some() && flags.any(|flag| excludes(leaf, arg, flag))
    };
    let overruled: Vec<&Arg> = leaf.get_arguments().filter(is_overruled).collect();
    let mut layered = Layered {
        args,
        from_file: BTreeSet::new(),
        overruled: overruled
            .iter()
            .map(|arg| arg.get_id().to_string())
            .collect(),
        path: path.iter().map(|name| (*name).to_owned()).collect(),
    };
    let config = leaf
        .get_arguments()
        .find(|arg| arg.get_long() == Some("config"));
    let Some(file) = config.and_then(|arg| given(arg, &words)) else {
        return Ok(layered);
    };
    let bad = |message: String| command.clone().error(ErrorKind::ValueValidation, message);
    let text = fs::read_to_string(&file)
        .map_err(|error| bad(format!("cannot read the settings file {file}: {error}")))?;
    let whole: Table = text
        .parse()
        .map_err(|error| bad(format!("{file} is no TOML: {error}")))?;
    let above: Vec<&Arg> = leaf
        .get_arguments()
        .filter(|arg| {
            given(arg, &words).is_some() && !layered.overruled.contains(arg.get_id().as_str())
        })
        .collect();
    let mut added = Vec::new();
    for (key, value) in settings_of(&whole, &path).into_iter().flatten() {
        let long = key.replace('_', "-");
        let arg = leaf.get_arguments().find(|arg| is_setting(arg, &long));
        let arg = arg.ok_or_else(|| {
            let table = path.join(".");
            bad(format!(
                "{file}: [{table}] has no setting `{key}`; {}",
                known(leaf)
            ))
        })?;
        let mut above = above.iter();
        if above.any(|other| other.get_id() == arg.get_id() || excludes(leaf, arg, other)) {
            continue;
        }
        let words = as_words(&long, arg, value)
            .ok_or_else(|| bad(format!("{file}: `{key}` cannot be {value}")))?;
        added.extend(words);
        layered.from_file.insert(arg.get_id().to_string());
    }
    // Before a `--`, behind which everything is positional.
    let end = layered.args.iter().position(|arg| arg == "--");
    let end = end.unwrap_or(layered.args.len());
    layered.args.splice(end..end, added);
    Ok(layered)
}

/// The command without the environment's say on settings that a flag excludes.
pub(super) fn without_env(
    command: Command,
    path: &[String],
    overruled: &BTreeSet<String>,
) -> Command {
    match path.split_first() {
        Some((name, below)) => {
            command.mut_subcommand(name, |sub| without_env(sub, below, overruled))
        }
        None => overruled.iter().fold(command, |command, id| {
            command.mut_arg(id, |arg| arg.env(None))
        }),
    }
}

/// The command that does something: subcommands come first, so the first word that is none ends the way.
fn find_leaf<'a>(command: &'a Command, words: &[String]) -> (&'a Command, Vec<&'a str>) {
    let (mut leaf, mut path) = (command, Vec::new());
    for word in words.iter().filter(|word| !word.starts_with('-')) {
        let Some(below) = leaf.find_subcommand(word) else {
            break;
        };
        leaf = below;
        path.push(below.get_name());
    }
    (leaf, path)
}

/// Whether only one of two settings may be given.
fn excludes(leaf: &Command, one: &Arg, other: &Arg) -> bool {
    let conflict = |a: &Arg, b: &Arg| {
        let conflicts = leaf.get_arg_conflicts_with(a);
        conflicts.iter().any(|found| found.get_id() == b.get_id())
    };
    let mut groups = leaf
        .get_groups()
        .cloned()
        .filter_map(|mut group| (!group.is_multiple()).then_some(group));
    let in_one_group = groups.any(|group| {
        let has = |arg: &Arg| group.get_args().any(|id| id == arg.get_id());
        has(one) && has(other)
    });
    one.get_id() != other.get_id() && (conflict(one, other) || conflict(other, one) || in_one_group)
}

fn is_setting(arg: &Arg, long: &str) -> bool {
    !HIDDEN.contains(&long) && arg.get_long() == Some(long)
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

/// The first value of an option on the command line; empty for a flag.
fn on_line(arg: &Arg, words: &[String]) -> Option<String> {
    let long = format!("--{}", arg.get_long()?);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if *word == long {
            return Some(words.next().cloned().unwrap_or_default());
        }
        let rest = word.strip_prefix(&long);
        if let Some(value) = rest.and_then(|rest| rest.strip_prefix('=')) {
            return Some(value.to_owned());
        }
    }
    None
}

fn in_environment(arg: &Arg) -> Option<String> {
    let value = std::env::var(arg.get_env()?).ok();
    value.filter(|value| !value.is_empty())
}

fn given(arg: &Arg, words: &[String]) -> Option<String> {
    on_line(arg, words).or_else(|| in_environment(arg))
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
    let names: Vec<&str> = names.filter(|name| !HIDDEN.contains(name)).collect();
    format!("it knows {}", names.join(", "))
}
