//! `portcullis-trials matrix`: stories × settings × disturbances, and random walks.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{anyhow, bail};
use clap::{Args, Parser, Subcommand};
use comfy_table::{Cell as Field, CellAlignment, Table, presets};
use portcullis_trials::disturbance::{Call, Disturbance, Wrong};
use portcullis_trials::matrix::{Cell, Outcome, Unusual, at_once, disturbed, run, shipped_stories};
use portcullis_trials::play::can_begin;
use portcullis_trials::script::{How, Script};
use portcullis_trials::story::is_stale;
use portcullis_trials::verdict::audit_line;
use portcullis_trials::walk::{Walk, shown};
use tokio::signal::unix::{SignalKind, signal};

/// Stories that are played at once: most of their time they wait between two tries of a call.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(12).unwrap();

/// Trials of the real handler program in a simulated Azure
#[derive(Debug, Parser)]
#[command(name = "portcullis-trials")]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Plays stories under settings of what nobody knows about Azure, disturbed at each call of the handler, and judges the
    /// simulated world
    ///
    /// Without a choice it plays every story under every setting undisturbed, and every story in the usual world disturbed in
    /// every way at every call.
    Matrix(Arguments),
}

#[derive(Debug, Args)]
struct Arguments {
    /// A folder of stories, or one story, instead of those that come with this
    #[arg(long, value_name = "PATH")]
    stories: Option<PathBuf>,
    /// Only this story; may be given again
    #[arg(long, value_name = "NAME")]
    story: Vec<String>,
    /// The worlds to play in: a file of switches, instead of every setting of every switch, one at a time
    #[arg(long, value_name = "FILE")]
    switches: Option<PathBuf>,
    /// What goes wrong, at each call; may be given again. `none` leaves it at the undisturbed stories
    #[arg(long, value_name = "WHAT", value_parser = wrongs)]
    wrong: Vec<Wrongs>,
    /// Disturb the stories in every world, not in the usual one alone
    #[arg(long)]
    whole: bool,
    /// Disturb only every N-th call
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN)]
    every: NonZeroUsize,
    /// Play only so many of the cells, drawn from the seed
    #[arg(long, value_name = "N", group = "drawn")]
    sample: Option<NonZeroUsize>,
    /// Play these cells alone, and show all that there is to see; may be given again
    #[arg(long, value_name = "CELL", conflicts_with_all = ["story", "switches", "wrong", "whole", "every", "sample", "seeds"])]
    cell: Vec<String>,
    /// Walk at random so many times, from as many seeds, instead of playing the stories
    #[arg(long, value_name = "N", group = "drawn", conflicts_with_all = ["stories", "story", "switches", "wrong", "whole", "every", "sample"])]
    seeds: Option<NonZeroU64>,
    /// The first seed
    #[arg(long, value_name = "SEED", default_value_t = 1, requires = "drawn")]
    seed: u64,
    /// How many are played at once
    #[arg(long, value_name = "N", default_value_t = AT_ONCE)]
    jobs: NonZeroUsize,
    /// Where the names of the cells that failed are written, one a line: each is played alone with --cell, or with --seed
    #[arg(long, value_name = "FILE", default_value = "target/matrix-failed.txt")]
    failed: PathBuf,
    /// Say how each cell ended, not those that failed alone
    #[arg(long)]
    verbose: bool,
}

/// What may go wrong, as `--wrong` takes it.
#[derive(Clone, Debug)]
struct Wrongs(Vec<Wrong>);

fn wrongs(text: &str) -> Result<Wrongs, String> {
    match (text, Wrong::ALL.into_iter().find(|wrong| wrong.name() == text)) {
        (_, Some(wrong)) => Ok(Wrongs(vec![wrong])),
        ("none", None) => Ok(Wrongs(Vec::new())),
        _ => Err(format!("one of none, {}", Wrong::ALL.map(Wrong::name).join(", "))),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let What::Matrix(arguments) = Command::parse().what;
    let mut terminated = signal(SignalKind::terminate())?;
    // Whoever leaves drops the stories, and with them the handlers.
    let code = tokio::select! {
        code = run_matrix(&arguments) => code,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::FAILURE),
        _ = terminated.recv() => Ok(ExitCode::FAILURE),
    };
    // Where this program was when it found a mistake in a story helps nobody.
    code.or_else(|why| {
        eprintln!("Error: {why:#}");
        Ok(ExitCode::FAILURE)
    })
}

