//! People and groups: what people.yaml says.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_domain::arm_id::is_guid;

use crate::files::PEOPLE;
use crate::mistake::Mistake;
use crate::yaml::{Node, Reading, Text, holds_others};

/// The groups that rules may name, and the people whose object ids are known without Microsoft Graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People {
    groups: BTreeMap<String, Group>,
    ids: BTreeMap<String, String>,
    /// People whose object id cannot be read, in lower case.
    unidentified: BTreeSet<String>,
    /// Whether there may be groups that cannot be read.
    unread: bool,
    /// Whether there may be people that cannot be read.
    unread_ids: bool,
}

/// Where the members of a group are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// In Entra: the object id of the group, in lower case.
    Entra(String),
    /// Here: the members' object ids, in lower case.
    Listed(BTreeSet<String>),
}

impl People {
    /// Reads the file; every mistake is told. An absent file names nobody.
    pub(crate) fn read(text: Option<&str>) -> (Self, Vec<Mistake>) {
        let Some(text) = text else { return (People::default(), Vec::new()) };
        let mut reading = Reading::of(PEOPLE, text);
        let Some(root) = reading.root() else { return (People::default().read_in_part(), reading.mistakes) };
        let mut people = People::default();
        let file = reading.sections("people.yaml", &root, &["people", "groups"]);
        // Another section may be meant to hold them, which is told.
        let others = holds_others(&root, &["people", "groups"]);
        people.unread_ids = others;
        if let Some(node) = file.get("people") {
            for (name, given) in reading.named("`people`", node) {
                let text = reading.text("an object id", given);
                let Some((given, id)) = text.and_then(|text| object_id(&mut reading, &text).map(|id| (text, id))) else {
                    people.unidentified.insert(name.value.to_lowercase());
                    continue;
                };
                if people.ids.insert(name.value.to_lowercase(), id.clone()).is_some_and(|known| known != id) {
                    let what = format!("`{}` is here twice, in another letter case and with another object id", name.value);
                    reading.wrong_but(given.at, what, "keep one of them");
                }
            }
        }
        if let Some(node) = file.get("groups") {
            for (name, group) in reading.named("`groups`", node) {
                let read = read_group(&mut reading, &name.value, group, &people);
                // A group with a mistake in it is still a name that rules may use.
                people.groups.insert(name.value.clone(), read.unwrap_or_else(|| Group::Listed(BTreeSet::new())));
            }
        }
        people.unread_ids |= !root.value.may_hold_names() || file.get("people").is_some_and(|node| !node.value.may_hold_names());
        people.unread = others || !root.value.may_hold_names() || file.get("groups").is_some_and(|node| !node.value.may_hold_names());
        (people, reading.mistakes)
    }

    /// The same where the file says more than can be read of it.
    pub(crate) fn read_in_part(self) -> Self {
        People { unread: true, unread_ids: true, ..self }
    }

    /// Whether there may be groups that cannot be read.
    pub(crate) fn is_read_in_part(&self) -> bool {
        self.unread
    }

    /// The groups, by name.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(name, group)| (name.as_str(), group))
    }

    /// Whether rules may name this group. While the file cannot be read it may hold any: that it cannot be read is told.
    pub(crate) fn may_name(&self, group: &str) -> bool {
        self.unread || self.groups.contains_key(group)
    }

    /// Whether this may be somebody of the file. One whose object id cannot be read is: that it cannot be read is told.
    pub(crate) fn may_know(&self, person: &str) -> bool {
        let person = person.to_lowercase();
        self.unread_ids || self.ids.contains_key(&person) || self.unidentified.contains(&person)
    }

    /// The names of people.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.ids.keys().map(String::as_str)
    }

    /// The object id of a UPN, where the file gives it.
    pub fn id_of(&self, upn: &str) -> Option<&str> {
        self.ids.get(&upn.to_lowercase()).map(String::as_str)
    }

    /// The object ids of Entra groups that have to be asked about, each with its name here.
    pub fn entra_groups(&self) -> impl Iterator<Item = (&str, &str)> {
        self.groups().filter_map(|(name, group)| match group {
            Group::Entra(id) => Some((name, id.as_str())),
            Group::Listed(_) => None,
        })
    }

    /// The groups that list this person here.
    pub fn listed_groups(&self, person: &str) -> BTreeSet<String> {
        let person = person.to_lowercase();
        let lists = |group: &Group| matches!(group, Group::Listed(members) if members.contains(&person));
        self.groups().filter(|(_, group)| lists(group)).map(|(name, _)| name.to_owned()).collect()
    }
}

