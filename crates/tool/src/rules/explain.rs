//! One request, from the command line, a file or a scenario, decided and explained.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use jiff::SignedDuration;
use portcullis_rules::action::Action;
use portcullis_rules::explain;
use portcullis_rules::files::RuleFiles;
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
    /// For how long, as 2h30m or PT2H30M. An hour where it is not given.
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
    let (subject, wish) = asked(arguments, &files, &rules)?;
    let shown_in = folder.shown_in();
    let text = match subject {
        Subject::Opening => explain::decision(&rules, &rules.decide(&wish), &shown_in),
        Subject::Right(action) => explain::permission(&rules, action, &rules.may(action, &wish), &wish, &shown_in),
    };
    anstream::print!("{text}");
    Ok(ExitCode::SUCCESS)
}

fn asked(arguments: &Arguments, files: &RuleFiles, rules: &Rules) -> anyhow::Result<(Subject, Wish)> {
    if let Some(name) = &arguments.scenario {
        let (scenarios, mistakes) = scenario::read(files, rules);
        let found = scenarios.into_iter().find(|scenario| scenario.name == *name);
        return match found {
            Some(scenario) => Ok((scenario.subject, scenario.wish)),
            None if mistakes.is_empty() => Err(anyhow!("no scenario is called {name:?}")),
            None => bail!("no scenario that can be read is called {name:?}: `portcullis rules check` tells what is wrong with the others"),
        };
    }
    let subject = match arguments.right {
        None => Subject::Opening,
        Some(Right::Approve) => Subject::Right(Action::Approve),
        Some(Right::Close) => Subject::Right(Action::Close),
        Some(Right::Read) => Subject::Right(Action::Read),
    };
    let (name, text) = match &arguments.request {
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
            (file.display().to_string(), text)
        }
        None => ("the command line".to_owned(), given(arguments)?.to_string()),
    };
    let wish = scenario::read_request(&name, &text, subject, rules).map_err(|mistakes| {
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        anyhow!("{}", told.join("\n"))
    })?;
    Ok((subject, wish))
}

/// The request of the command line, as a scenario would write it: JSON is YAML.
fn given(arguments: &Arguments) -> anyhow::Result<Value> {
    let mut given = Map::new();
    let mut put = |name: &str, value: Value| given.insert(name.to_owned(), value);
    put("person", json!({"id": arguments.person, "groups": arguments.group, "unknown": arguments.unknown}));
    let tags = arguments.tag.iter().map(|tag| {
        let (name, value) = tag.split_once('=').with_context(|| format!("--tag {tag}: write NAME=VALUE"))?;
        Ok((name.to_owned(), json!(value)))
    });
    let tags: Map<String, Value> = tags.collect::<anyhow::Result<_>>()?;
    let vm = arguments.vm.as_deref();
    let key = if vm.is_some_and(|vm| vm.contains('/')) { "id" } else { "name" };
    put("vm", json!({key: vm, "tags": tags}));
    if !arguments.port.is_empty() {
        put("ports", json!(arguments.port));
    }
    put("sources", json!(arguments.source));
    if let Some(text) = &arguments.duration {
        let duration: SignedDuration = text.parse().map_err(|_| anyhow!("--for {text}: write a duration such as 2h30m or PT2H30M"))?;
        put("duration", json!(format!("PT{}S", duration.as_secs())));
    }
    if let Some(at) = &arguments.at {
        put("at", json!(at));
    }
    let way = match (arguments.direct, arguments.break_glass) {
        (true, _) => "direct",
        (false, true) => "breaksGlass",
        (false, false) => "asked",
    };
    put("way", json!(way));
    put("reason", json!(arguments.reason));
    Ok(Value::Object(given))
}