async fn run_matrix(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(why) = is_stale() {
        bail!("{why}");
    }
    let failed = match (&arguments.seeds, arguments.cell.as_slice()) {
        (Some(seeds), []) if seeds.get() == 1 => replay_walk(arguments).await?,
        (Some(seeds), []) => walk(arguments, seeds.get()).await?,
        (None, [_, ..]) => replay(arguments).await?,
        _ => matrix(arguments).await?,
    };
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn stories(arguments: &Arguments) -> anyhow::Result<Vec<(String, Script)>> {
    let path = arguments.stories.clone().unwrap_or_else(shipped_stories);
    let mut stories = Script::read_all(&path).map_err(|why| anyhow!("{why}"))?;
    if let Some(unknown) = arguments.story.iter().find(|name| stories.iter().all(|(known, _)| known != *name)) {
        let known: Vec<&str> = stories.iter().map(|(name, _)| name.as_str()).collect();
        bail!("there is no story '{unknown}': {}", known.join(", "));
    }
    stories.retain(|(name, _)| arguments.story.is_empty() || arguments.story.contains(name));
    for (name, script) in stories.iter().filter(|(_, script)| !script.world.settings.is_empty()) {
        can_begin(script).await.map_err(|why| anyhow!("{name}: world.settings: {why}"))?;
    }
    Ok(stories)
}

/// Plays the matrix, prints its table, and gives how many cells failed.
async fn matrix(arguments: &Arguments) -> anyhow::Result<usize> {
    let failures = Failures::begin(&arguments.failed)?;
    let stories = stories(arguments).await?;
    let settings = match &arguments.switches {
        Some(file) => Unusual::read_file(file).map_err(|why| anyhow!("{why}"))?,
        None => Unusual::every(),
    };
    let wrongs: Vec<Wrong> = match arguments.wrong.as_slice() {
        [] => Wrong::ALL.into(),
        given => given.iter().flat_map(|wrongs| wrongs.0.clone()).collect(),
    };
    let all: Vec<Cell> =
        stories.iter().flat_map(|story| settings.iter().map(|setting| Cell::undisturbed(story, setting)).collect::<Vec<_>>()).collect();
    let (undisturbed, of_another): (Vec<Cell>, Vec<Cell>) = all.into_iter().partition(Cell::is_of_its_world);
    for cell in of_another {
        println!("left out: {} in the world {}: it sets a switch of that itself, otherwise", cell.story, cell.setting);
    }
    // Worlds that are given are all meant; without any, the usual one stands for them unless the whole is asked for.
    let in_all = arguments.whole || arguments.switches.is_some();
    let counted: Vec<Cell> = undisturbed.iter().filter(|cell| in_all || cell.setting == Unusual::default()).cloned().collect();
    let calls = if wrongs.is_empty() { Vec::new() } else { counts(arguments.jobs, &counted).await };
    let mut cells = undisturbed;
    let mut uncounted = Vec::new();
    for (cell, calls) in counted.iter().zip(&calls) {
        match calls {
            Ok(calls) => cells.extend(disturbed(cell, calls, &wrongs, arguments.every)),
            Err(why) => {
                let outcome = Outcome::failed(format!("its calls could not be counted: {why}"));
                say(arguments, cell, &outcome);
                failures.add(&cell.to_string());
                cells.retain(|known| known.to_string() != cell.to_string());
                uncounted.push((cell, outcome));
            }
        }
    }
    let all = cells.len() + uncounted.len();
    if let Some(sample) = arguments.sample {
        fastrand::Rng::with_seed(arguments.seed).shuffle(&mut cells);
        cells.truncate(sample.get());
    }
    let drawn = if arguments.sample.is_some() { format!(" drawn from {all} by seed {}", arguments.seed) } else { String::new() };
    println!("{} cells{drawn}", cells.len() + uncounted.len());
    let ended = AtomicUsize::new(0);
    let outcomes = run(arguments.jobs, &cells, |cell, outcome| {
        say(arguments, cell, outcome);
        if !outcome.wrong.is_empty() {
            failures.add(&cell.to_string());
        }
        let ended = ended.fetch_add(1, Ordering::Relaxed) + 1;
        if ended.is_multiple_of(PROGRESS) {
            println!("{ended} of {} cells have ended", cells.len());
        }
    })
    .await;
    let all_played = uncounted.iter().map(|(cell, outcome)| (*cell, outcome)).chain(cells.iter().zip(&outcomes));
    let played: Vec<(&Cell, &Outcome)> = all_played.collect();
    println!("\n{}", by_world(&played));
    println!("\n{}", table(&played, &counted, &calls));
    let failed = played.iter().filter(|(_, outcome)| !outcome.wrong.is_empty()).count();
    let unmet = outcomes.iter().filter(|outcome| !outcome.is_met).count();
    let to_be_disturbed = cells.iter().filter(|cell| cell.disturbance != Disturbance::Nothing).count();
    println!("{} cells{drawn}, {unmet} of which made fewer calls than counted; {failed} failed", played.len());
    failures.end()?;
    // What was not disturbed shows nothing. Some calls more or less there always are.
    if unmet * 10 > to_be_disturbed {
        bail!("{unmet} of {to_be_disturbed} cells were not disturbed: they made fewer calls than the same story does alone");
    }
    Ok(failed)
}

/// A line of progress comes after so many cells.
const PROGRESS: usize = 500;

/// The calls that each cell makes, or why that could not be found out.
async fn counts(jobs: NonZeroUsize, cells: &[Cell]) -> Vec<Result<Vec<Call>, String>> {
    let counting = cells.iter().cloned().map(|cell| async move { cell.calls().await }).collect();
    let counted = at_once(jobs, counting, |_, _| {}).await;
    counted.into_iter().map(|calls| calls.and_then(|calls| calls)).collect()
}

fn say(arguments: &Arguments, cell: &Cell, outcome: &Outcome) {
    if !outcome.wrong.is_empty() {
        println!("FAILED {cell}\n    {}", outcome.wrong.join("\n").replace('\n', "\n    "));
    } else if arguments.verbose {
        println!("{cell}: {}", outcome.told.join("; "));
    }
}

/// A line a story: how many cells of each kind there were, and how many of them failed.
fn table(played: &[(&Cell, &Outcome)], counted: &[Cell], calls: &[Result<Vec<Call>, String>]) -> Table {
    let columns: Vec<String> = std::iter::once("undisturbed").chain(Wrong::ALL.map(Wrong::name)).map(str::to_owned).collect();
    let mut counts: BTreeMap<(&str, usize), (usize, usize)> = BTreeMap::new();
    for (cell, outcome) in played {
        let column = match &cell.disturbance {
            Disturbance::Nothing => 0,
            Disturbance::At(wrong, _) => 1 + Wrong::ALL.iter().position(|known| known == wrong).unwrap_or_default(),
        };
        let count = counts.entry((&cell.story, column)).or_default();
        count.0 += 1;
        count.1 += usize::from(!outcome.wrong.is_empty());
    }
    let mut table = blank();
    let heading = ["story".to_owned(), "calls".to_owned()].into_iter().chain(columns.iter().cloned());
    table.set_header(heading);
    let stories: std::collections::BTreeSet<&str> = played.iter().map(|(cell, _)| cell.story.as_str()).collect();
    for story in stories {
        let usual = counted.iter().position(|cell| cell.story == story);
        let its = usual.and_then(|place| calls.get(place)?.as_ref().ok());
        let mut row = vec![Field::new(story), right(its.map_or_else(String::new, |calls| calls.len().to_string()))];
        row.extend((0..columns.len()).map(|column| match counts.get(&(story, column)) {
            None => right("-".to_owned()),
            Some((all, 0)) => right(all.to_string()),
            Some((all, failed)) => right(format!("{failed} of {all} FAILED")),
        }));
        table.add_row(row);
    }
    table
}

/// A line a world: how many cells were played in it, how their ports ended, and how many of the cells failed.
fn by_world(played: &[(&Cell, &Outcome)]) -> Table {
    let mut worlds: BTreeMap<String, Vec<&Outcome>> = BTreeMap::new();
    for (cell, outcome) in played {
        worlds.entry(cell.setting.to_string()).or_default().push(outcome);
    }
    let mut table = blank();
    let ends = How::ALL.map(|how| how.to_string());
    table.set_header(["world".to_owned(), "cells".to_owned()].into_iter().chain(ends).chain(["failed".to_owned()]));
    for (world, outcomes) in worlds {
        let ended = How::ALL.map(|how| outcomes.iter().flat_map(|outcome| &outcome.ends).filter(|end| **end == how).count());
        let failed = outcomes.iter().filter(|outcome| !outcome.wrong.is_empty()).count();
        let mut row = vec![Field::new(world), right(outcomes.len().to_string())];
        row.extend(ended.map(|count| right(if count == 0 { "-".to_owned() } else { count.to_string() })));
        row.push(right(if failed == 0 { "-".to_owned() } else { format!("{failed} FAILED") }));
        table.add_row(row);
    }
    table
}

fn blank() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table
}