fn read_group(reading: &mut Reading<'_>, name: &str, node: &Node, people: &People) -> Option<Group> {
    let wrong_before = reading.mistakes.len();
    let given = reading.sections(&format!("group `{name}`"), node, &["entra", "members"]);
    match (given.get("entra"), given.get("members")) {
        (Some(entra), None) => {
            let entra = reading.text("`entra`", entra)?;
            object_id(reading, &entra).map(Group::Entra)
        }
        (None, Some(members)) => {
            let members = reading.texts("`members`", members);
            Some(Group::Listed(members.iter().filter_map(|member| read_member(reading, member, people)).collect()))
        }
        (Some(_), Some(_)) => {
            reading.wrong(node.referenced, format!("group `{name}` has both `entra` and `members`: give one of them"));
            None
        }
        // What is not known in it is what was meant.
        (None, None) if reading.mistakes.len() > wrong_before => None,
        (None, None) => {
            let what = format!("group `{name}` has no members: give `entra` (the object id of an Entra group) or `members`");
            reading.wrong_but(node.referenced, what, "write `members: []` for a group in which nobody is");
            None
        }
    }
}

/// The object id of a member, who is named by it or by a name that has one here.
fn read_member(reading: &mut Reading<'_>, member: &Text, people: &People) -> Option<String> {
    if let Some(known) = people.id_of(&member.value) {
        return Some(known.to_owned());
    }
    if !is_guid(&member.value) && people.may_know(&member.value) {
        return None;
    }
    if !member.value.contains('@') {
        return object_id(reading, member);
    }
    if people.unread_ids {
        return None;
    }
    let cure = match crate::mistake::nearest(&member.value, people.names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add `{}: OBJECT-ID` under people", member.value),
    };
    reading.wrong_but(member.at, format!("`{}` has no object id here", member.value), cure);
    None
}

