//! `portcullis rules`: checks, tests, explains and replays a folder of rules. Nothing of Azure is called.

mod explain;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use portcullis_rules::files::RuleFiles;
use portcullis_rules::mistake::{Colours, Mistake, Weight};
use portcullis_rules::plain::plain;
use portcullis_rules::replay;
use portcullis_rules::scenario::{self, Checked, Report, Tested};
use portcullis_rules::set::Rules;

/// What the rules are asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Checks rules, people, networks and scenarios, and tells every mistake with its place and cure.
    ///
    /// Exits with 1 where one of them is an error. Warnings keep nothing from being used: with them alone it exits with 0, unless
    /// they are denied.
    Check(CheckArguments),
    /// Decides on every scenario of the folder's tests/, and tells which came to something else than expected.
    ///
    /// Exits with 1 where one did.
    Test(TestArguments),
    /// Decides on one request and tells the rule, its text, the facts, and what came nearest.
    Explain(Box<explain::Arguments>),
    /// Decides again on stored decisions, and tells which of them this set decides otherwise, and why.
    ///
    /// Exits with 1 where one is, and with 2 where the file cannot be read, holds no decision, or something that is none.
    Replay(ReplayArguments),
}

/// Where the rules are.
#[derive(Args, Debug)]
pub struct Folder {
    /// The folder of the rules.
    #[arg(value_name = "FOLDER", default_value = "policies")]
    folder: PathBuf,
}

#[derive(Args, Debug)]
pub struct CheckArguments {
    #[command(flatten)]
    folder: Folder,
    /// Exit with 1 for a warning, too.
    #[arg(long)]
    deny_warnings: bool,
}

#[derive(Args, Debug)]
pub struct TestArguments {
    #[command(flatten)]
    folder: Folder,
    /// Fail, too, when a rule decides in no scenario, or none misses it by one thing alone.
    #[arg(long)]
    every_rule: bool,
}

#[derive(Args, Debug)]
pub struct ReplayArguments {
    #[command(flatten)]
    folder: Folder,
    /// A file of decisions: a JSON list, a page that the API answered, or one JSON object a line; audit records that hold one will do.
    #[arg(long, value_name = "FILE")]
    decisions: PathBuf,
}

/// Does what is asked.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check(arguments) => check(&arguments),
        Command::Test(arguments) => test(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Replay(arguments) => replayed(&arguments),
    }
}

impl Folder {
    fn files(&self) -> anyhow::Result<RuleFiles> {
        match RuleFiles::read(&self.folder) {
            Err(why) if !self.folder.is_dir() => {
                Err(why).with_context(|| format!("there are no rules at {}: name their folder", self.folder.display()))
            }
            read => Ok(read?),
        }
    }

    /// The set, or nothing once every mistake in it is told.
    fn loaded(&self, files: &RuleFiles) -> Option<Rules> {
        let (rules, mistakes) = Rules::check(files);
        self.tell(files, &mistakes);
        if rules.is_none() {
            anstream::println!("{}: this set cannot be used", counted(&mistakes));
        }
        rules
    }

    fn tell(&self, files: &RuleFiles, mistakes: &[Mistake]) {
        for mistake in mistakes.iter().take(MOST_TOLD) {
            anstream::println!("{}\n", mistake.shown(files, &self.shown_in(), Colours::Terminal));
        }
        if let Some(more) = mistakes.len().checked_sub(MOST_TOLD).filter(|more| *more > 0) {
            anstream::println!("… and {more} more: mend these first\n");
        }
    }

    /// What is put before the names of files.
    fn shown_in(&self) -> String {
        format!("{}/", self.folder.display().to_string().trim_end_matches('/'))
    }
}

/// More mistakes than anybody mends at once: of a file of another kind there could be hundreds of thousands.
const MOST_TOLD: usize = 1000;

