//! What follows from what was asked, for the installation as a whole.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use portcullis_domain::reconcile::Mode;
use portcullis_rules::set::Rules;
use uuid::Uuid;

use super::{Check, State};
use crate::azure::CallFailed;
use crate::functions::dead_letters::AllLeft;
use crate::store::StoreError;

pub(super) fn mode(mode: Mode) -> Check {
    match mode {
        Mode::Enforce => Check::well("mode", "mode enforce: what may not be open is shut, and what is granted is opened"),
        Mode::Observe => Check::not_well(
            "mode",
            State::Attention,
            "mode observe: nothing is shut and nothing opened, it is only written down what would be",
            "once the rows `would-close` are what you want, set PORTCULLIS_MODE to enforce",
        ),
    }
}

/// What the settings make of the installation. Wrong ones keep the program from starting, and are named in its log.
pub(super) fn settings(said: String, has_telemetry: bool) -> Check {
    match has_telemetry {
        true => Check::well("settings", said),
        false => Check::not_well(
            "settings",
            State::Attention,
            "APPLICATIONINSIGHTS_CONNECTION_STRING is not set: Application Insights is told nothing, and alerts on its logs hear nothing",
            "set it to the connection string of the app's Application Insights, as the templates do (docs/telemetry.md)",
        ),
    }
}

pub(super) fn identity(own: Option<&str>, failed: Option<&CallFailed>) -> Check {
    match (own, failed) {
        (Some(own), _) => Check::well("identity", format!("the app signs in as object id {own}")),
        (None, Some(failed)) => Check::not_well(
            "identity",
            State::Failing,
            format!("the app has no token: {failed}"),
            "see that the identity of PORTCULLIS_CLIENT_ID is assigned to the function app",
        ),
        (None, None) => {
            Check::not_well("identity", State::NotKnown, "the app's token does not say whose it is", "nothing: it is used all the same")
        }
    }
}

pub(super) fn subscriptions(governed: Result<&[Uuid], &CallFailed>, only: Option<Uuid>) -> Check {
    const ROLES: &str = "give the app's identity the roles of docs/roles.md on the subscriptions that it is to govern";
    let name = "subscriptions";
    match (governed, only) {
        (Err(failed), _) => Check::not_well(name, State::Failing, failed.to_string(), ROLES),
        (Ok([]), _) => Check::not_well(name, State::Failing, "the app sees no subscription, so that nothing is governed", ROLES),
        (Ok(all), Some(only)) if !all.contains(&only) => {
            let cure = "name it in PORTCULLIS_SUBSCRIPTIONS, or, where that is empty, give the app's identity its roles there";
            Check::not_well(name, State::Failing, format!("subscription {only} is not governed"), cure)
        }
        (Ok([one]), _) => Check::well(name, format!("subscription {one} is governed")),
        (Ok(all), _) => Check::well(name, format!("{} subscriptions are governed", all.len())),
    }
}

pub(super) fn store(checked: Result<&(), &StoreError>) -> Check {
    match checked {
        Ok(()) => Check::well("store", "the store and its audit records can be read"),
        Err(error) => Check::not_well(
            "store",
            State::Failing,
            error.to_string(),
            "see PORTCULLIS_BLOB_ENDPOINT and the containers' names, the app's role Storage Blob Data Contributor there, and the account's network rules",
        ),
    }
}

pub(super) fn rows(failing_since: Result<Option<DateTime<Utc>>, String>) -> Check {
    match failing_since {
        Ok(None) => Check::well("ingestion", "rows go out to Microsoft Sentinel"),
        Ok(Some(since)) => Check::not_well(
            "ingestion",
            State::Failing,
            format!(
                "rows have not been taken since {}; they are sent again every minute",
                since.to_rfc3339_opts(SecondsFormat::Secs, true)
            ),
            "see PORTCULLIS_LOGS_ENDPOINT, _RULE_ID and _STREAM, and the app's role Monitoring Metrics Publisher on the data collection rule",
        ),
        Err(why) => {
            Check::not_well("ingestion", State::NotKnown, format!("what is known of rows cannot be read: {why}"), "mend the store first")
        }
    }
}

