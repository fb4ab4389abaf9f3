//! `portcullis demo`: an hour of a simulated Azure under Portcullis, told from what the world wrote down, and judged
//! by what the world shows.

mod ending;
mod story;
mod timeline;
mod verdict;
mod watch;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use portcullis_sandbox::engine::Clock;
use portcullis_sandbox::estate;
use portcullis_sandbox::host::process::{Console, Process};
use portcullis_sandbox::sandbox::{Sandbox, SandboxOptions};
use portcullis_sandbox::state::{Lock, LockLevel, State};
use portcullis_sandbox::switches::{Events, Requestor, Returns};

use self::timeline::{Palette, Timeline, Tone, wrapped};
use self::watch::Watch;
use crate::policies;
use crate::sandbox::{Signals, host};

/// What `portcullis demo` is given.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Break one thing in the simulated Azure: the demo must then fail and say what went wrong
    #[arg(long = "break", value_name = "THING", value_enum)]
    broken: Option<Broken>,
    /// Stay up after the end, until Ctrl-C, and say where to look
    #[arg(long)]
    keep: bool,
}

/// What is broken in the world from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Broken {
    /// A delete lock on every network security group
    Close,
    /// No event is delivered
    Event,
    /// A deleted rule always comes back
    Rule,
    /// The Logs Ingestion endpoint answers 403
    Alert,
}

impl Broken {
    /// What is broken, for the first lines.
    fn sentence(self) -> &'static str {
        match self {
            Broken::Close => "a delete lock lies on every network security group.",
            Broken::Event => "Event Grid delivers no event.",
            Broken::Rule => "JIT writes every deleted rule again, always.",
            Broken::Alert => "the Logs Ingestion endpoint answers 403, so Sentinel gets no row.",
        }
    }
}

/// Plays the hour, and answers with success only if the world shows that all went as it should.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    // Caught from here on, so that an interrupt leaves no handler behind.
    let mut signals = Signals::caught()?;
    let dir = tempfile::Builder::new().prefix("portcullis-demo-").tempdir().context("no temporary folder can be made")?;
    let shown = tokio::select! {
        shown = show(arguments.broken, dir.path()) => shown?,
        () = signals.any() => return Ok(ExitCode::FAILURE),
    };
    if arguments.keep {
        let running = shown.sandbox.engine.run();
        say(&format!("\n{}\n", ending::where_to_look(&shown.sandbox, dir.path())))?;
        signals.any().await;
        running.abort();
    }
    Ok(shown.code)
}

/// A demo that has been played.
struct Shown {
    sandbox: Sandbox,
    code: ExitCode,
}

async fn show(broken: Option<Broken>, dir: &Path) -> anyhow::Result<Shown> {
    let mut options = SandboxOptions::new(dir);
    options.world = Some(world(broken));
    options.clock = Clock::Standing;
    let mut app = host()?;
    app.console = Console::Kept;
    app.settings.push(("PORTCULLIS_LONGEST_OPENING".to_owned(), verdict::LONGEST.to_owned()));
    options.host = Some(app);
    options.app_settings = vec![(policies::SETTING.to_owned(), policies::folder(dir, None)?.display().to_string())];
    let sandbox = Sandbox::start(options).await.context("the sandbox cannot start")?;

    let Screen { palette, width } = Screen::here();
    say(&format!("{}\n\n", wrapped(&story::introduction(sandbox.now()), width).join("\n")))?;
    if let Some(broken) = broken {
        let rows = wrapped(&format!("Broken on purpose: {}", broken.sentence()), width);
        let rows: Vec<String> = rows.iter().map(|row| palette.paint(Tone::Bad, row)).collect();
        say(&format!("{}\n\n", rows.join("\n")))?;
    }
    let mut watch = Watch::default();
    let mut timeline = Timeline::new(palette, width);
    story::play(&sandbox, |state| say(&timeline.told(&watch.look(state)))).await?;
    say(&timeline.rest())?;

    let failed = sandbox.host.as_ref().map(|host| host.record().failures()).unwrap_or_default();
    let (ending, wrong) = {
        let state = sandbox.world.lock();
        (ending::table_and_sums(&state, &watch, width), verdict::wrong(&state, &watch, &failed))
    };
    say(&format!("\n{ending}\n\n{}\n", ending::verdict(&wrong, palette, width)))?;
    if let Some(said) = unasked(&sandbox) {
        say(&format!("\n{said}\n"))?;
    }
    let code = if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Ok(Shown { sandbox, code })
}

