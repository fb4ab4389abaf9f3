//! `portcullis-handler`: the custom handler that the Azure Functions host starts.
//!
//! It ends with 0 only when a person at a terminal asks it to (SIGINT): the host takes a 0 for a program that is still there, and delivers to
//! nobody. Who ends it otherwise (SIGTERM) means it to begin anew, and gets 200, for which the host does that. A mistake in the
//! settings ends it with 1 after every mistake was told, which the host shows and, after three times, stops for.

#![warn(clippy::unwrap_used, clippy::expect_used)]

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use portcullis::VERSION;
use portcullis::console;
use portcullis::functions::App;
use portcullis::host;
use portcullis::host::serve::Asked;
use portcullis::settings::Settings;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The code for which the host starts the program again and counts no error (source of the Functions host: `WorkerProcess`).
const START_ME_AGAIN: u8 = 200;

/// The port that the host gives (documentation of custom handlers).
const PORT: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";

/// What `--help` says.
const HELP: &str = "\
portcullis-handler: the custom handler of Portcullis, which the Azure Functions host starts.
It takes no arguments: its settings are environment variables, which README.md lists under Deploying, and the host gives
it a port in FUNCTIONS_CUSTOMHANDLER_PORT. To see it at work without Azure: `portcullis demo` or `portcullis sandbox`.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {}
        ["--help" | "-h"] => return said(HELP),
        ["--version" | "-V"] => return said(&format!("portcullis-handler {VERSION}")),
        other => return refuse(&[format!("it takes no arguments but --help and --version, and was given `{}`", other.join(" "))]),
    }
    log_to_stdout();
    log_panics();
    // One thread: the work is waiting for answers, a plan's larger instances have one core or less, and a second
    // thread costs memory in the allocator for nothing.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&[format!("the program cannot start its event loop: {error}")]),
    };
    match runtime.block_on(run()) {
        Ok(Asked::ByHand) => ExitCode::SUCCESS,
        Ok(Asked::ToEnd) => ExitCode::from(START_ME_AGAIN),
        Err(mistakes) => refuse(&mistakes),
    }
}

/// Serves until asked to stop; an error is everything that is wrong, a sentence each.
async fn run() -> Result<Asked, Vec<String>> {
    let (port, settings) = match (port(), Settings::from_lookup(variable, names())) {
        (Ok(port), Ok(settings)) => (port, settings),
        (port, settings) => return Err(port.err().into_iter().chain(settings.err().into_iter().flat_map(|mistakes| mistakes.0)).collect()),
    };
    let listener = host::serve::bind(port)
        .await
        .map_err(|error| vec![format!("{PORT} is `{port}`, which cannot be bound on 127.0.0.1 ({error}): give it a free port")])?;
    announce(&settings, port);
    let app = App::new(&settings);
    // Beside the first invocation, so that the first look does not wait for it.
    let rulebook = app.rulebook.clone();
    tokio::spawn(async move { rulebook.rules().await.is_ok() });
    let telemetry = app.azure.telemetry.clone();
    tokio::spawn(telemetry.clone().run());
    let router = host::router(Arc::new(app.clone()), console::api(app, &settings));
    let served = host::serve::serve(listener, router).await.map_err(|error| vec![format!("the server ended: {error}")]);
    telemetry.stop().await;
    served
}

fn announce(settings: &Settings, port: u16) {
    let world = if settings.loopback() { "a SIMULATED Azure on loopback" } else { "Azure" };
    tracing::info!(
        version = VERSION,
        mode = settings.mode.text(),
        loopback = settings.loopback(),
        tenant.id = %settings.tenant_id,
        port,
        "portcullis-handler governs {world} in mode {}",
        settings.mode.text()
    );
}

fn port() -> Result<u16, String> {
    let cure = "the Azure Functions host sets it; to start the handler by hand, give it a free port";
    let text = variable(PORT).ok_or_else(|| format!("{PORT} is not set: {cure}"))?;
    match text.trim().parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!("{PORT} is `{text}`, which is no port: {cure}")),
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read, once, at the start")]
fn variable(name: &str) -> Option<String> {
    // What is no text becomes one that no setting takes, instead of counting as absent.
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read, once, at the start")]
fn names() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())
}

/// Standard output, since the host takes every line of standard error for an error; JSON unless a person watches.
///
/// The level is fixed: at `debug` the libraries below write of requests what no log may hold.
fn log_to_stdout() {
    let levels = Targets::new()
        .with_default(tracing::Level::WARN)
        .with_target("portcullis", tracing::Level::INFO)
        .with_target("portcullis_handler", tracing::Level::INFO);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stdout).with_ansi(false);
    if std::io::stdout().is_terminal() {
        tracing_subscriber::registry().with(lines.with_target(false).with_filter(levels)).init();
    } else {
        tracing_subscriber::registry().with(lines.json().flatten_event(true).with_filter(levels)).init();
    }
}

/// A panic is told as one line of the log: where it was, never the data it was about.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "the handler came upon a state that it does not know, at {place}");
    }));
}

fn said(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn refuse(mistakes: &[String]) -> ExitCode {
    let mut out = std::io::stdout().lock();
    for mistake in mistakes {
        // Nobody reads it if standard output is gone; the exit code says it then.
        let _ = writeln!(out, "portcullis-handler cannot start: {mistake}");
    }
    let _ = out.flush();
    ExitCode::FAILURE
}
