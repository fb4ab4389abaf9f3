//! `portcullis sandbox`: prints `ready`, and stays until it is interrupted.

mod world_file;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use portcullis_sandbox::engine::Clock;
use portcullis_sandbox::host::process::Console;
use portcullis_sandbox::sandbox::{HostOptions, Mode, Sandbox, SandboxOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{app_files, policies};

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
    /// Let the world's clock stand until it is moved, by POST /clock of the control API
    #[arg(long)]
    still: bool,
    /// What the app does with what it finds
    #[arg(long, value_name = "MODE", value_enum, default_value_t = GivenMode::Enforce)]
    mode: GivenMode,
    /// Have the app tell Application Insights of its work, too: GET /state of the control API shows it
    #[arg(long)]
    telemetry: bool,
    /// The rules that the app works by, instead of the shipped ones with the simulated people in them
    #[arg(long, value_name = "FOLDER")]
    policies: Option<PathBuf>,
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
    if arguments.vms == Some(0) {
        bail!("--vms 0: a world needs a VM; for an empty one, give --world a file that says {{}}");
    }
    let host = match arguments.no_host {
        true => None,
        false => Some(host().map_err(|error| anyhow!("{error}, or give --no-host"))?),
    };
    let policies = policies::folder(&arguments.dir, arguments.policies.as_deref())?;
    Ok(SandboxOptions {
        insights: arguments.telemetry,
        app_settings: vec![(policies::SETTING.to_owned(), policies.display().to_string())],
        world: arguments.world.as_deref().map(world_file::read).transpose()?,
        vms: arguments.vms,
        latency: Duration::from_millis(arguments.latency),
        host,
        clock: if arguments.still { Clock::Standing } else { Clock::Running },
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
            "there is no {HANDLER} beside this program, in {}: build it with `cargo build --bin {HANDLER}` (with --release if this is a release build)",
            folder.display()
        );
    }
    let mut options = HostOptions::new(handler, app_files::beside(folder)?);
    options.console = Console::PassedOn;
    Ok(options)
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
