//! `portcullis sandbox`: prints `ready`, and stays until it is interrupted.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use portcullis_sandbox::engine::Clock;
use portcullis_sandbox::host::process::Console;
use portcullis_sandbox::sandbox::{HostOptions, Mode, Sandbox, SandboxOptions, begins};
use portcullis_sandbox::state::State;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app_files;

/// The handler's file name.
const HANDLER: &str = "portcullis-handler";

/// What `portcullis sandbox` is given.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where ca.pem and env are written
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The world to begin with, as GET /state of the control API shows it
    #[arg(long, value_name = "FILE", conflicts_with = "vms")]
    world: Option<PathBuf>,
    /// How many VMs the world has
    #[arg(long, value_name = "N")]
    vms: Option<usize>,
    /// Milliseconds that every answer of a service takes longer
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency: u64,
    /// Start no handler and deliver nothing: whoever calls is the host
    #[arg(long)]
    no_host: bool,
    /// What the app does with what it finds
    #[arg(long, value_name = "MODE", value_enum, default_value_t = GivenMode::Enforce)]
    mode: GivenMode,
}

/// The app's mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GivenMode {
    /// Say what would be done
    Observe,
    /// Do it
    Enforce,
}

/// Runs the command until SIGINT, SIGTERM or SIGHUP.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    // Caught from here on, so that an interrupt while starting leaves no handler behind.
    let mut signals = Signals::caught()?;
    let options = options(arguments)?;
    let started = tokio::select! {
        started = Sandbox::start(options) => started.context("the sandbox cannot start")?,
        () = signals.any() => return Ok(()),
    };
    let mut out = std::io::stdout();
    writeln!(out, "ready").and_then(|()| out.flush()).context("standard output cannot be written")?;
    signals.any().await;
    drop(started);
    Ok(())
}

fn options(arguments: Arguments) -> anyhow::Result<SandboxOptions> {
    let host = if arguments.no_host { None } else { Some(host()?) };
    Ok(SandboxOptions {
        world: arguments.world.as_deref().map(world).transpose()?,
        vms: arguments.vms,
        latency: Duration::from_millis(arguments.latency),
        host,
        clock: Clock::Running,
        mode: match arguments.mode {
            GivenMode::Observe => Mode::Observe,
            GivenMode::Enforce => Mode::Enforce,
        },
        dir: arguments.dir,
    })
}

/// The handler that lies beside this program.
pub fn host() -> anyhow::Result<HostOptions> {
    let own = std::env::current_exe().context("this program does not find itself")?;
    let folder = own.parent().context("this program lies in no folder")?;
    let handler = folder.join(HANDLER);
    if !handler.is_file() {
        bail!(
            "there is no {HANDLER} beside this program, in {}: build it with `cargo build --bin {HANDLER}` (with --release if this is a release build), or give --no-host",
            folder.display()
        );
    }
    let mut options = HostOptions::new(handler, app_files::beside(folder)?);
    options.console = Console::PassedOn;
    Ok(options)
}

/// Reads a world; what is wrong with it is said with its file, line and column.
fn world(path: &Path) -> anyhow::Result<State> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut state: State = serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let why = error.to_string();
        let why = why.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&why).to_owned();
        anyhow::anyhow!("{}:{line}:{column}: {why}", path.display())
    })?;
    let file: Value = serde_json::from_str(&text)?;
    check_resources(&file).with_context(|| path.display().to_string())?;
    if file.get("now").is_none() {
        state.now = begins(Clock::Running);
    }
    Ok(state)
}

/// A resource without an id could not be reached, and would be lost without a word.
fn check_resources(file: &Value) -> anyhow::Result<()> {
    let resources = file.get("resources").and_then(Value::as_array);
    for (place, resource) in resources.into_iter().flatten().enumerate() {
        let id = resource.get("id").and_then(Value::as_str).unwrap_or_default();
        if !id.starts_with('/') {
            bail!("resource {} of the list has no id such as /subscriptions/…", place + 1);
        }
    }
    Ok(())
}

/// The signals that end a command.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches them from now on.
    pub fn caught() -> anyhow::Result<Signals> {
        let caught = |kind| signal(kind).context("signals cannot be caught");
        Ok(Signals {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
            hangup: caught(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them.
    pub async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