/// The object id that a text is, in lower case.
fn object_id(reading: &mut Reading<'_>, given: &Text) -> Option<String> {
    if is_guid(&given.value) {
        return Some(given.value.to_lowercase());
    }
    reading.wrong_but(
        given.at,
        format!("`{}` is not an object id", given.value),
        "an object id is a GUID such as 3f0c9a52-6a1e-4c34-9f4b-2f4f0a1d7c55, on the overview page of a person or group in Entra",
    );
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::RuleFiles;
    use crate::mistake::Colours;

    const ADA: &str = "AAAAAAAA-0000-4000-8000-000000000001";

    #[test]
    fn groups_are_those_of_entra_or_listed() {
        let text = format!(
            "people:\n  Ada@contoso.com: {ADA}\ngroups:\n  responders:\n    entra: {ADA}\n  duty:\n    members: [ada@Contoso.com, bbbbbbbb-0000-4000-8000-000000000002]\n  empty:\n    members: []\n"
        );
        let (people, mistakes) = People::read(Some(&text));
        assert_eq!(mistakes, []);
        let ada = ADA.to_lowercase();
        assert_eq!(people.id_of("ADA@contoso.com"), Some(ada.as_str()));
        assert_eq!(people.entra_groups().collect::<Vec<_>>(), [("responders", ada.as_str())]);
        assert_eq!(people.listed_groups(ADA), BTreeSet::from(["duty".to_owned()]));
        assert_eq!(people.groups().map(|(name, _)| name).collect::<Vec<_>>(), ["duty", "empty", "responders"]);
        assert_eq!(People::read(None), (People::default(), vec![]));
        assert_eq!(People::read(Some("# nobody yet\n")), (People::default(), vec![]));
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let text = "people:\n  ada@contoso.com: ada\n  bob@contoso.com: bbbbbbbb-0000-4000-8000-000000000002\ngroups:\n  both: {entra: aaaaaaaa-0000-4000-8000-000000000001, members: []}\n  none: {}\n  wrong:\n    members:\n      - bobb@contoso.com\n      - carol@contoso.com\n      - 1234\n";
        let files = RuleFiles::of([(PEOPLE, text)]);
        let (people, mistakes) = People::read(Some(text));
        assert_eq!(people.groups().count(), 3);
        let shown: Vec<String> = mistakes.iter().map(|mistake| mistake.shown(&files, "", Colours::Plain)).collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        error: `ada` is not an object id
         --> people.yaml:2:20
          |
        2 |   ada@contoso.com: ada
          |                    ^^^
          |
          = help: an object id is a GUID such as 3f0c9a52-6a1e-4c34-9f4b-2f4f0a1d7c55, on the overview page of a
                  person or group in Entra
        error: group `both` has both `entra` and `members`: give one of them
         --> people.yaml:5:9
          |
        5 |   both: {entra: aaaaaaaa-0000-4000-8000-000000000001, members: []}
          |         ^
        error: group `none` has no members: give `entra` (the object id of an Entra group) or `members`
         --> people.yaml:6:9
          |
        6 |   none: {}
          |         ^
          |
          = help: write `members: []` for a group in which nobody is
        error: `bobb@contoso.com` has no object id here
         --> people.yaml:9:9
          |
        9 |       - bobb@contoso.com
          |         ^^^^^^^^^^^^^^^^
          |
          = help: did you mean `bob@contoso.com`?
        error: `carol@contoso.com` has no object id here
          --> people.yaml:10:9
           |
        10 |       - carol@contoso.com
           |         ^^^^^^^^^^^^^^^^^
           |
           = help: did you mean `bob@contoso.com`?
        error: `1234` is not an object id
          --> people.yaml:11:9
           |
        11 |       - 1234
           |         ^^^^
           |
           = help: an object id is a GUID such as 3f0c9a52-6a1e-4c34-9f4b-2f4f0a1d7c55, on the overview page of a
                   person or group in Entra
        ");
    }

    #[test]
    fn a_file_that_is_no_yaml_or_has_other_fields_is_one_mistake_with_its_place() {
        for (text, line, says) in [
            ("groups:\n  a:\n    entrra: x\n", 3, "`entrra` is not known in group `a`"),
            ("groups: [\n", 1, "a `[` is never closed"),
            ("groups:\n  a: {members: []}\n  a: {members: []}\n", 3, "`a` is here twice"),
            ("groups: [a]\n", 1, "a list stands here, and `groups` must be names with something under each"),
            ("groups:\n  a: {members: none}\n", 2, "a text stands here, and `members` must be a list"),
            ("groups:\n  a: {members: [[x]]}\n", 2, "a list stands here, and each of `members` must be a text"),
            ("people:\n  a: [x]\n", 2, "a list stands here, and an object id must be a text"),
            ("- x\n", 1, "a list stands here, and people.yaml must be fields such as `people`"),
            ("groups:\n  a:\n", 2, "has no members"),
        ] {
            let (_, mistakes) = People::read(Some(text));
            let [mistake] = mistakes.as_slice() else { panic!("{mistakes:?}") };
            assert_eq!(mistake.place(&RuleFiles::of([(PEOPLE, text)])).0, line, "{mistake}");
            assert!(mistake.what.contains(says) && !mistake.what.contains("line "), "{mistake}");
        }
    }
}
