//! The settings in effect, as a file that could be given back, with where each comes from.

use std::{collections::BTreeSet, fmt::Write as _};

use clap::{ArgMatches, Command, parser::ValueSource};
use toml::Value;

/// All settings of a command. Those whose environment value is hidden in the help are secrets.
pub(super) fn settings(
    path: &[&str],
    leaf: &Command,
    matches: &ArgMatches,
    from_file: &BTreeSet<String>,
) -> String {
    let mut text = String::from(
        "# flags win over the environment, the environment over the file, the file over defaults\n",
    );
    if !path.is_empty() {
        // Writing into a string cannot fail, here and below.
        writeln!(text, "[{}]", path.join(".")).unwrap_or_default();
    }
    for arg in leaf.get_arguments() {
        let (id, Some(long)) = (arg.get_id().as_str(), arg.get_long()) else {
            continue;
        };
        if matches!(id, "help" | "version" | "print-config" | "config") {
            continue;
        }
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) if from_file.contains(id) => "file",
            Some(ValueSource::CommandLine) => "flag",
            Some(ValueSource::EnvVariable) => "environment",
            Some(_) => "default",
            None => {
                writeln!(text, "# {long} is not set").unwrap_or_default();
                continue;
            }
        };
        if arg.is_hide_env_values_set() {
            // A comment: given back as a setting, a placeholder would become the secret.
            writeln!(text, "# {long} is hidden  # {source}").unwrap_or_default();
            continue;
        }
        let value = if arg.get_action().takes_values() {
            let raw = matches.get_raw(id).into_iter().flatten();
            let mut values: Vec<Value> = raw
                .map(|value| value.to_string_lossy().into_owned().into())
                .collect();
            if values.len() == 1 {
                values.remove(0)
            } else {
                Value::Array(values)
            }
        } else {
            Value::Boolean(matches.get_flag(id))
        };
        writeln!(text, "{long} = {value}  # {source}").unwrap_or_default();
    }
    text
}
