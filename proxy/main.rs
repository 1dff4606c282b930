//! The command line: `serve`, `check`, `schema`, `test`, `init`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use moongate::{cli, logs, server, testing};

/// The programmable agent gateway: an OpenAI-compatible proxy that runs agents.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (what happens without a command, too).
    Serve(Serve),
    /// Say what is wrong with a configuration: exit 0, or 1 with file:line:col of each fault.
    Check(Config),
    /// Print the JSON Schema of the configuration.
    Schema,
    /// Run the tests of scripts, files called *_test.lua: exit 0, or 1 when one failed or there was none.
    Test {
        /// Files, and folders to look through. Default: the current folder.
        paths: Vec<PathBuf>,
        /// Run them again whenever a file changes.
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        config: Config,
    },
    /// Write a working starter into a folder.
    Init {
        /// The folder.
        dir: PathBuf,
    },
    /// The demo's tools, an MCP server on standard input and output.
    #[command(hide = true)]
    DemoTools,
}

#[derive(clap::Args)]
struct Config {
    /// The configuration's file.
    #[arg(long, default_value = "config/gateway.yaml", env = "MOONGATE_CONFIG")]
    config: PathBuf,
}

#[derive(clap::Args)]
struct Serve {
    #[command(flatten)]
    config: Config,
    /// The address to listen on, in place of the configuration's.
    #[arg(long, env = "MOONGATE_LISTEN")]
    listen: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let code = match arguments.command.unwrap_or(Command::Serve(arguments.serve)) {
        Command::Serve(Serve { config, listen }) => {
            logs::start(&config.config);
            cli::serve(&server::Options { config: config.config, listen })
        }
        Command::Check(config) => cli::check(&config.config),
        Command::Schema => cli::schema(),
        Command::Test { paths, watch, config } => cli::test(&testing::Options { paths, config: config.config, watch }),
        Command::Init { dir } => cli::init(&dir),
        Command::DemoTools => cli::demo_tools(),
    };
    logs::flush();
    code
}