/// The right without which the Logs Ingestion endpoint answers 403.
const INGEST: &str = "Microsoft.Insights/Telemetry/Write";

/// Whoever reads may have gone away: that is an end, not a panic.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output cannot be written")
}

/// A small estate in which one thing may be broken.
fn world(broken: Option<Broken>) -> State {
    let mut state = State::default();
    estate::small(&mut state);
    // JIT's records say nothing of who asked, as for tokens of programs: only events and the activity log do.
    state.switches.requestor = Requestor::Empty;
    for name in ["web-1", "web-2"] {
        let id = estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Compute/virtualMachines", name);
        if let Some(vm) = state.resources.get_mut(&id) {
            vm["tags"] = serde_json::json!({"environment": "development"});
        }
    }
    match broken {
        None => {}
        Some(Broken::Close) => {
            let groups = state.resources.of_type("Microsoft.Network/networkSecurityGroups");
            let ids = groups.filter_map(|group| group["id"].as_str());
            state.locks = ids.map(|id| Lock::new(id, LockLevel::CanNotDelete)).collect();
        }
        Some(Broken::Event) => state.switches.events = Events::Never,
        Some(Broken::Rule) => state.switches.deleted_rule_returns = Returns::Always,
        Some(Broken::Alert) => {
            let app = state.principals.iter_mut().filter(|principal| principal.managed_identity);
            for assignment in app.flat_map(|principal| &mut principal.assignments) {
                assignment.actions.retain(|action| action != INGEST);
            }
        }
    }
    state
}

/// What the handler said last, if it ended without being asked to: nothing else tells why.
fn unasked(sandbox: &Sandbox) -> Option<String> {
    let process = sandbox.host.as_ref()?.process().filter(|process| process.starts() > 1)?;
    let lines = Process::lines(process);
    let last = lines.iter().rev().take(10).rev().cloned().collect::<Vec<_>>().join("\n");
    Some(format!("portcullis-handler was started {} times; it said last:\n{last}", process.starts()))
}

/// How the output is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Screen {
    palette: Palette,
    width: usize,
}

/// The width where there is no terminal, and the widest that is read well.
const WIDEST: usize = 120;
/// Below this a table says nothing any more.
const NARROWEST: usize = 60;

impl Screen {
    #[expect(clippy::disallowed_methods, reason = "the one place of this command that reads the environment, at its start")]
    fn here() -> Screen {
        let is_terminal = std::io::stdout().is_terminal();
        // A table knows how wide the terminal is that it would be printed to.
        let terminal = comfy_table::Table::new().width();
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let plain = set("NO_COLOR").is_some() || set("TERM").as_deref() == Some("dumb");
        Screen::of(is_terminal, plain, set("COLUMNS").as_deref(), terminal)
    }

    fn of(is_terminal: bool, plain: bool, columns: Option<&str>, terminal: Option<u16>) -> Screen {
        let columns = columns.and_then(|columns| columns.parse().ok());
        let width = columns.or(terminal.filter(|_| is_terminal)).map_or(WIDEST, usize::from);
        let palette = if is_terminal && !plain { Palette::Colour } else { Palette::Plain };
        Screen { palette, width: width.clamp(NARROWEST, WIDEST) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_says_how_wide_and_whether_in_colour() {
        let rows = [
            ((false, false, None, None), Palette::Plain, 120),
            ((false, false, Some("80"), None), Palette::Plain, 80),
            ((true, false, None, Some(80)), Palette::Colour, 80),
            ((true, false, Some("100"), Some(80)), Palette::Colour, 100),
            ((true, true, None, Some(80)), Palette::Plain, 80),
            ((true, false, Some("wide"), Some(300)), Palette::Colour, 120),
            ((true, false, None, Some(20)), Palette::Colour, 60),
        ];
        for ((is_terminal, plain, columns, terminal), palette, width) in rows {
            assert_eq!(Screen::of(is_terminal, plain, columns, terminal), Screen { palette, width });
        }
    }
}
