//! `portcullis deadletter`: what came to no end in a running Portcullis, and having it worked on again.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::access::{Api, text};

/// What to do about what came to no end.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows what came to no end: dead letters of the queues, and what was set aside because nobody could use it.
    List(List),
    /// Shows one of them, whole.
    Show(Show),
    /// Has some of them worked on again, or all.
    Replay(Replay),
}

/// Which Portcullis.
#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    api: Api,
}

/// Which one.
#[derive(Args, Debug)]
pub struct Show {
    #[command(flatten)]
    api: Api,
    /// Its id, as `portcullis deadletter list` shows it
    #[arg(value_name = "ID")]
    id: String,
}

/// Which ones.
#[derive(Args, Debug)]
pub struct Replay {
    #[command(flatten)]
    api: Api,
    /// Their ids, as `portcullis deadletter list` shows them
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All that can be worked on again
    #[arg(long)]
    all: bool,
}

/// Runs one of the commands.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List(arguments) => list(&arguments.api).await,
        Command::Show(arguments) => show(&arguments.api, &arguments.id).await,
        Command::Replay(arguments) => replay(&arguments).await,
    }
}

/// What there is, and whether there is more.
async fn all(api: &Api) -> anyhow::Result<(Vec<Value>, bool)> {
    let (_, answer) = api.ask(Method::GET, "/deadletters", None).await?;
    Ok((answer["items"].as_array().cloned().unwrap_or_default(), answer["more"] == true))
}

async fn list(api: &Api) -> anyhow::Result<ExitCode> {
    let (items, more) = all(api).await?;
    if items.is_empty() {
        println!("nothing came to no end");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["ID", "SINCE", "IS", "REPLAY", "REASON"]);
    for left in &items {
        let replay = if left["replayable"] == true { "yes" } else { "no" };
        table.add_row([text(left, "id"), text(left, "at"), &what(left), replay, text(left, "reason")]);
    }
    println!("{table}");
    if more {
        println!("there is more: these are the newest of each place");
    }
    Ok(ExitCode::SUCCESS)
}

/// What it is, in a few words.
fn what(left: &Value) -> String {
    let message = &left["message"];
    let last = |name: &str| text(message, name).rsplit('/').next().unwrap_or_default().to_owned();
    match text(message, "kind") {
        "look" => format!("look at {}", last("vm")),
        "event" => format!("event {}", last("id")),
        "unstored" => "an event".to_owned(),
        "shard" => format!("sweep of {}", last("subscription")),
        "row" => match message["with"].as_array().map_or(0, Vec::len) {
            0 => format!("row {}", last("audit")),
            more => format!("row {} and {more} more", last("audit")),
        },
        _ => match text(left, "from") {
            "" => "not known".to_owned(),
            from => format!("not known, to {from}"),
        },
    }
}

async fn show(api: &Api, id: &str) -> anyhow::Result<ExitCode> {
    let (_, left) = api.ask(Method::GET, &format!("/deadletters/{id}"), None).await?;
    println!("id:          {}", text(&left, "id"));
    println!("since:       {}", if left["at"].is_null() { "not known" } else { text(&left, "at") });
    match text(&left, "place") {
        "rejected" => println!("place:       set aside by {}", text(&left, "from")),
        queue => println!("place:       the dead letters of queue {queue}"),
    }
    println!("reason:      {}", text(&left, "reason"));
    if let Some(deliveries) = left["deliveries"].as_u64() {
        println!("deliveries:  {deliveries}");
    }
    println!("is:          {}", what(&left));
    match left["whyNot"].as_str() {
        Some(why) => println!("replay:      no: {why}"),
        None => println!("replay:      portcullis deadletter replay {id}"),
    }
    println!("\n{}", text(&left, "body"));
    Ok(ExitCode::SUCCESS)
}

async fn replay(arguments: &Replay) -> anyhow::Result<ExitCode> {
    let ids = if arguments.all {
        let (items, more) = all(&arguments.api).await?;
        if more {
            println!("there is more than is done at once: run this again afterwards");
        }
        items.iter().filter(|left| left["replayable"] == true).map(|left| text(left, "id").to_owned()).collect()
    } else {
        arguments.ids.clone()
    };
    if ids.is_empty() {
        println!("nothing of it can be worked on again");
    }
    let mut ended = ExitCode::SUCCESS;
    for id in ids {
        match arguments.api.ask(Method::POST, &format!("/deadletters/{id}/replay"), Some(json!({}))).await {
            Ok((_, answer)) => println!("{id}: sent to queue {}", text(&answer, "queue")),
            Err(why) => {
                println!("{id}: {why:#}");
                ended = ExitCode::FAILURE;
            }
        }
    }
    Ok(ended)
}
