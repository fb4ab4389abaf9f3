//! The rules that a sandbox's handler works by: those of a folder, or the shipped ones with the people of the simulated
//! Azure in them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// The shipped rules, by name.
const SHIPPED: [(&str, &str); 8] = [
    ("break-glass.cedar", include_str!("../../../policies/break-glass.cedar")),
    ("developers.cedar", include_str!("../../../policies/developers.cedar")),
    ("duties.cedar", include_str!("../../../policies/duties.cedar")),
    ("everybody.cedar", include_str!("../../../policies/everybody.cedar")),
    ("networks.yaml", include_str!("../../../policies/networks.yaml")),
    ("portcullis.cedarschema", include_str!("../../../policies/portcullis.cedarschema")),
    ("production.cedar", include_str!("../../../policies/production.cedar")),
    ("responders.cedar", include_str!("../../../policies/responders.cedar")),
];

/// Who is in which group of the simulated Entra.
const PEOPLE: &str = include_str!("policies/people.yaml");

/// The name of the setting that names the folder.
pub const SETTING: &str = "PORTCULLIS_POLICIES";

/// The folder of rules for a sandbox in `dir`: the given one, else the shipped rules, written below `dir`.
pub fn folder(dir: &Path, given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return given.canonicalize().with_context(|| format!("there are no rules at {}", given.display()));
    }
    if dir.is_file() {
        bail!("{} is a file: name a folder", dir.display());
    }
    let folder = dir.join("policies");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    for (name, text) in SHIPPED.into_iter().chain([("people.yaml", PEOPLE)]) {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    folder.canonicalize().with_context(|| format!("{} is not there", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use portcullis_rules::files::RuleFiles;
    use portcullis_rules::set::Rules;
    use portcullis_sandbox::estate;

    use super::*;

    #[test]
    fn the_built_in_rules_are_those_of_the_source_tree_with_the_people_of_the_sandbox() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path(), None).unwrap();
        let tree = RuleFiles::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies")).unwrap();
        let written = RuleFiles::read(&folder).unwrap();
        let names = |files: &RuleFiles| files.deciding().map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(names(&written), names(&tree));
        for (name, text) in tree.deciding().filter(|(name, _)| *name != "people.yaml") {
            assert_eq!(written.text(name), Some(text), "{name}");
        }
        let (of_tree, of_sandbox) = (Rules::load(&tree).unwrap(), Rules::load(&written).unwrap());
        let groups = |rules: &Rules| rules.people().groups().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(groups(&of_sandbox), groups(&of_tree));
        let asked: BTreeSet<&str> = of_sandbox.people().entra_groups().map(|(_, id)| id).collect();
        assert!(asked.contains(estate::RESPONDERS) && asked.contains(estate::DEVELOPERS) && asked.contains(estate::BREAK_GLASS));
    }

    #[test]
    fn a_folder_that_is_given_is_used_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(folder(dir.path(), Some(dir.path())).unwrap(), dir.path().canonicalize().unwrap());
        assert!(folder(dir.path(), Some(&dir.path().join("none"))).unwrap_err().to_string().contains("there are no rules at"));
    }
}
