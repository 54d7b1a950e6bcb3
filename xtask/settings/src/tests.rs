//! Each layer wins over those below it, and mistakes are named.

use std::{ffi::OsString, fs};

use clap::{Parser, Subcommand};

use super::{Read, read};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    Serve {
        #[arg(long, default_value = "127.0.0.1:1")]
        listen: String,
        #[arg(long)]
        path: String,
        #[arg(long, default_value = "", hide_env_values = true)]
        password: String,
        #[arg(long)]
        port: Vec<u16>,
        #[arg(long)]
        quick: bool,
        #[arg(long, conflicts_with_all = ["url", "home"])]
        output: Option<String>,
        #[arg(long)]
        url: Option<String>,
        /// Set in every environment.
        #[arg(long, env = "HOME")]
        home: Option<String>,
        files: Vec<String>,
    },
}

fn run(file: &str, args: &[&str]) -> Result<Read, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    fs::write(&path, file).unwrap();
    let config = format!("--config={}", path.display());
    let args = ["weir", "serve", &config]
        .iter()
        .chain(args)
        .map(OsString::from)
        .collect();
    read(<Cli as clap::CommandFactory>::command(), args).map_err(|error| error.to_string())
}

fn printed(file: &str, args: &[&str]) -> String {
    match run(file, &[args, &["--print-config"]].concat()) {
        Ok(Read::Print(text)) => text,
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let file = "[serve]\nlisten = \"127.0.0.1:2\"\npath = \"from file\"\npassword = \"geheim\"\nport = [80, 81]\nquick = true\n[other]\nx = 1\n";
    let text = printed(file, &["--listen", "127.0.0.1:3"]);
    for line in [
        "[serve]",
        "listen = \"127.0.0.1:3\"  # flag",
        "path = \"from file\"  # file",
        "# password is hidden  # file",
        "port = [\"80\", \"81\"]  # file",
        "quick = true  # file",
        "log-format = \"text\"  # default",
        "# output is not set",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(!text.contains("geheim"));
}

#[test]
fn a_flag_overrules_what_the_file_says_about_its_opposite() {
    let text = printed("[serve]\npath = \"p\"\nurl = \"u\"\n", &["--output", "o"]);
    assert!(text.contains("# url is not set"), "{text}");
}

#[test]
fn a_flag_overrules_the_environment_about_its_opposite() {
    let text = printed("[serve]\npath = \"p\"\n", &[]);
    assert!(text.contains("# environment"), "{text}");
    let text = printed("[serve]\npath = \"p\"\n", &["--output", "o"]);
    assert!(text.contains("# home is not set"), "{text}");
}

#[test]
fn what_stands_behind_two_dashes_stays_there() {
    let Ok(Read::Run(matches)) = run("[serve]\npath = \"p\"\n", &["--", "--path"]) else {
        unreachable!("the file gives the path")
    };
    let serve = matches.subcommand_matches("serve").unwrap();
    let files: Vec<&String> = serve.get_many("files").unwrap().collect();
    assert_eq!(files, ["--path"]);
}

#[test]
fn what_is_printed_can_be_given_back() {
    let first = printed("[serve]\npath = \"a \\\"b\\\"\"\n", &["--port", "5"]);
    let again = printed(&first, &[]);
    let settings = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .map(|line| line.split("  #").next().unwrap_or("").to_owned());
        lines.filter(|line| !line.starts_with('#')).collect()
    };
    assert_eq!(settings(&first), settings(&again));
    let Ok(Read::Run(matches)) = run(&first, &[]) else {
        unreachable!("it was accepted above")
    };
    let serve = matches.subcommand_matches("serve").unwrap();
    assert_eq!(
        serve.get_one::<String>("password").map(String::as_str),
        Some(""),
        "no placeholder"
    );
}

#[test]
fn mistakes_are_named_with_the_file_and_the_key() {
    for (file, expected) in [
        (
            "[serve]\npaht = 1\n",
            "[serve] has no setting `paht`; it knows listen, path",
        ),
        (
            "[serve]\nquick = \"yes\"\npath = \"p\"\n",
            "`quick` cannot be \"yes\"",
        ),
        ("[serve\n", "is no TOML"),
        (
            "[serve]\nport = \"many\"\npath = \"p\"\n",
            "invalid value 'many' for '--port",
        ),
        ("", "--path <PATH>"),
    ] {
        let error = run(file, &[]).unwrap_err();
        assert!(error.contains(expected), "{error} should say {expected}");
    }
}
