//! One request, from the command line, a file or a scenario, decided and explained.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use jiff::{Span, SpanRelativeTo, Unit};
use portcullis_rules::action::Action;
use portcullis_rules::explain;
use portcullis_rules::files::RuleFiles;
use portcullis_rules::mistake::{Colours, nearest};
use portcullis_rules::scenario::{self, Subject};
use portcullis_rules::set::Rules;
use portcullis_rules::wish::Wish;
use serde_json::{Map, Value, json};

use super::Folder;

#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    folder: Folder,
    /// Explain the scenario of this name.
    #[arg(long, value_name = "NAME", conflicts_with = "request", conflicts_with_all = SPELT_OUT)]
    scenario: Option<String>,
    /// Explain the request in this YAML file, written as a scenario's `given` is.
    #[arg(long, value_name = "FILE", conflicts_with_all = SPELT_OUT)]
    request: Option<PathBuf>,
    /// Whether somebody has a right, in place of whether something may be opened.
    #[arg(long, value_name = "RIGHT", conflicts_with = "scenario")]
    right: Option<Right>,
    /// The person's object id, or a name of people.yaml.
    #[arg(long, value_name = "ID")]
    person: Option<String>,
    /// A group that the person is in; may be given more than once.
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// Nobody knows who it is.
    #[arg(long, conflicts_with_all = ["person", "group"])]
    unknown: bool,
    /// The VM: its name or its resource id.
    #[arg(long, value_name = "VM")]
    vm: Option<String>,
    /// A tag of the VM; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE")]
    tag: Vec<String>,
    /// A port; may be given more than once. 22 where none is.
    #[arg(long, value_name = "PORT")]
    port: Vec<u16>,
    /// An address or a range that has to be let in; may be given more than once.
    #[arg(long, value_name = "SOURCE")]
    source: Vec<String>,
    /// For how long, as 2h30m, PT2H30M or P1D. An hour where it is not given.
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<String>,
    /// When, as 2026-01-15T09:00:00+01:00. A Thursday's noon in UTC where it is not given.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Somebody opened it around Portcullis.
    #[arg(long, conflicts_with = "break_glass")]
    direct: bool,
    /// Somebody breaks the glass.
    #[arg(long)]
    break_glass: bool,
    /// The reason that was given.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// All that makes a request on the command line.