fn right(text: String) -> Field {
    Field::new(text).set_alignment(CellAlignment::Right)
}

/// The file that names what failed, from the first failure on: a run that is broken off has told its own.
struct Failures<'a> {
    path: &'a Path,
    unwritten: Mutex<Option<std::io::Error>>,
    count: AtomicUsize,
}

impl<'a> Failures<'a> {
    /// Forgets those of another run, which would be taken for this one's. A device or a pipe is written to, and never taken away.
    fn begin(path: &'a Path) -> anyhow::Result<Self> {
        let is_kept = path.metadata().is_ok_and(|known| !known.is_file() && !known.is_dir());
        match if is_kept { Ok(()) } else { std::fs::remove_file(path) } {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => bail!("{}: {why}", path.display()),
            _ => Ok(Failures { path, unwritten: Mutex::new(None), count: AtomicUsize::new(0) }),
        }
    }

    fn add(&self, name: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let written = || {
            if let Some(folder) = self.path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            writeln!(std::fs::File::options().create(true).append(true).open(self.path)?, "{name}")
        };
        if let Err(why) = written() {
            self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        }
    }

    /// Says where they are. The error is that of the first that could not be written.
    fn end(self) -> anyhow::Result<()> {
        if let Some(why) = self.unwritten.into_inner().unwrap_or_else(PoisonError::into_inner) {
            bail!("{}: {why}", self.path.display());
        }
        if self.count.into_inner() > 0 {
            println!("what failed is named in {}", self.path.display());
        }
        Ok(())
    }
}

