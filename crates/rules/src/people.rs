//! People and groups: what people.yaml says.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::files::PEOPLE;
use crate::mistake::Mistake;
use crate::yaml;

/// The groups that rules may name, and the people whose object ids are known without Microsoft Graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People {
    groups: BTreeMap<String, Group>,
    ids: BTreeMap<String, String>,
    /// Whether the file is there and nothing of it can be read.
    unread: bool,
}

/// Where the members of a group are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// In Entra: the object id of the group, in lower case.
    Entra(String),
    /// Here: the members' object ids, in lower case.
    Listed(BTreeSet<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    people: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    groups: BTreeMap<String, Spanned<GroupFile>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupFile {
    #[serde(default)]
    entra: Option<Spanned<String>>,
    #[serde(default)]
    members: Option<Vec<Spanned<String>>>,
}

impl People {
    /// Reads the file; every mistake is told. An absent file names nobody.
    pub(crate) fn read(text: Option<&str>) -> (Self, Vec<Mistake>) {
        let Some(text) = text else { return (People::default(), Vec::new()) };
        let file: File = match yaml::read(PEOPLE, text) {
            Ok(file) => file,
            Err(mistake) => return (People { unread: true, ..People::default() }, vec![mistake]),
        };
        let mut mistakes = Vec::new();
        let mut ids: BTreeMap<String, String> = BTreeMap::new();
        for (name, given) in &file.people {
            match object_id(text, given) {
                Ok(id) if ids.get(&name.to_lowercase()).is_some_and(|known| *known != id) => {
                    let what = format!("`{name}` is here twice, in another letter case and with another object id");
                    mistakes.push(Mistake::error(PEOPLE, yaml::span(text, given.referenced), what).cured("keep one of them"));
                }
                Ok(id) => {
                    ids.insert(name.to_lowercase(), id);
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
        let mut groups = BTreeMap::new();
        for (name, group) in &file.groups {
            match read_group(text, name, group, &ids) {
                Ok(group) => {
                    groups.insert(name.clone(), group);
                }
                Err(wrong) => mistakes.extend(wrong),
            }
        }
        // A group with a mistake in it is still a name that rules may use.
        for name in file.groups.into_keys() {
            groups.entry(name).or_insert_with(|| Group::Listed(BTreeSet::new()));
        }
        (People { groups, ids, unread: false }, mistakes)
    }

    /// The groups, by name.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(name, group)| (name.as_str(), group))
    }

    /// Whether rules may name this group. While the file cannot be read it may hold any: that it cannot be read is told.
    pub(crate) fn may_name(&self, group: &str) -> bool {
        self.unread || self.groups.contains_key(group)
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

fn read_group(text: &str, name: &str, group: &Spanned<GroupFile>, ids: &BTreeMap<String, String>) -> Result<Group, Vec<Mistake>> {
    match (&group.value.entra, &group.value.members) {
        (Some(entra), None) => object_id(text, entra).map(Group::Entra).map_err(|mistake| vec![mistake]),
        (None, Some(members)) => {
            let mut wrong = Vec::new();
            let mut listed = BTreeSet::new();
            for member in members {
                let known = ids.get(&member.value.to_lowercase()).cloned();
                match known.map_or_else(|| object_id(text, member), Ok) {
                    Ok(id) => {
                        listed.insert(id);
                    }
                    Err(mistake) if member.value.contains('@') => {
                        let what = format!("`{}` has no object id here", member.value);
                        let near = crate::mistake::nearest(&member.value, ids.keys().map(String::as_str));
                        let cure = match near {
                            Some(near) => format!("did you mean `{near}`?"),
                            None => format!("add `{}: OBJECT-ID` under people", member.value),
                        };
                        wrong.push(Mistake { what, ..mistake }.cured(cure));
                    }
                    Err(mistake) => wrong.push(mistake),
                }
            }
            if wrong.is_empty() { Ok(Group::Listed(listed)) } else { Err(wrong) }
        }
        (Some(_), Some(_)) => Err(vec![of_group(text, name, group, "has both `entra` and `members`: give one of them")]),
        (None, None) => {
            Err(vec![of_group(text, name, group, "has no members: give `entra` (the object id of an Entra group) or `members`")])
        }
    }
}

fn of_group(text: &str, name: &str, group: &Spanned<GroupFile>, what: &str) -> Mistake {
    Mistake::error(PEOPLE, span_of(text, group), format!("group `{name}` {what}"))
}

/// The object id that a value is, in lower case.
fn object_id(text: &str, value: &Spanned<String>) -> Result<String, Mistake> {
    if is_guid(&value.value) {
        return Ok(value.value.to_lowercase());
    }
    let what = format!("`{}` is not an object id", value.value);
    Err(Mistake::error(PEOPLE, span_of(text, value), what)
        .cured("an object id is a GUID such as 3f0c9a52-6a1e-4c34-9f4b-2f4f0a1d7c55, on the overview page of a person or group in Entra"))
}

fn span_of<T>(text: &str, value: &Spanned<T>) -> Range<usize> {
    yaml::span(text, value.referenced)
}

/// Whether a text is a GUID in its usual form.
pub(crate) fn is_guid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
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
          = help: an object id is a GUID such as 3f0c9a52-6a1e-4c34-9f4b-2f4f0a1d7c55, on the overview page of a person or group in Entra
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
           = help: an object id is a GUID such as 3f0c9a52-6a1e-4c34-9f4b-2f4f0a1d7c55, on the overview page of a person or group in Entra
        ");
    }

    #[test]
    fn a_file_that_is_no_yaml_or_has_other_fields_is_one_mistake_with_its_place() {
        for (text, line, says) in [
            ("groups:\n  a:\n    entrra: x\n", 3, "entrra"),
            ("groups: [\n", 1, ""),
            ("groups:\n  a: {members: []}\n  a: {members: []}\n", 3, ""),
        ] {
            let (_, mistakes) = People::read(Some(text));
            let [mistake] = mistakes.as_slice() else { panic!("{mistakes:?}") };
            assert_eq!(mistake.place(&RuleFiles::of([(PEOPLE, text)])).0, line, "{mistake}");
            assert!(mistake.what.contains(says) && !mistake.what.contains("line "), "{mistake}");
        }
    }
}