const SPELT_OUT: [&str; 12] =
    ["person", "group", "unknown", "vm", "tag", "port", "source", "duration", "at", "direct", "break_glass", "reason"];

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Right {
    /// To decide on what others ask for.
    Approve,
    /// To end what is open.
    Close,
    /// To see what is open and why.
    Read,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let folder = &arguments.folder;
    let files = folder.files()?;
    let Some(rules) = folder.loaded(&files) else { return Ok(ExitCode::FAILURE) };
    let Some((subject, wish)) = asked(arguments, &files, &rules)? else { return Ok(ExitCode::FAILURE) };
    let shown_in = folder.shown_in();
    let text = match subject {
        Subject::Opening => explain::decision(&rules, &rules.decide(&wish), &shown_in),
        Subject::Right(action) => explain::permission(&rules, action, &rules.may(action, &wish), &wish, &shown_in),
    };
    anstream::print!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// What is asked; nothing once every mistake in the request's file is told.
fn asked(arguments: &Arguments, files: &RuleFiles, rules: &Rules) -> anyhow::Result<Option<(Subject, Wish)>> {
    if let Some(name) = &arguments.scenario {
        return scenario_of(name, files, rules).map(Some);
    }
    let subject = match arguments.right {
        None => Subject::Opening,
        Some(Right::Approve) => Subject::Right(Action::Approve),
        Some(Right::Close) => Subject::Right(Action::Close),
        Some(Right::Read) => Subject::Right(Action::Read),
    };
    let Some(file) = &arguments.request else {
        let wish = scenario::read_request("the command line", &given(arguments)?.to_string(), subject, rules).map_err(|mistakes| {
            let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            anyhow!("{}", told.join("\n"))
        })?;
        return Ok(Some((subject, wish)));
    };
    let name = file.display().to_string();
    let bytes = std::fs::read(file).with_context(|| format!("{name} cannot be read"))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{name} is not UTF-8: save it as UTF-8"))?;
    match scenario::read_request(&name, &text, subject, rules) {
        Ok(wish) => Ok(Some((subject, wish))),
        Err(mistakes) => {
            let files = RuleFiles::of([(name.as_str(), text.as_str())]);
            for mistake in &mistakes {
                anstream::println!("{}\n", mistake.shown(&files, "", Colours::Terminal));
            }
            Ok(None)
        }
    }
}

fn scenario_of(name: &str, files: &RuleFiles, rules: &Rules) -> anyhow::Result<(Subject, Wish)> {
    let (scenarios, mistakes) = scenario::read(files, rules);
    if let Some(found) = scenarios.iter().find(|scenario| scenario.name == name) {
        return Ok((found.subject, found.wish.clone()));
    }
    if !mistakes.is_empty() {
        bail!("no scenario that can be read is called {name:?}: `portcullis rules check` tells what is wrong with the others");
    }
    match nearest(name, scenarios.iter().map(|scenario| scenario.name.as_str())) {
        Some(near) => bail!("no scenario is called {name:?}: did you mean {near:?}?"),
        None => bail!("no scenario is called {name:?}: `portcullis rules test` lists them"),
    }
}

/// The request of the command line, as a scenario would write it: JSON is YAML. What is not given there is not in it.
fn given(arguments: &Arguments) -> anyhow::Result<Value> {
    let tags = arguments.tag.iter().map(|tag| {
        let (name, value) = tag.split_once('=').with_context(|| format!("--tag {tag}: write NAME=VALUE"))?;
        Ok((name.to_owned(), json!(value)))
    });
    let tags: Map<String, Value> = tags.collect::<anyhow::Result<_>>()?;
    let vm = arguments.vm.as_deref();
    let key = if vm.is_some_and(|vm| vm.contains('/')) { "id" } else { "name" };
    let some = |list: &[String]| Some(json!(list)).filter(|_| !list.is_empty());
    let person = fields([
        ("id", arguments.person.as_ref().map(|id| json!(id))),
        ("groups", some(&arguments.group)),
        ("unknown", arguments.unknown.then(|| json!(true))),
    ]);
    let vm = fields([(key, vm.map(|vm| json!(vm))), ("tags", Some(json!(tags)).filter(|_| !tags.is_empty()))]);
    let seconds = arguments.duration.as_deref().map(seconds).transpose()?;
    let way = match (arguments.direct, arguments.break_glass) {
        (true, _) => Some("direct"),
        (false, true) => Some("breaksGlass"),
        (false, false) => None,
    };
    let given = fields([
        ("person", person),
        ("vm", vm),
        ("ports", Some(json!(arguments.port)).filter(|_| !arguments.port.is_empty())),
        ("sources", some(&arguments.source)),
        ("duration", seconds.map(|seconds| json!(format!("PT{seconds}S")))),
        ("at", arguments.at.as_ref().map(|at| json!(at))),
        ("way", way.map(|way| json!(way))),
        ("reason", arguments.reason.as_ref().map(|reason| json!(reason))),
    ]);
    Ok(given.unwrap_or_else(|| json!({})))
}

/// Those fields that are given, if any is.
fn fields<const N: usize>(fields: [(&str, Option<Value>); N]) -> Option<Value> {
    let given: Map<String, Value> = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    Some(Value::Object(given)).filter(|given| given.as_object().is_some_and(|given| !given.is_empty()))
}

/// The seconds of a duration, as ISO 8601 or a person writes it.
fn seconds(text: &str) -> anyhow::Result<u64> {
    let span: Option<Span> = text.parse().ok();
    let total = span.and_then(|span| span.total((Unit::Second, SpanRelativeTo::days_are_24_hours())).ok());
    let seconds = total.filter(|seconds| seconds.fract() == 0.0 && (0.0..=MOST_SECONDS).contains(seconds));
    seconds
        .map(|seconds| seconds as u64)
        .with_context(|| format!("--for {text}: write a duration such as 2h30m, PT2H30M or P1D, of days, hours, minutes and whole seconds"))
}

/// A hundred years: what is longer is a mistake.
const MOST_SECONDS: f64 = 3_155_760_000.0;