/// Plays cells alone and shows what there is to see.
async fn replay(arguments: &Arguments) -> anyhow::Result<usize> {
    let stories = stories(arguments).await?;
    let mut failed = 0;
    for name in &arguments.cell {
        let cell = Cell::read(name, &stories).map_err(|why| anyhow!("{why}"))?;
        let (played, verdict) = cell.played().await.map_err(|why| anyhow!("{cell}: {why}"))?;
        println!("{cell}: {}\n", cell.script.tells);
        show(&played);
        println!("\n{}", verdict.told.join("\n"));
        verdict.wrong.iter().for_each(|why| println!("WRONG {why}"));
        if !played.is_met {
            println!("WRONG it was not disturbed: it made fewer calls than that");
        }
        failed += usize::from(!played.is_met || !verdict.wrong.is_empty());
    }
    Ok(failed)
}

fn show(played: &portcullis_trials::play::Played) {
    println!("{}\n", played.story.told());
    let mut audits: Vec<String> = played.story.audits().iter().map(audit_line).collect();
    audits.sort();
    println!("{}\n", audits.join("\n"));
    for met in played.story.world(|state| state.met.clone()) {
        println!("met: {} {:?} {} {} {}: {:?}", met.at.format("%T"), met.function, met.face, met.method, met.target, met.effect);
    }
}

/// Walks from each seed and gives how many walks failed.
async fn walk(arguments: &Arguments, seeds: u64) -> anyhow::Result<usize> {
    let (first, count) = (arguments.seed, usize::try_from(seeds).unwrap_or(usize::MAX));
    let walked = AtomicUsize::new(0);
    let walks = (first..=u64::MAX).take(count).map(|seed| async move { Walk::of(seed).played().await.map(|(_, wrong)| wrong) }).collect();
    let failures = Failures::begin(&arguments.failed)?;
    let outcomes = at_once(arguments.jobs, walks, |place, outcome| {
        let done = walked.fetch_add(1, Ordering::Relaxed) + 1;
        let wrong = wrong_of(outcome);
        if !wrong.is_empty() {
            let seed = first + place as u64;
            println!("FAILED seed {seed}\n    {}", wrong.join("\n").replace('\n', "\n    "));
            failures.add(&format!("--seeds 1 --seed {seed}"));
        } else if arguments.verbose && done.is_multiple_of(100) {
            println!("{done} walks");
        }
    })
    .await;
    let failed = outcomes.iter().filter(|outcome| !wrong_of(outcome).is_empty()).count();
    println!("{} walks from seed {first} to {}; {failed} failed", outcomes.len(), first.saturating_add(outcomes.len() as u64 - 1));
    failures.end()?;
    Ok(failed)
}

fn wrong_of(outcome: &Result<Result<Vec<String>, String>, String>) -> Vec<String> {
    match outcome {
        Ok(Ok(wrong)) => wrong.clone(),
        Ok(Err(why)) | Err(why) => vec![why.clone()],
    }
}

/// Walks from one seed and shows what there is to see.
async fn replay_walk(arguments: &Arguments) -> anyhow::Result<usize> {
    let walk = Walk::of(arguments.seed);
    println!("{}\n", shown(&walk));
    let (played, wrong) = walk.played().await.map_err(|why| anyhow!("{why}"))?;
    show(&played);
    wrong.iter().for_each(|why| println!("WRONG {why}"));
    if wrong.is_empty() {
        println!("it holds");
    }
    Ok(usize::from(!wrong.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_names_of_another_run_are_forgotten_and_what_is_no_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (file, socket) = (dir.path().join("failed.txt"), dir.path().join("socket"));
        std::fs::write(&file, "granted/usual/undisturbed\n").unwrap();
        let _listening = UnixListener::bind(&socket).unwrap();
        for path in [&file, &socket] {
            Failures::begin(path).unwrap();
        }
        assert_eq!((file.exists(), socket.exists()), (false, true));
        assert!(Failures::begin(dir.path()).is_err());
    }
}
