//! `portcullis grant`, `close` and `grants`: what an operator asks of a running Portcullis, over its API.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use jiff::SignedDuration;
use portcullis_rules::plain::plain;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Where Portcullis is, and who asks.
#[derive(Args, Debug)]
pub struct Api {
    /// The address of the function app, such as `https://portcullis.azurewebsites.net`
    #[arg(long, value_name = "URL", env = "PORTCULLISCTL_URL")]
    url: String,
    /// An access token of yours for Portcullis' API; better given in the environment, where other people do not see it
    #[arg(long, value_name = "TOKEN", env = "PORTCULLISCTL_TOKEN", hide_env_values = true)]
    token: String,
}

/// A port that is to be opened.
#[derive(Args, Debug)]
pub struct Grant {
    #[command(flatten)]
    api: Api,
    /// The VM: its name, SUBSCRIPTION/GROUP/NAME where several have that name, or its resource id
    vm: String,
    /// The port
    #[arg(long, value_name = "PORT")]
    port: u16,
    /// An address or a range that is to be let in; may be given more than once
    #[arg(long, value_name = "SOURCE", required = true)]
    source: Vec<String>,
    /// For how long from its opening on, as 2h30m or PT2H30M
    #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
    duration: String,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// The incident of Microsoft Sentinel that it is for: its number, the GUID at the end of its resource id, or that id
    #[arg(long, value_name = "INCIDENT")]
    incident: Option<String>,
    /// For somebody else: the name that they sign in with, or their Entra object id
    #[arg(long, value_name = "PERSON")]
    person: Option<String>,
    /// How that person is called, for people who read of the grant; the name to sign in with, if left out
    #[arg(long, value_name = "TEXT", requires = "person")]
    name: Option<String>,
}

/// A grant that is to end.
#[derive(Args, Debug)]
pub struct Close {
    #[command(flatten)]
    api: Api,
    /// The VM: its name, SUBSCRIPTION/GROUP/NAME, or its resource id
    vm: String,
    /// The grant's id, as `portcullis grants` shows it
    #[arg(long, value_name = "ID")]
    grant: String,
}

/// What is granted.
#[derive(Args, Debug)]
pub struct Grants {
    #[command(flatten)]
    api: Api,
    /// Only those of this VM: its name, SUBSCRIPTION/GROUP/NAME, or its resource id
    #[arg(long, value_name = "VM")]
    vm: Option<String>,
}

/// How often it is asked how far something is.
const EVERY: Duration = Duration::from_secs(1);

/// A wish is worked on within a minute: the schedule looks where the queue does not.
const DECIDED_WITHIN: u32 = 120;

/// Five minutes is the longest that Portcullis waits for JIT, and proof takes a minute more.
const DONE_WITHIN: u32 = 420;

impl Api {
    /// Asks, and gives what was answered; the error is what the app says of a refusal.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<(StatusCode, Value)> {
        let url = format!("{}/api{path}", self.url.trim_end_matches('/'));
        let mut request = client()?.request(method, &url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.with_context(|| format!("{} does not answer", self.url))?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("the answer of {} cannot be read", self.url))?;
        let body = shown(serde_json::from_str(&text).unwrap_or(Value::Null));
        if status.is_success() {
            return Ok((status, body));
        }
        match body.pointer("/error/message").and_then(Value::as_str) {
            Some(said) => bail!("{said}"),
            None => bail!("{} answered {status}: is it the address of Portcullis?", self.url),
        }
    }

    /// Leaves a wish, and waits until it is answered.
    async fn wish(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        let (_, left) = self.ask(Method::POST, path, Some(body)).await?;
        let id = left["id"].as_str().context("the answer names no request: is this Portcullis?")?.to_owned();
        self.until(&id, DECIDED_WITHIN, |answer| answer["became"] != "received").await?.with_context(|| {
            format!("request {id} was not worked on within two minutes, and nothing opens once five are over: look at the app's health")
        })
    }

    /// Asks again and again what became of a request, until something is so of it; nothing if it never is.
    async fn until(&self, id: &str, times: u32, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<Option<Value>> {
        for _ in 0..times {
            let (_, answer) = self.ask(Method::GET, &format!("/requests/{id}"), None).await?;
            if is_so(&answer) {
                return Ok(Some(answer));
            }
            tokio::time::sleep(EVERY).await;
        }
        Ok(None)
    }
}

/// The HTTP client of every command.
#[expect(clippy::disallowed_methods, reason = "the one HTTP client of the tool, but for those of its sandbox")]
pub fn client() -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder().timeout(Duration::from_secs(30)).build().context("no HTTP client can be made")
}

