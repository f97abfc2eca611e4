//! Ring 4: the command line: one file for each subcommand, exit codes in one place (spec 12.2).

mod accounts;
mod admin;
mod bounds;
mod channel;
mod check;
mod classify;
mod credit;
mod explain;
mod failures;
mod healthcheck;
mod keys;
mod ledger;
mod reload;
mod run;
mod sandbox;
mod schema;
mod status;
mod style;
mod table;
mod why;

use crate::config::Problems;
use crate::core::api::Api;
use crate::runtime::Start;
use crate::wire::echo::printable;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// The configuration where none is named.
const DEFAULT_FILE: &str = "tidegate.yaml";
/// Something failed while running.
const EXIT_RUNTIME: u8 = 1;
/// The command line makes no sense.
const EXIT_USAGE: u8 = 2;
/// The configuration is wrong (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIG: u8 = 78;

/// An edge gateway for large-language-model APIs.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// Check the configuration and exit, like `check`.
    #[arg(short = 't')]
    test: bool,
    /// The configuration file, with `-t`.
    #[arg(short = 'c', long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How the answer is printed. With json standard output is JSON, also when something goes wrong.
    #[arg(long, global = true, value_enum, default_value_t = Wanted::Text)]
    format: Wanted,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What is asked for by `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// For people.
    Text,
    /// For scripts; what a running gateway answers is printed as it is.
    Json,
    /// The reference of the configuration; with `schema` alone.
    #[value(hide = true)]
    Markdown,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the gateway.
    Run {
        /// The configuration file.
        #[arg(short = 'c', long, value_name = "FILE", default_value = DEFAULT_FILE)]
        config: PathBuf,
        /// How much the gateway says of itself: error, warn, info, debug or trace.
        #[arg(long, value_name = "LEVEL", default_value = "info")]
        log_level: log::LevelFilter,
        /// Take the place of a running gateway with the same store: waits until SIGQUIT tells that one to hand its
        /// listeners and its ledger over. A gateway that gets SIGUSR2 starts this itself.
        #[arg(long)]
        upgrade: bool,
        /// Begin a new ledger where there was one that has gone: opening credit is booked again, revocations are lost.
        #[arg(long)]
        new_ledger: bool,
    },
    /// Check a configuration and report every problem in it.
    Check {
        /// The configuration file; tidegate.yaml by default.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// The configuration file, as other commands take it.
        #[arg(short = 'c', long, value_name = "FILE", conflicts_with = "file")]
        config: Option<PathBuf>,
        /// Do without the secrets that the file takes from the environment or from files, as where changes to it are reviewed.
        #[arg(long)]
        without_secrets: bool,
    },
    /// Judge a recorded upstream answer: the rule that matches, the verdict, and what the client would read.
    Classify(classify::Arguments),
    /// Tell which channels a request would see now, and why not the others.
    Explain(explain::Arguments),
    /// Show how a running gateway stands: traffic, channels, models, limits, money.
    Status(status::Arguments),
    /// Tell why a request failed: attempts, upstream answers, and what the client was told.
    Why {
        /// The id that the client was given in `x-request-id`.
        request_id: String,
        #[command(flatten)]
        admin: admin::Listener,
    },
    /// List the last failures behind a running gateway, a line each: what was tried, and what came of it.
    Failures(failures::Arguments),
    /// Load the configuration of a running gateway again, and tell what has changed.
    Reload {
        #[command(flatten)]
        admin: admin::Listener,
    },
    /// Take a channel of a running gateway out of traffic, or bring it back.
    Channel {
        #[command(subcommand)]
        command: channel::Command,
    },
    /// Let a running gateway end as after SIGTERM: not ready, then no longer accepting, then gone with its last request.
    Drain {
        #[command(flatten)]
        admin: admin::Listener,
    },
    /// Tell by the exit code whether a gateway is ready.
    Healthcheck {
        #[command(flatten)]
        admin: admin::Listener,
    },
    /// Accounts of a running gateway.
    Accounts {
        #[command(subcommand)]
        command: accounts::Command,
    },
    /// Keys for clients.
    Keys {
        #[command(subcommand)]
        command: keys::Command,
    },
    /// Book an amount to an account of a running gateway.
    Credit(credit::Arguments),
    /// Look at the ledger of a gateway that is not running.
    Ledger {
        #[command(subcommand)]
        command: ledger::Command,
    },
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the JSON schema of the configuration, or, with `--format markdown`, its reference.
    Schema,
    /// Run a scripted OpenAI-compatible upstream for trials and tests.
    Sandbox {
        /// Where to listen.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9101")]
        listen: std::net::SocketAddr,
    },
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let matches = with_help(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    let format = if cli.format == Wanted::Json { Format::Json } else { Format::Text };
    run(cli, format).unwrap_or_else(|complaint| complaint.tell(format))
}

fn run(cli: Cli, format: Format) -> Ended {
    match (cli.format, &cli.command) {
        (Wanted::Markdown, Some(Command::Schema)) => return schema::reference(),
        (Wanted::Markdown, _) => return complain(EXIT_USAGE, "--format markdown is for schema alone"),
        _ => {}
    }
    match (cli.command, cli.test) {
        (Some(Command::Schema), false) => schema::run(),
        (Some(Command::Run { config, log_level, upgrade, new_ledger }), false) => {
            run::run(&config, log_level, Start { upgrade, new_ledger }, format)
        }
        (Some(Command::Check { file, config, without_secrets }), _) => {
            let file = file.or(config).or(cli.config).unwrap_or_else(|| DEFAULT_FILE.into());
            check::check(&file, without_secrets, format)
        }
        (Some(Command::Classify(arguments)), false) => classify::run(&arguments, format),
        (Some(Command::Explain(arguments)), false) => explain::run(&arguments, format),
        (Some(Command::Status(arguments)), false) => status::run(&arguments, format),
        (Some(Command::Why { request_id, admin }), false) => why::run(&request_id, &admin, format),
        (Some(Command::Failures(arguments)), false) => failures::run(&arguments, format),
        (None, true) => check::check(&cli.config.unwrap_or_else(|| DEFAULT_FILE.into()), false, format),
        (Some(Command::Accounts { command }), false) => accounts::run(&command, format),
        (Some(Command::Reload { admin }), false) => reload::run(&admin, format),
        (Some(Command::Channel { command }), false) => channel::run(&command, format),
        (Some(Command::Drain { admin }), false) => channel::drain(&admin, format),
        (Some(Command::Healthcheck { admin }), false) => healthcheck::run(&admin, format),
        (Some(Command::Keys { command }), false) => keys::run(&command, format),
        (Some(Command::Credit(arguments)), false) => credit::run(&arguments, format),
        (Some(Command::Ledger { command }), false) => ledger::run(&command, format),
        (Some(Command::Completions { shell }), false) => completions(shell),
        (Some(Command::Sandbox { listen }), false) => sandbox::run(listen, format),
        (None, false) => complain(EXIT_USAGE, "a command is missing; see: tidegate --help"),
        _ => complain(EXIT_USAGE, "-t goes alone, with -c FILE"),
    }
}

/// What each command looks like when it is used, under its help; the names of nested commands are joined by a space.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("", &["tidegate run -c tidegate.yaml", "tidegate check tidegate.yaml", "tidegate status"]),
    ("run", &["tidegate run -c tidegate.yaml", "tidegate run -c tidegate.yaml --log-level debug"]),
    ("check", &["tidegate check tidegate.yaml", "tidegate check --without-secrets conf/edge.yaml"]),
    ("classify", &["tidegate classify answer.txt", "tidegate classify -c tidegate.yaml answer.txt"]),
    (
        "explain",
        &[
            "tidegate explain openai/gpt-5.5",
            "tidegate explain openai/gpt-5.5 --key acme-prod --api responses",
        ],
    ),
    ("status", &["tidegate status", "tidegate status --watch", "tidegate status --format json"]),
    ("failures", &["tidegate failures", "tidegate failures --channel east --format json"]),
    ("why", &["tidegate why req-knnb69wen2tq3qztr2dtmm"]),
    (
        "reload",
        &["tidegate reload", "tidegate reload --admin 10.0.0.7:9090 --token-file /etc/tidegate/token"],
    ),
    ("channel disable", &["tidegate channel disable east"]),
    ("channel enable", &["tidegate channel enable east"]),
    ("channel readmit", &["tidegate channel readmit east"]),
    ("drain", &["tidegate drain"]),
    ("healthcheck", &["tidegate healthcheck --admin 127.0.0.1:9090"]),
    (
        "accounts create",
        &["tidegate accounts create acme", "tidegate accounts create lab --billing none --rpm 600"],
    ),
    ("accounts list", &["tidegate accounts list"]),
    ("accounts show", &["tidegate accounts show acme"]),
    ("keys new", &["tidegate keys new"]),
    ("keys hash", &["tidegate keys hash < key.txt"]),
    (
        "keys list",
        &["tidegate keys list", "tidegate keys list --account acme", "tidegate keys list --revoked"],
    ),
    (
        "keys create",
        &[
            "tidegate keys create acme-prod --account acme",
            "tidegate keys create trial --account acme --expires 2027-01-31 --quota 5.00 --rpm 60 --model 'openai/*'",
            "tidegate keys create ci --account acme --ip 203.0.113.0/24 --metadata team=build",
        ],
    ),
    ("keys rotate", &["tidegate keys rotate acme-prod", "tidegate keys rotate acme-prod --overlap 7d"]),
    ("keys revoke", &["tidegate keys revoke acme-prod"]),
    ("keys restore", &["tidegate keys restore acme-prod"]),
    ("credit", &["tidegate credit acme 25.00 --once invoice-2027-014"]),
    ("ledger verify", &["tidegate ledger verify /var/lib/tidegate"]),
    ("ledger export", &["tidegate ledger export /var/lib/tidegate > ledger.jsonl"]),
    ("completions", &["tidegate completions bash > /etc/bash_completion.d/tidegate"]),
    ("schema", &["tidegate schema > tidegate.schema.json", "tidegate schema --format markdown"]),
    ("sandbox", &["tidegate sandbox --listen 127.0.0.1:9101"]),
];

/// Commands that print what they print in one form alone.
const OF_ONE_FORMAT: [&str; 2] = ["completions", "ledger export"];

/// The commands with their examples, and `--format` only where it changes something.
fn with_help(command: clap::Command) -> clap::Command {
    with_help_of("", command)
}

fn with_help_of(path: &str, mut command: clap::Command) -> clap::Command {
    if let Some((_, examples)) = EXAMPLES.iter().find(|(of, _)| *of == path) {
        command = command.after_help(format!("Examples:\n  {}", examples.join("\n  ")));
    }
    let format = || clap::Arg::new("format").long("format").global(true).default_value("text");
    if path == "schema" {
        let words = clap::builder::EnumValueParser::<Wanted>::new();
        let help =
            "json (the default) prints the schema, markdown the reference [possible values: json, markdown]";
        let format = format().value_parser(words).hide_possible_values(true).hide_default_value(true);
        command = command.arg(format.help(help));
    } else if OF_ONE_FORMAT.contains(&path) {
        command =
            command.arg(format().value_parser(clap::builder::EnumValueParser::<Wanted>::new()).hide(true));
    }
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| {
        let path = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command.mut_subcommand(name, |sub| with_help_of(&path, sub))
    })
}

/// Reads the word of an API.
fn api() -> impl TypedValueParser<Value = Api> {
    // Only known words come through the parser before.
    let named = |word: String| Api::WORDS.into_iter().find(|(known, _)| *known == word);
    PossibleValuesParser::new(Api::WORDS.map(|(word, _)| word))
        .map(move |word| named(word).map_or(Api::Chat, |(_, api)| api))
}

/// Prints what a shell is to be told of the commands.
fn completions(shell: clap_complete::Shell) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
    let _ = io::stdout().write_all(&script);
    Ok(ExitCode::SUCCESS)
}

/// Rows under their heads, as wide as need be, without space at their ends.
fn columns(head: &[&str], rows: &[Vec<String>], left_out: usize) -> String {
    let width = |column: usize, name: &str| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| style::width(cell));
        cells.chain([style::width(name)]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = head.iter().enumerate().map(|(column, name)| width(column, name)).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = |(cell, width): (&str, &usize)| {
            format!("{cell}{:1$}", "", width.saturating_sub(style::width(cell)))
        };
        let padded: Vec<_> = cells.zip(&widths).map(padded).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![String::new(), line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    if left_out > 0 {
        lines.push(format!("and {left_out} more"));
    }
    lines.join("\n")
}

/// How a command ended: well, or with what went wrong.
type Ended = Result<ExitCode, Complaint>;

/// What went wrong.
#[derive(Debug)]
struct Complaint {
    code: u8,
    what: String,
    /// The problems of a file, a line each; they begin with its name.
    of_file: bool,
}

impl Complaint {
    fn new(code: u8, what: impl std::fmt::Display) -> Self {
        Self { code, what: what.to_string(), of_file: false }
    }

    /// Every problem of a configuration.
    fn of(problems: &Problems) -> Self {
        Self { code: EXIT_CONFIG, what: problems.to_string(), of_file: true }
    }

    /// Says it: to people on standard error, to scripts on standard output, which is JSON then whatever happens.
    fn tell(self, format: Format) -> ExitCode {
        let Self { code, what, of_file } = self;
        match format {
            Format::Json if of_file => {
                let problems: Vec<_> = what.lines().collect();
                say(json!({ "error": "the configuration is wrong", "problems": problems }));
            }
            Format::Json => say(json!({ "error": what })),
            Format::Text if of_file => what.lines().for_each(|line| hint(style::problem(line))),
            Format::Text => hint(format_args!("{} {what}", style::paint(style::Tone::Bad, "tidegate:"))),
        }
        ExitCode::from(code)
    }
}

fn complain(code: u8, what: impl std::fmt::Display) -> Ended {
    Err(Complaint::new(code, what))
}

/// Reads what a running gateway answered for people: the words in it are others' and must not steer a terminal.
fn read<T: DeserializeOwned>(answer: &str) -> serde_json::Result<T> {
    let mut value: Value = serde_json::from_str(answer)?;
    make_printable(&mut value);
    serde_json::from_value(value)
}

fn make_printable(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(escaped) = printable(text) {
                *text = escaped;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_printable),
        Value::Object(members) => members.values_mut().for_each(make_printable),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Prints what a running gateway answered: as it is, or what `described` makes of it for people.
fn answered<T: DeserializeOwned>(
    answer: Result<String, String>,
    format: Format,
    described: impl FnOnce(T) -> String,
) -> Ended {
    let answer = answer.map_err(|why| Complaint::new(EXIT_RUNTIME, why))?;
    if format == Format::Json {
        say(answer.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    match read(&answer) {
        Ok(answer) => say(described(answer)),
        Err(e) => return complain(EXIT_RUNTIME, format_args!("the gateway's answer is odd: {e}")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes to standard output, without colour unless it is a terminal; a reader that left is not our problem.
fn say(what: impl std::fmt::Display) {
    let _ = writeln!(anstream::stdout(), "{what}");
}

/// Writes to standard error what is not the answer, likewise.
fn hint(what: impl std::fmt::Display) {
    let _ = writeln!(anstream::stderr(), "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no two arguments of a command are at odds, which clap would only find out when it is run.
    #[test]
    fn commands_are_consistent() {
        with_help(Cli::command()).debug_assert();
    }

    /// Goal: every command has examples in its help, each of which the command line takes, and no example is of a command that
    /// there is not.
    #[test]
    fn every_command_has_examples() {
        fn leaves(path: &str, command: &clap::Command, found: &mut Vec<String>) {
            let own = command.get_subcommands().filter(|sub| sub.get_name() != "help");
            let mut is_leaf = true;
            for sub in own {
                is_leaf = false;
                leaves(&format!("{path} {}", sub.get_name()), sub, found);
            }
            if is_leaf {
                found.push(path.trim_start().to_owned());
            }
        }
        let mut commands = Vec::new();
        leaves("", &Cli::command(), &mut commands);
        let with_examples: Vec<_> =
            EXAMPLES.iter().map(|(path, _)| *path).filter(|path| !path.is_empty()).collect();
        for command in &commands {
            assert!(with_examples.contains(&command.as_str()), "{command} has no example");
        }
        for (path, examples) in EXAMPLES {
            assert!(
                path.is_empty() || commands.iter().any(|command| command == path),
                "{path} is no command"
            );
            for example in *examples {
                let words = example.split(['<', '>']).next().unwrap().split_whitespace();
                let words: Vec<_> = words.map(|word| word.trim_matches('\'')).collect();
                let parsed = Cli::try_parse_from(words);
                assert!(
                    parsed.is_ok() && example.starts_with(&format!("tidegate {path}")),
                    "{example}: {parsed:?}"
                );
            }
        }
    }

    /// Goal: help lists the formats that a command has, and no others.
    #[test]
    fn help_lists_what_applies() {
        let help = |path: &[&str]| {
            let words = [&["tidegate"], path, &["--help"]].concat();
            with_help(Cli::command()).try_get_matches_from(words).unwrap_err().to_string()
        };
        assert!(help(&["status"]).contains("text") && !help(&["status"]).contains("markdown"));
        assert!(help(&["schema"]).contains("markdown") && !help(&["schema"]).contains("text,"));
        assert!(
            !help(&["completions"]).contains("--format") && !help(&["ledger", "export"]).contains("--format")
        );
        assert!(help(&["check"]).contains("Examples:\n  tidegate check tidegate.yaml"));
    }

    /// Goal: columns are as wide as their widest cell, and lines end where their text does.
    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "–".to_owned()], vec!["long".to_owned(), String::new()]];
        assert_eq!(columns(&["X", "Y"], &rows, 3), "\nX     Y\na     –\nlong\nand 3 more");
    }
}
