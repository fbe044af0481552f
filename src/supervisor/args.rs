//! The supervisor's command line, parsed by hand: a parser crate would be a third of the program.

use std::{ffi::OsString, path::PathBuf, time::Duration};

/// Smallest accepted ring: one whole chunk and its cost fit.
const RING_MIN: usize = 128 * 1024;

/// What `--help` prints.
pub const HELP: &str = "\
PID 1 of a Greenroom sandbox: starts the agent, carries its stdio to the server, ends with it.

usage: supervisor run [options] -- COMMAND [ARGUMENT]...
       supervisor probe        print what the sandbox looks like from inside, as one JSON line

  --run-dir DIR          folder with link.sock, gateway.sock and egress.sock (default /.greenroom/run)
  --relay-port PORT      loopback port relayed to gateway.sock; 0 picks one (default 0)
  --proxy-port PORT      loopback port relayed to egress.sock; 0 picks one (default 0)
  --orphan-grace-ms N    how long the agent may live without a server (default 60000)
  --ring-bytes N         output kept until the server has it (default 4194304, at least 131072)
  --version, --help
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Run an agent.
    Run(RunOptions),
    /// Report what is seen from inside.
    Probe,
    /// Print the version.
    Version,
    /// Print [`HELP`].
    Help,
}

/// Settings of `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// Folder with `link.sock`, `gateway.sock` and `egress.sock`.
    pub run_dir: PathBuf,
    /// Port of the relay to the model; 0 picks one.
    pub relay_port: u16,
    /// Port of the relay to the proxy for the agent's tools; 0 picks one.
    pub proxy_port: u16,
    /// How long the agent may live without a server.
    pub orphan_grace: Duration,
    /// Output kept until it is acknowledged, in bytes.
    pub ring_bytes: usize,
    /// The agent's program and its arguments; never empty.
    pub command: Vec<OsString>,
}

/// Why the command line was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// No or unknown command.
    #[error("expected run, probe, --version or --help")]
    Command,
    /// An option that doesn't exist.
    #[error("unknown option {0}")]
    Unknown(String),
    /// An option without a usable value.
    #[error("{option} needs {expected}")]
    Value {
        /// Which option.
        option: &'static str,
        /// What would be right.
        expected: &'static str,
    },
    /// Nothing to run.
    #[error("no command after --")]
    NothingToRun,
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// The first fault found.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, ArgsError> {
    let mut arguments = arguments.into_iter();
    match arguments.next().as_ref().and_then(|word| word.to_str()) {
        Some("run") => parse_run(arguments).map(Command::Run),
        Some("probe") => Ok(Command::Probe),
        Some("--version") => Ok(Command::Version),
        Some("--help") => Ok(Command::Help),
        _ => Err(ArgsError::Command),
    }
}

fn parse_run(mut arguments: impl Iterator<Item = OsString>) -> Result<RunOptions, ArgsError> {
    let mut options = RunOptions {
        run_dir: PathBuf::from("/.greenroom/run"),
        relay_port: 0,
        proxy_port: 0,
        orphan_grace: Duration::from_secs(60),
        ring_bytes: 4 * 1024 * 1024,
        command: Vec::new(),
    };
    while let Some(option) = arguments.next() {
        match option.to_str() {
            Some("--") => {
                options.command = arguments.collect();
                break;
            }
            Some("--run-dir") => {
                let value = arguments.next().filter(|value| !value.is_empty());
                options.run_dir =
                    value.map(PathBuf::from).ok_or(ArgsError::Value { option: "--run-dir", expected: "a folder" })?;
            }
            Some("--relay-port") => {
                options.relay_port = number("--relay-port", "a port", arguments.next())?;
            }
            Some("--proxy-port") => {
                options.proxy_port = number("--proxy-port", "a port", arguments.next())?;
            }
            Some("--orphan-grace-ms") => {
                let grace: u32 = number("--orphan-grace-ms", "a number of milliseconds", arguments.next())?;
                options.orphan_grace = Duration::from_millis(grace.into());
            }
            Some("--ring-bytes") => {
                let expected = "a number of bytes, at least 131072";
                options.ring_bytes = number("--ring-bytes", expected, arguments.next())?;
                if options.ring_bytes < RING_MIN {
                    return Err(ArgsError::Value { option: "--ring-bytes", expected });
                }
            }
            _ => return Err(ArgsError::Unknown(option.to_string_lossy().into_owned())),
        }
    }
    if options.command.is_empty() { Err(ArgsError::NothingToRun) } else { Ok(options) }
}

fn number<N: std::str::FromStr>(
    option: &'static str,
    expected: &'static str,
    value: Option<OsString>,
) -> Result<N, ArgsError> {
    let value = value.as_ref().and_then(|value| value.to_str()).and_then(|value| value.parse().ok());
    value.ok_or(ArgsError::Value { option, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Command, ArgsError> {
        parse(words.split_whitespace().map(OsString::from))
    }

    #[test]
    fn everything_after_the_two_dashes_belongs_to_the_agent() {
        let words = "run --run-dir /r --relay-port 7 --proxy-port 8 --orphan-grace-ms 2000 --ring-bytes 200000 -- sh --version -- x";
        let Ok(Command::Run(options)) = parse_words(words) else { panic!("not understood") };
        assert_eq!(options.command, ["sh", "--version", "--", "x"]);
        assert_eq!((options.run_dir, options.relay_port, options.proxy_port), (PathBuf::from("/r"), 7, 8));
        assert_eq!((options.orphan_grace, options.ring_bytes), (Duration::from_secs(2), 200_000));
    }

    #[test]
    fn faults_are_told() {
        assert_eq!(parse_words(""), Err(ArgsError::Command));
        assert_eq!(parse_words("run"), Err(ArgsError::NothingToRun));
        assert_eq!(parse_words("run --"), Err(ArgsError::NothingToRun));
        assert_eq!(parse_words("run sh"), Err(ArgsError::Unknown("sh".into())));
        assert!(matches!(parse_words("run --ring-bytes 10 -- sh"), Err(ArgsError::Value { .. })));
        assert!(matches!(parse_words("run --relay-port 70000 -- sh"), Err(ArgsError::Value { .. })));
        assert!(matches!(parse_words("run --orphan-grace-ms"), Err(ArgsError::Value { .. })));
    }
}
