//! Whom and what operators mean: a machine by its name, a person by the name that they sign in with.

use std::collections::BTreeSet;
use std::time::Duration;

use portcullis_domain::arm_id::VmId;
use uuid::Uuid;

use super::Console;
use super::answer::Refusal;
use crate::functions::people::NotKnown;

/// Whoever looks for a name gives up after this: the caller waits, and can give more than the name.
const FOUND_WITHIN: Duration = Duration::from_secs(10);

/// So many machines of one name are told.
const MOST_TOLD: usize = 5;

/// The machine that is to be opened: its resource id, SUBSCRIPTION/GROUP/NAME, or a name that one machine alone has among
/// those that JIT policies of governed subscriptions list. No other can be opened.
pub(super) async fn to_open(console: &Console, text: &str) -> Result<VmId, Refusal> {
    if !is_name(text) {
        return governed(console, text);
    }
    match tokio::time::timeout(FOUND_WITHIN, console.app.machines_named(text)).await {
        Ok(Ok(found)) => the_one(text, &found, "no JIT policy of a governed subscription lists a machine"),
        Ok(Err(failed)) => Err(not_listed(&failed.to_string())),
        Err(_) => Err(not_listed(&format!("the JIT policies were not listed within {} s", FOUND_WITHIN.as_secs()))),
    }
}

/// Where not all is listed, another machine of the name may be in what is not.
fn not_listed(why: &str) -> Refusal {
    Refusal::NotAsked(format!("{why}; a machine that is named as SUBSCRIPTION/GROUP/NAME is found all the same"))
}

/// The machine on which a grant is to end: as in [`to_open`], but a name is one among those of what is granted or open.
pub(super) async fn to_close(console: &Console, text: &str) -> Result<VmId, Refusal> {
    if !is_name(text) {
        return governed(console, text);
    }
    let known = console.app.store.list_open("").await?.into_iter().map(|(vm, _)| vm);
    let found = known.filter(|vm| vm.orphans_of().is_none() && vm.name().eq_ignore_ascii_case(text)).collect();
    the_one(text, &found, "nothing is granted or open on a machine")
}

/// The person that a wish is for, by object id or by the name that they sign in with.
pub(super) async fn person(console: &Console, text: &str) -> Result<String, Refusal> {
    if let Ok(id) = Uuid::parse_str(text) {
        return Ok(id.to_string());
    }
    if !text.contains('@') {
        let sentence = "`person` is neither an object id nor a name to sign in with: give the GUID that Entra shows for the person, or \
                        their user principal name, such as ada@contoso.com.";
        return Err(Refusal::BadQuestion(sentence.to_owned()));
    }
    let now = console.app.store.check().await?;
    console.app.person_id(text, now).await.map_err(|why| match why {
        NotKnown::Nobody => Refusal::BadQuestion(format!("`person`: the tenant has nobody who signs in as {text}.")),
        NotKnown::Unreachable(why) => Refusal::NotAsked(why),
    })
}

/// Whether a text can be the name of a machine alone (documentation of naming rules).
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=64).contains(&text.chars().count()) && text.chars().all(fits)
}

fn governed(console: &Console, text: &str) -> Result<VmId, Refusal> {
    let bad = |sentence: &str| Refusal::BadQuestion(sentence.to_owned());
    let vm = text.parse::<VmId>().or_else(|_| VmId::from_key(text)).ok().filter(|vm| vm.orphans_of().is_none());
    let vm = vm.ok_or_else(|| bad("`vm` is no VM: give its resource id, SUBSCRIPTION/GROUP/NAME, or its name."))?;
    if Uuid::parse_str(&vm.subscription()).is_err() || !console.app.governs_vm(&vm) {
        return Err(bad("Portcullis does not govern the subscription of this VM."));
    }
    Ok(vm)
}

fn the_one(name: &str, found: &BTreeSet<VmId>, none: &str) -> Result<VmId, Refusal> {
    let mut all = found.iter();
    match (all.next(), all.next()) {
        (Some(vm), None) => Ok(vm.clone()),
        (None, _) => Err(Refusal::BadQuestion(format!("`vm`: {none} {name}: check the name, or give SUBSCRIPTION/GROUP/NAME."))),
        (Some(_), Some(_)) => {
            let mut told: Vec<String> = found.iter().take(MOST_TOLD).map(VmId::key).collect();
            if found.len() > MOST_TOLD {
                told.push(format!("or {} more", found.len() - MOST_TOLD));
            }
            Err(Refusal::BadQuestion(format!("`vm`: several machines are called {name}; give one of {}.", told.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vms(keys: &[&str]) -> BTreeSet<VmId> {
        keys.iter().map(|key| VmId::from_key(key).unwrap()).collect()
    }

    #[test]
    fn a_name_is_no_id_and_no_key() {
        for (text, is) in [("web-1", true), ("Web_1.a", true), ("", false), ("s/rg/web-1", false), ("web 1", false), ("nsg~nsg", false)] {
            assert_eq!(is_name(text), is, "{text}");
        }
        assert!(is_name(&"v".repeat(64)) && !is_name(&"v".repeat(65)));
    }

    #[test]
    fn one_machine_is_the_one_and_of_several_each_is_told() {
        let sentence = |found: &[&str]| match the_one("web-1", &vms(found), "nothing lists a machine") {
            Ok(vm) => vm.key(),
            Err(Refusal::BadQuestion(sentence)) => sentence,
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(sentence(&["s/rg/web-1"]), "s/rg/web-1");
        assert_eq!(sentence(&[]), "`vm`: nothing lists a machine web-1: check the name, or give SUBSCRIPTION/GROUP/NAME.");
        let several = ["s/a/web-1", "s/b/web-1", "s/c/web-1", "s/d/web-1", "s/e/web-1", "s/f/web-1", "s/g/web-1"];
        assert_eq!(sentence(&several[..2]), "`vm`: several machines are called web-1; give one of s/a/web-1, s/b/web-1.");
        assert!(sentence(&several).ends_with("s/e/web-1, or 2 more."));
    }
}
