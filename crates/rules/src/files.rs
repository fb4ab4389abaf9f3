//! The files of a rule set: their names and texts, read once.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The Cedar schema, which belongs to the program.
pub const SCHEMA: &str = "portcullis.cedarschema";

/// People and groups.
pub const PEOPLE: &str = "people.yaml";

/// Named ranges of addresses.
pub const NETWORKS: &str = "networks.yaml";

/// The folder of scenario files.
pub const TESTS: &str = "tests";

/// How the names of scenario files begin.
const TESTS_IN: &str = "tests/";

/// Names and texts of the files of a rule set. A name is relative to the folder, with `/` between its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFiles(BTreeMap<String, String>);

/// Why a folder could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be read: {why}", .path.display())]
pub struct FolderError {
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    pub why: io::Error,
}

impl RuleFiles {
    /// Reads the folder's rules, its two YAML files and its scenarios. Of other files only the names are taken: one that
    /// was meant to be read must not go unseen.
    pub fn read(folder: &Path) -> Result<Self, FolderError> {
        let mut files = BTreeMap::new();
        for name in names_in(folder)? {
            let text = if is_read(&name) { text_of(&folder.join(&name))? } else { String::new() };
            files.insert(name, text);
        }
        let tests = folder.join(TESTS);
        if tests.is_dir() {
            files.remove(TESTS_IN);
            for name in names_in(&tests)? {
                let text = if is_yaml(&name) { text_of(&tests.join(&name))? } else { String::new() };
                files.insert(format!("{TESTS_IN}{name}"), text);
            }
        }
        Ok(RuleFiles(files))
    }

    /// The set of these names and texts.
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        RuleFiles(files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect())
    }

    /// The same with another text for a file, or one file more.
    #[must_use]
    pub fn with(mut self, name: &str, text: &str) -> Self {
        self.0.insert(name.to_owned(), text.to_owned());
        self
    }

    /// The text of a file.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The files with rules, by name.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.deciding().filter(|(name, _)| name.ends_with(".cedar"))
    }

    /// The scenario files, by name.
    pub fn scenarios(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter(|(name, _)| name.starts_with(TESTS_IN) && is_yaml(name))
    }

    /// The files that decide.
    pub fn deciding(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter(|(name, _)| is_read(name))
    }

    /// Files and folders that are neither rules nor scenarios nor notes for people; a folder's name ends with `/`.
    pub fn not_read(&self) -> impl Iterator<Item = &str> {
        let is_note = |name: &str| name.starts_with('.') || [".md", ".txt", "~"].iter().any(|end| name.ends_with(end));
        let is_used = move |name: &str| match name.strip_prefix(TESTS_IN) {
            Some(name) => is_yaml(name) || is_note(name),
            None => is_read(name) || is_note(name),
        };
        self.iter().map(|(name, _)| name).filter(move |name| !is_used(name))
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }
}

fn is_read(name: &str) -> bool {
    let decides = name.ends_with(".cedar") || [SCHEMA, PEOPLE, NETWORKS].contains(&name);
    decides && !name.starts_with(TESTS_IN)
}

fn is_yaml(name: &str) -> bool {
    name.ends_with(".yaml") || name.ends_with(".yml")
}

/// Everything in a folder, whatever it is: what cannot be read must not go unseen. A folder's name ends with `/`, unless it
/// is called as a file that is read.
fn names_in(folder: &Path) -> Result<Vec<String>, FolderError> {
    let failed = |why| FolderError { path: folder.to_owned(), why };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.path().is_dir() && !is_read(&name) && !is_yaml(&name);
        names.push(if is_folder { format!("{name}/") } else { name });
    }
    names.sort();
    Ok(names)
}

fn text_of(path: &Path) -> Result<String, FolderError> {
    let failed = |why| FolderError { path: path.to_owned(), why };
    // A pipe or a device would be waited for.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is no file")));
    }
    let bytes = fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|why| {
        let valid = &why.as_bytes()[..why.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        failed(io::Error::other(format!("line {line} is not UTF-8: save the file as UTF-8")))
    })
}
