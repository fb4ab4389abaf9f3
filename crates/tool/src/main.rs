//! `portcullis`: the program for people.

#![warn(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod app_files;
mod deadletter;
mod demo;
mod doctor;
mod policies;
mod rules;
mod sandbox;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use portcullis_tool::live_probe;

/// Governs just-in-time VM access of Microsoft Defender for Cloud.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a simulated Azure with the Functions app in it, on this machine alone.
    Sandbox(sandbox::Arguments),
    /// Asks for a port to be opened, and waits until it is open or refused.
    Grant(access::Grant),
    /// Ends a grant early, and waits until it is proved shut.
    Close(access::Close),
    /// Shows what is granted.
    Grants(access::Grants),
    /// Shows what came to no end, and has it worked on again.
    #[command(subcommand)]
    Deadletter(deadletter::Command),
    /// Looks at what a running Portcullis stands on, and says what is wrong and what to do about it.
    Doctor(doctor::Arguments),
    /// Checks, tests, explains and replays rules.
    #[command(subcommand)]
    Rules(rules::Command),
    /// Plays an hour of a simulated Azure under Portcullis, and judges by what the world shows.
    Demo(demo::Arguments),
    /// Finds out on a VM of yours, in the real Azure, how JIT behaves where Microsoft does not say, and what to set.
    ///
    /// It opens to addresses of documentation alone, which nobody has, and puts back what it changed.
    LiveProbe(live_probe::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .without_time()
        .init();
    let ended = match Cli::parse().command {
        Command::Sandbox(arguments) => sandbox::run(arguments).await.map(|()| ExitCode::SUCCESS),
        Command::Grant(arguments) => access::grant(arguments).await,
        Command::Close(arguments) => access::close(arguments).await,
        Command::Grants(arguments) => access::grants(arguments).await,
        Command::Deadletter(command) => deadletter::run(command).await,
        Command::Doctor(arguments) => doctor::run(arguments).await,
        Command::Rules(command) => rules::run(command),
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::LiveProbe(arguments) => probed(arguments).await,
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn probed(arguments: live_probe::Arguments) -> anyhow::Result<ExitCode> {
    live_probe::run(arguments, access::client()?).await
}
