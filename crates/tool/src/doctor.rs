//! `portcullis doctor`: what a running Portcullis stands on, with what is wrong and what to do about it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use reqwest::Method;
use serde_json::Value;

use crate::access::{Api, text};

/// What is to be looked at.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    api: Api,
    /// Only this subscription, besides what all have in common
    #[arg(long, value_name = "GUID")]
    subscription: Option<String>,
    /// Print what the app answers, as JSON
    #[arg(long)]
    json: bool,
}

/// The states in their order, with the word that stands before them.
const STATES: [(&str, &str); 4] = [("failing", "FAILING"), ("attention", "look at"), ("notKnown", "not known"), ("well", "well")];

/// Runs it; ends with 1 where something does not work.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let only = arguments.subscription.as_ref().map(|id| format!("?subscription={id}")).unwrap_or_default();
    let asked = arguments.api.ask(Method::GET, &format!("/doctor{only}"), None).await;
    let (_, answer) = asked.context(
        "the app cannot be asked. If it does not start, the last line of its log names what is missing: Function App, Log stream",
    )?;
    let checks = answer["checks"].as_array().cloned().unwrap_or_default();
    if arguments.json {
        println!("{answer:#}");
    } else {
        checks_told(&checks).iter().for_each(|line| println!("{line}"));
        for left in answer["leftOut"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            println!("not looked at for lack of time: portcullis doctor --subscription {left}");
        }
    }
    let fails = checks.iter().any(|check| text(check, "state") == "failing");
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What is told of the checks: what is not well one by one, and what is well together.
fn checks_told(checks: &[Value]) -> Vec<String> {
    let mut lines = Vec::new();
    for (state, word) in STATES.iter().take(3) {
        for check in checks.iter().filter(|check| text(check, "state") == *state) {
            let place = check["subscription"].as_str().map(|id| format!(" of {id}")).unwrap_or_default();
            lines.push(format!("{word:<10} {}{place}: {}", text(check, "name"), text(check, "said")));
            lines.push(format!("{:<10} -> {}", "", text(check, "cure")));
        }
    }
    let mut well: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for check in checks.iter().filter(|check| text(check, "state") == "well") {
        *well.entry((text(check, "name"), text(check, "said"))).or_default() += 1;
    }
    for ((name, said), count) in well {
        let times = if count > 1 { format!(" ({count} subscriptions)") } else { String::new() };
        lines.push(format!("{:<10} {name}: {said}{times}", "well"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_work_comes_first_and_what_is_well_is_told_together() {
        let check = |name: &str, state: &str, subscription: Option<&str>, said: &str| json!({"name": name, "state": state, "subscription": subscription, "said": said, "cure": "do this"});
        let told = checks_told(&[
            check("plan", "well", Some("s1"), "on"),
            check("plan", "well", Some("s2"), "on"),
            check("initiate", "attention", Some("s1"), "two may"),
            check("rules", "failing", None, "no rules"),
            check("store", "well", None, "fine"),
        ]);
        insta::assert_snapshot!(told.join("\n"), @r"
        FAILING    rules: no rules
                   -> do this
        look at    initiate of s1: two may
                   -> do this
        well       plan: on (2 subscriptions)
        well       store: fine
        ");
    }
}
