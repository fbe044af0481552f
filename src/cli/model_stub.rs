//! A model without a model: speaks the calls of the Gemini API that agents make, and answers from a script.
//!
//! For running without a key, for tests and for benchmarks. It keeps and logs nothing of what it is told. What it answers is decided by
//! `script` (pure), written by `answer` (pure) and sent by `server`.

mod answer;
mod prompt;
mod script;
mod server;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use secrecy::SecretString;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

pub use script::{Rule, Script, ToolCall};
pub use server::serve;

/// What a prompt may say to the stub; part of `--help`.
const DIRECTIVES: &str = "\
A prompt tells the stub what to do; without a word of this it gets a short friendly answer that repeats it:

  [chunks:50]        answer in 50 numbered pieces: \"chunk-1 \", \"chunk-2 \", …
  [words:TEXT]       answer exactly TEXT, a word a piece
  [thought:TEXT]     think TEXT first
  [delay:20]         wait 20 ms between pieces
  [tool:NAME ARGS]   ask for a tool, and answer once its result is there; several are asked for one after the other.
                     ARGS are key=value pairs (a value goes on to the next key= or to the end; \"…\" quotes it)
                     or one JSON object. For write_file, path and text stand for file_path and content
                     [tool:write_file path=notes.txt text=hello]   [tool:run_shell_command command=ls -l]
  [error:429]        fail with this status
  [hang]             never answer
  [stall]            send all pieces, but never end

A script file is {\"rules\": [{\"when\": \"part of a prompt\", \"calls\": [{\"name\": …, \"args\": {…}}], \"thought\": …,
\"say\": [\"piece\", …], \"delay_ms\": 0, \"error\": 429}]}; the first rule whose `when` is in the prompt is followed.";

/// Serve a scripted model, for running without a key.
#[derive(Debug, clap::Args)]
#[command(after_help = DIRECTIVES)]
pub struct ModelStubArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9090")]
    pub address: SocketAddr,
    /// Rules that come before the built-in answer (JSON).
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Pause between the pieces of an answer, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub delay_ms: u64,
    /// Refuse requests without this key, as the Gemini API does.
    #[arg(long, value_name = "KEY", env = "MODEL_STUB_KEY", hide_env_values = true)]
    pub require_key: Option<SecretString>,
    /// Repeat a wrong key in the refusal, as the Gemini API does with a suspended one. For proving that it stays out of sandboxes.
    #[arg(long, requires = "require_key")]
    pub echo_key: bool,
}

/// How a stub behaves.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The only key that is let in; none lets everyone in.
    pub require_key: Option<SecretString>,
    /// Whether the refusal of a wrong key repeats it.
    pub echo_key: bool,
    /// Pause between the pieces of an answer, unless the prompt says otherwise.
    pub delay: Duration,
    /// Rules that come before the built-in answer.
    pub script: Script,
}

/// Serves until the process is told to stop.
///
/// # Errors
/// The script can't be read, or the address can't be listened on.
pub async fn run(args: ModelStubArgs) -> anyhow::Result<()> {
    let script = match &args.script {
        Some(file) => {
            let text = std::fs::read(file).with_context(|| format!("can't read the script {}", file.display()))?;
            serde_json::from_slice(&text).with_context(|| format!("the script {} is faulty", file.display()))?
        }
        None => Script::default(),
    };
    let delay = Duration::from_millis(args.delay_ms);
    let options = Options { require_key: args.require_key, echo_key: args.echo_key, delay, script };
    let listener =
        TcpListener::bind(args.address).await.with_context(|| format!("can't listen on {}", args.address))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    println!("model stub on http://{}", listener.local_addr()?);
    serve(listener, options, async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
    .await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    enum Command {
        ModelStub(ModelStubArgs),
    }

    #[test]
    fn the_help_tells_what_a_prompt_may_say() {
        let mut command = Command::command();
        command.clone().debug_assert();
        let stub = command.find_subcommand_mut("model-stub").expect("the subcommand");
        assert!(stub.render_long_help().to_string().contains("[tool:write_file path=notes.txt text=hello]"));
    }

    #[test]
    fn a_key_on_the_command_line_is_not_printed() {
        let command = Command::try_parse_from(["greenroom", "model-stub", "--require-key", "canary"]).expect("parses");
        assert!(!format!("{command:?}").contains("canary"));
    }
}
