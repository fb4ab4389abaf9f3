//! Questions that reads alone answer.

use portcullis_domain::arm_id::is_guid;
use serde_json::{Value, json};

use super::azure::{Manners, Trouble};
use super::machine::{COMPUTE, NETWORK, Plan};
use super::report::seen;
use super::{Probe, Stage};

const ENTITIES: &str = "2020-05-01";

impl Probe<'_> {
    /// What reads tell, but for how ids are written, which is told by all answers together.
    pub(super) async fn read(&self) -> Stage {
        let parents = self.parents().await;
        self.settle(&["subscriptionParents"], parents);
        let pages = self.pages().await;
        self.settle(&["pageSize"], pages);
        self.plan_is_on();
        self.oldest_record();
        Ok(())
    }

    async fn parents(&self) -> Stage {
        let subscription = self.machine.vm.subscription();
        let path = format!("/providers/Microsoft.Management/getEntities?$filter=name%20eq%20'{subscription}'");
        let asked = "asked getEntities for the subscription";
        match self.azure.ask(&path, ENTITIES).await {
            Err(trouble) if trouble.status() == Some(403) => {
                self.found("subscriptionParents", json!("refused"), vec![seen(self.azure.now(), format!("{asked}: {trouble}"))]);
            }
            Err(trouble) => return Err(trouble),
            Ok(answer) => match answer.body["value"].as_array().and_then(|all| all.first()) {
                None => return Err(Trouble::Broken("getEntities does not list the subscription to you.".to_owned())),
                Some(entity) => {
                    let above: Vec<&str> =
                        entity["properties"]["parentNameChain"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                    let (setting, told) = match above.is_empty() {
                        true => ("withheld", "no group above it is told".to_owned()),
                        false => ("shown", format!("above it: {}. The app's identity may be told less than you", above.join(", "))),
                    };
                    self.found("subscriptionParents", json!(setting), vec![seen(answer.at, format!("{asked}: {told}"))]);
                }
            },
        }
        Ok(())
    }

    async fn pages(&self) -> Stage {
        let subscription = self.machine.vm.subscription();
        let of = |kind: &str| format!("/subscriptions/{subscription}/providers/{kind}");
        self.azure.list("VMs", &of("Microsoft.Compute/virtualMachines"), COMPUTE).await?;
        self.azure.list("security groups", &of("Microsoft.Network/networkSecurityGroups"), NETWORK).await?;
        let manners = self.azure.manners();
        let lines = manners.pages.iter().map(|(list, (longest, more))| {
            let next = if *more { ", and a next page" } else { ", and no next page" };
            seen(manners.at, format!("the list of {list} has {longest} on its longest page{next}"))
        });
        let mut lines: Vec<String> = lines.collect();
        let size = page_size(&manners);
        if size == 0 {
            lines.push(seen(manners.at, "no list was longer than a page, so that a page of more than these is told as all"));
        }
        self.found("pageSize", json!(size), lines);
        Ok(())
    }

    fn plan_is_on(&self) {
        match &self.machine.plan {
            Plan::On => self.open("planOffRefuses", "Not found out, the plan is on.", Vec::new()),
            Plan::Unknown(why) => self.open("planOffRefuses", &format!("Whether the plan is on cannot be read. {why}"), Vec::new()),
            Plan::Off if self.machine.policy.is_none() => {
                let line = seen(self.azure.now(), "the plan is off, and a read of the JIT policies is refused with 403");
                self.found("planOffRefuses", json!("everything"), vec![line]);
            }
            // The first request tells.
            Plan::Off => {}
        }
    }

    /// In which letters the ids were written that stood in answers.
    pub(super) fn judge_letters(&self) {
        let manners = self.azure.manners();
        let of_resources = manners.ids.iter().filter(|id| id.contains("/providers/") || id.contains("/PROVIDERS/"));
        let example = of_resources.min_by_key(|id| id.len()).cloned().unwrap_or_default();
        let line = seen(manners.at, format!("{} ids were read, such as {example}", manners.ids.len()));
        match letter_case(manners.ids.iter().map(String::as_str)) {
            Some(setting) => self.found("letterCase", json!(setting), vec![line]),
            None => self.open("letterCase", "No id was read.", Vec::new()),
        }
    }
}

/// The shortest page that had a next one; all on one page otherwise.
fn page_size(manners: &Manners) -> usize {
    manners.pages.values().filter(|(_, more)| *more).map(|(longest, _)| *longest).min().unwrap_or(0)
}

/// One case of all letters but for those of GUIDs, which are digits of a number; else as they were given.
fn letter_case<'a>(ids: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    let text: String = ids.flat_map(|id| id.split('/').filter(|segment| !is_guid(segment))).collect();
    let letters: Vec<char> = text.chars().filter(|c| c.is_ascii_alphabetic()).collect();
    match letters.is_empty() {
        true => None,
        false if letters.iter().all(char::is_ascii_uppercase) => Some("upper"),
        false if letters.iter().all(char::is_ascii_lowercase) => Some("lower"),
        false => Some("asGiven"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_told_apart_without_those_of_guids() {
        let guid = "5a4db0c5-0001-4000-8000-00000000000a";
        for (ids, setting) in [
            (vec![format!("/SUBSCRIPTIONS/{guid}/RESOURCEGROUPS/RG")], Some("upper")),
            (vec![format!("/subscriptions/{}/resourcegroups/rg", guid.to_uppercase())], Some("lower")),
            (vec![format!("/subscriptions/{guid}/resourceGroups/rg")], Some("asGiven")),
            (vec!["/SUBSCRIPTIONS/X".to_owned(), "/subscriptions/x".to_owned()], Some("asGiven")),
            (Vec::new(), None),
        ] {
            assert_eq!(letter_case(ids.iter().map(String::as_str)), setting, "{ids:?}");
        }
    }

    #[test]
    fn a_page_is_as_long_as_the_shortest_that_has_a_next_one() {
        let manners = |pages: &[(&str, usize, bool)]| Manners {
            pages: pages.iter().map(|(name, longest, more)| ((*name).to_owned(), (*longest, *more))).collect(),
            ..Manners::default()
        };
        assert_eq!(page_size(&manners(&[("a", 7, false)])), 0);
        assert_eq!(page_size(&manners(&[("a", 7, false), ("b", 100, true), ("c", 50, true)])), 50);
    }
}