pub(super) fn rules(loaded: Result<&Rules, &str>) -> Check {
    match loaded {
        Ok(rules) if rules.name_empty_groups_alone() => Check::not_well(
            "rules",
            State::Attention,
            "nobody is in any of the groups that the rules name, so that nobody is let in as one of them",
            "say in policies/people.yaml who is meant, and deploy",
        ),
        Ok(_) => Check::well("rules", "the rules are used"),
        Err(why) => Check::not_well(
            "rules",
            State::Failing,
            format!("the rules cannot be used, so that nothing opens: {why}"),
            "`portcullis rules check` on the folder names the same before a deployment",
        ),
    }
}

pub(super) fn dead_letters(left: Result<&AllLeft, String>) -> Check {
    match left {
        Ok(left) if left.items.is_empty() => Check::well("deadletters", "the queues answer, and nothing came to no end"),
        Ok(left) => Check::not_well(
            "deadletters",
            State::Attention,
            match (left.items.len(), left.more) {
                (1, false) => "one thing came to no end".to_owned(),
                (count, false) => format!("{count} things came to no end"),
                (count, true) => format!("{count} things and more came to no end"),
            },
            "`portcullis deadletter list` shows them",
        ),
        Err(why) => Check::not_well(
            "deadletters",
            State::Failing,
            format!("the queues or the store cannot be read: {why}"),
            "see ServiceBus__fullyQualifiedNamespace and the app's roles Azure Service Bus Data Sender and Receiver",
        ),
    }
}

/// Services' clocks agree within this, or one of them is not what it says.
const SERVICES_DIFFER_BY: TimeDelta = TimeDelta::seconds(30);

/// Tokens are believed so much too early or late.
const TOKENS_DIFFER_BY: TimeDelta = TimeDelta::seconds(60);

/// What the clocks of the store, of the queues and of the instance say of each other. Time is the store's; by the instance's
/// own clock it is judged whether a caller's token is still good.
pub(super) fn clocks(store: DateTime<Utc>, bus: DateTime<Utc>, instance: Option<DateTime<Utc>>) -> Check {
    let apart = (store - bus).abs();
    if apart > SERVICES_DIFFER_BY {
        return Check::not_well(
            "clock",
            State::Failing,
            format!("the clocks of the store and of the queues are {} s apart", apart.num_seconds()),
            "if either is reached through a proxy, see whether it answers from a cache",
        );
    }
    match instance.map(|own| (own - store).abs()).filter(|apart| *apart > TOKENS_DIFFER_BY) {
        None => Check::well("clock", "the clocks agree"),
        Some(apart) => Check::not_well(
            "clock",
            State::Attention,
            format!("the instance's clock is {} s from the store's, so that callers' tokens may be refused", apart.num_seconds()),
            "restart the function app; nothing else goes by that clock",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::dead_letters::Left;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_768_467_600 + seconds, 0).unwrap()
    }

    #[test]
    fn clocks_that_differ_are_told_by_whose_they_are() {
        for (bus, instance, state, said) in [
            (0, None, State::Well, "agree"),
            (30, Some(60), State::Well, "agree"),
            (-31, None, State::Failing, "31 s apart"),
            (0, Some(-61), State::Attention, "61 s from the store's"),
        ] {
            let check = clocks(at(0), at(bus), instance.map(at));
            assert!(check.state == state && check.said.contains(said), "{check:?}");
        }
    }

    #[test]
    fn a_subscription_that_is_not_governed_is_not_well() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        for (governed, only, state) in [
            (vec![one], None, State::Well),
            (vec![one, other], Some(other), State::Well),
            (vec![one], Some(other), State::Failing),
            (vec![], None, State::Failing),
        ] {
            assert_eq!(subscriptions(Ok(&governed), only).state, state, "{governed:?} {only:?}");
        }
    }

    #[test]
    fn whatever_is_not_well_has_a_cure() {
        let left = Left {
            id: "rejected-1".to_owned(),
            queue: None,
            at: None,
            from: None,
            reason: String::new(),
            deliveries: None,
            body: String::new(),
            again: Err("it is no message".to_owned()),
        };
        let all = AllLeft { items: vec![left], more: true };
        let checks = [
            mode(Mode::Observe),
            settings(String::new(), false),
            identity(None, None),
            subscriptions(Ok(&[]), None),
            rows(Ok(Some(at(0)))),
            rows(Err("no".to_owned())),
            rules(Err("no")),
            dead_letters(Ok(&all)),
            dead_letters(Err("no".to_owned())),
            store(Err(&StoreError::Unmarked("state".to_owned()))),
        ];
        for check in checks {
            assert!(check.state != State::Well && !check.cure.is_empty(), "{check:?}");
        }
    }
}