/// An answer whose texts can be shown: some of them are other people's words, and none may steer the terminal.
fn shown(answer: Value) -> Value {
    match answer {
        Value::String(text) => Value::String(plain(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(shown).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, field)| (name, shown(field))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => answer,
    }
}

/// A text of an answer; empty where there is none.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Asks for a port, and waits until it is open or refused.
pub async fn grant(arguments: Grant) -> anyhow::Result<ExitCode> {
    let duration: SignedDuration =
        arguments.duration.parse().map_err(|_| anyhow!("--for {}: write a duration such as 2h30m or PT2H30M", arguments.duration))?;
    let body = json!({
        "vm": arguments.vm, "port": arguments.port, "sources": arguments.source, "duration": format!("PT{}S", duration.as_secs()),
        "reason": arguments.reason, "incident": arguments.incident, "person": arguments.person, "name": arguments.name,
    });
    let answer = arguments.api.wish("/grants", body).await?;
    let id = text(&answer, "id").to_owned();
    if answer["became"] != "granted" {
        println!("refused: {}", text(&answer, "why"));
        return Ok(ExitCode::FAILURE);
    }
    println!("granted: {}", text(&answer, "why"));
    let settled = |answer: &Value| answer["grant"].is_null() || ["open", "closing"].contains(&text(&answer["grant"], "phase"));
    let Some(answer) = arguments.api.until(&id, DONE_WITHIN, settled).await? else {
        println!("JIT has not opened it yet; `portcullis grants` shows how far it is");
        return Ok(ExitCode::FAILURE);
    };
    let grant = &answer["grant"];
    if text(grant, "phase") != "open" {
        println!("not opened: {}", grant["endedBecause"].as_str().unwrap_or("the grant is over"));
        return Ok(ExitCode::FAILURE);
    }
    println!("open: port {} of {} to {} until {}", grant["port"], name(grant), sources(grant), text(grant, "until"));
    println!("end it early with: portcullis close {} --grant {}", arguments.vm, text(grant, "id"));
    Ok(ExitCode::SUCCESS)
}

fn name(grant: &Value) -> &str {
    text(grant, "vm").rsplit('/').next().unwrap_or_default()
}

fn sources(grant: &Value) -> String {
    grant["sources"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// Ends a grant, and waits until nothing of it is open.
pub async fn close(arguments: Close) -> anyhow::Result<ExitCode> {
    let answer = arguments.api.wish(&format!("/grants/{}/close", arguments.grant), json!({"vm": arguments.vm})).await?;
    if answer["became"] != "ended" {
        println!("refused: {}", text(&answer, "why"));
        return Ok(ExitCode::FAILURE);
    }
    println!("ended: {}", text(&answer, "why"));
    let shut = arguments.api.until(text(&answer, "id"), DONE_WITHIN, |answer| answer["grant"].is_null()).await?;
    match shut {
        Some(_) => {
            println!("shut: nothing that the grant allowed is open, seen twice");
            Ok(ExitCode::SUCCESS)
        }
        None => {
            println!("still open: Portcullis goes on, and raises an alarm if it stays so");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Shows what is granted.
pub async fn grants(arguments: Grants) -> anyhow::Result<ExitCode> {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["GRANT", "VM", "PORT", "SOURCES", "FOR", "UNTIL", "PHASE", "RULE"]);
    let (called, of_vm) = match arguments.vm {
        Some(vm) if vm.contains('/') => (None, format!("&vm={vm}")),
        called => (called, String::new()),
    };
    let mut after = String::new();
    let mut count = 0;
    loop {
        let (_, page) = arguments.api.ask(Method::GET, &format!("/grants?limit=1000{of_vm}{after}"), None).await?;
        for grant in page["items"].as_array().into_iter().flatten() {
            if called.as_ref().is_some_and(|called| !called.eq_ignore_ascii_case(name(grant))) {
                continue;
            }
            let person = grant["name"].as_str().unwrap_or_else(|| text(grant, "person"));
            let port = grant["port"].to_string();
            let sources = sources(grant);
            let row =
                [text(grant, "id"), name(grant), &port, &sources, person, text(grant, "until"), text(grant, "phase"), text(grant, "rule")];
            table.add_row(row);
            count += 1;
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    if count == 0 {
        println!("nothing is granted");
    } else {
        println!("{table}");
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_an_answer_steers_the_terminal() {
        let answer = json!({"items": [{"name": "Ada\u{1b}[2J", "port": 22, "rule": null}], "why": "a\u{202e}b"});
        let told = json!({"items": [{"name": "Ada\\u{1b}[2J", "port": 22, "rule": null}], "why": "a\\u{202e}b"});
        assert_eq!(shown(answer), told);
    }
}