/// A number and its noun.
fn many(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn counted(mistakes: &[Mistake]) -> String {
    let count = |weight| mistakes.iter().filter(|mistake| mistake.weight == weight).count();
    match (count(Weight::Error), count(Weight::Warning)) {
        (0, 0) => "no mistakes".to_owned(),
        (0, warnings) => many(warnings, "warning"),
        (errors, 0) => many(errors, "error"),
        (errors, warnings) => format!("{}, {}", many(errors, "error"), many(warnings, "warning")),
    }
}

fn check(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let folder = &arguments.folder;
    let files = folder.files()?;
    let Checked { rules, scenarios, mistakes } = scenario::check(&files);
    folder.tell(&files, &mistakes);
    match &rules {
        Some(rules) => {
            let held = format!("{}, {}, set {}", many(rules.rules().count(), "rule"), many(scenarios.len(), "scenario"), rules.hash());
            anstream::println!("{held}: {}", counted(&mistakes));
        }
        None => anstream::println!("{}: this set cannot be used", counted(&mistakes)),
    }
    let is_denied = |mistake: &Mistake| mistake.weight == Weight::Error || arguments.deny_warnings;
    Ok(if mistakes.iter().any(is_denied) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn test(arguments: &TestArguments) -> anyhow::Result<ExitCode> {
    let folder = &arguments.folder;
    let files = folder.files()?;
    let Checked { rules, scenarios, mistakes } = scenario::check(&files);
    folder.tell(&files, &mistakes);
    if mistakes.iter().any(|mistake| mistake.weight == Weight::Error) {
        let unusable = if rules.is_none() { ": this set cannot be used" } else { "" };
        anstream::println!("{}{unusable}", counted(&mistakes));
    }
    let Some(rules) = rules.filter(|_| mistakes.iter().all(|mistake| mistake.weight == Weight::Warning)) else {
        return Ok(ExitCode::FAILURE);
    };
    let report = scenario::test(scenarios, &rules);
    if report.tested.is_empty() {
        bail!("there are no scenarios: write some in {}tests/", folder.shown_in());
    }
    let mut file = "";
    for tested in &report.tested {
        if tested.scenario.file != file {
            file = &tested.scenario.file;
            anstream::println!("{}{}", folder.shown_in(), plain(file));
        }
        tell_tested(tested);
    }
    anstream::println!("\n{}", summary(&report));
    let uncovered = arguments.every_rule && !(report.never_hit.is_empty() && report.never_nearly_hit.is_empty());
    Ok(if report.failed() > 0 || uncovered { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn tell_tested(tested: &Tested) {
    if tested.differs.is_empty() {
        anstream::println!("  ok    {}", plain(&tested.scenario.name));
        return;
    }
    anstream::println!("  FAIL  {} (line {})", plain(&tested.scenario.name), tested.scenario.line);
    for difference in &tested.differs {
        anstream::println!("        {}", plain(difference));
    }
    anstream::println!("        it came to this: {}", plain(&tested.came.sentence()));
    for lack in tested.came.lacks() {
        anstream::println!("        {}", plain(&lack));
    }
}

fn summary(report: &Report) -> String {
    let failed = report.failed();
    let mut text = format!("{}: {} as expected", many(report.tested.len(), "scenario"), report.tested.len() - failed);
    if failed > 0 {
        text.push_str(&format!(", {failed} not"));
    }
    for (what, rules) in [
        ("Rules that decide in none of them", &report.never_hit),
        ("Rules that none of them misses by one thing alone", &report.never_nearly_hit),
    ] {
        if !rules.is_empty() {
            text.push_str(&format!("\n{what}: {}", rules.join(", ")));
        }
    }
    text
}

fn replayed(arguments: &ReplayArguments) -> anyhow::Result<ExitCode> {
    let folder = &arguments.folder;
    let files = folder.files()?;
    let Some(rules) = folder.loaded(&files) else { return Ok(ExitCode::FAILURE) };
    let name = arguments.decisions.display();
    let text = match std::fs::read_to_string(&arguments.decisions) {
        Ok(text) => text,
        Err(why) => {
            eprintln!("portcullis: {name} cannot be read: {why}");
            return Ok(ExitCode::from(2));
        }
    };
    let stored = replay::read(&text);
    if !stored.unreadable.is_empty() {
        for unreadable in &stored.unreadable {
            eprintln!("portcullis: {name}, {}", plain(&unreadable.to_string()));
        }
        return Ok(ExitCode::from(2));
    }
    if stored.decisions.is_empty() {
        eprintln!("portcullis: {name} holds no decision");
        return Ok(ExitCode::from(2));
    }
    let replayed = replay::replay(&rules, stored.decisions);
    for difference in &replayed.differences {
        anstream::println!("{}\n", difference.sentence());
    }
    if stored.without > 0 {
        anstream::println!("{} without a decision", many(stored.without, "record"));
    }
    let otherwise = replayed.differences.len();
    anstream::println!("{}: {otherwise} decided otherwise by set {}", many(replayed.decisions, "decision"), rules.hash());
    Ok(if otherwise > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
