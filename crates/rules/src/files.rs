//! The files of a rule set: their names and texts, read once.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::mistake::Mistake;

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

/// What stands in a text where a character could not be read.
pub(crate) const UNREAD: char = char::REPLACEMENT_CHARACTER;

/// Names and texts of the files of a rule set. A name is relative to the folder, with `/` between its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFiles {
    texts: BTreeMap<String, String>,
    unreadable: Vec<Mistake>,
}

/// Why a folder could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be read: {why}", .path.display())]
pub struct FolderError {
    /// The folder.
    pub path: PathBuf,
    /// Why.
    pub why: io::Error,
}

impl RuleFiles {
    /// Reads the folder's rules, its two YAML files and its scenarios. Of other files only the names are taken: one that
    /// was meant to be read must not go unseen. A file that cannot be read is a mistake of the set, and hides no other.
    pub fn read(folder: &Path) -> Result<Self, FolderError> {
        let mut files = RuleFiles::default();
        for (name, path) in entries(folder).map_err(|why| FolderError { path: folder.to_owned(), why })? {
            files.take(name, &path, is_read);
        }
        let tests = folder.join(TESTS);
        if tests.is_dir() {
            files.texts.remove(TESTS_IN);
            match entries(&tests) {
                Ok(entries) => entries.into_iter().for_each(|(name, path)| files.take(format!("{TESTS_IN}{name}"), &path, is_yaml)),
                Err(why) => files.unreadable.push(unreadable(TESTS_IN, &why)),
            }
        }
        Ok(files)
    }

    fn take(&mut self, name: String, path: &Path, is_wanted: fn(&str) -> bool) {
        match if is_wanted(&name) { bytes_of(path) } else { Ok(Vec::new()) } {
            Ok(bytes) => self.take_bytes(name, bytes),
            Err(why) => self.unreadable.push(unreadable(&name, &why)),
        }
    }

    fn take_bytes(&mut self, name: String, bytes: Vec<u8>) {
        let (text, wrong) = decoded(&name, bytes);
        self.unreadable.extend(wrong);
        self.texts.insert(name, text);
    }

    /// The set of these names and texts.
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let texts = files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        RuleFiles { texts, unreadable: Vec::new() }
    }

    /// The same with another text for a file, or one file more.
    #[must_use]
    pub fn with(mut self, name: &str, text: &str) -> Self {
        self.texts.insert(name.to_owned(), text.to_owned());
        self
    }

    /// The same with a file as it lies on a disk. What of it is not UTF-8 is a mistake of the set.
    #[must_use]
    pub fn with_bytes(mut self, name: &str, bytes: Vec<u8>) -> Self {
        self.take_bytes(name.to_owned(), bytes);
        self
    }

    /// The text of a file.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// What is wrong with files that cannot be read, or not in full.
    pub fn unreadable(&self) -> &[Mistake] {
        &self.unreadable
    }

    /// Whether a file says more than can be read of it.
    pub(crate) fn says_more(&self, name: &str) -> bool {
        self.unreadable.iter().any(|mistake| mistake.file == name)
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

    /// Files and folders that are neither rules nor scenarios nor notes for people nor hidden; a folder's name ends with `/`.
    pub fn not_read(&self) -> impl Iterator<Item = &str> {
        let is_note = |name: &str| is_hidden(name) || [".md", ".txt", "~"].iter().any(|end| name.ends_with(end));
        let is_used = move |name: &str| match name.strip_prefix(TESTS_IN) {
            Some(name) => is_yaml(name) || is_note(name),
            None => is_read(name) || is_note(name),
        };
        self.iter().map(|(name, _)| name).filter(move |name| !is_used(name))
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }
}

/// Whether it is a file that shells and editors do not show, such as what is left of one that is being edited.
fn is_hidden(name: &str) -> bool {
    name.strip_prefix(TESTS_IN).unwrap_or(name).starts_with('.')
}

fn is_read(name: &str) -> bool {
    let decides = name.ends_with(".cedar") || [SCHEMA, PEOPLE, NETWORKS].contains(&name);
    decides && !name.starts_with(TESTS_IN) && !is_hidden(name)
}

fn is_yaml(name: &str) -> bool {
    (name.ends_with(".yaml") || name.ends_with(".yml")) && !is_hidden(name)
}

/// Everything in a folder, whatever it is: what cannot be read must not go unseen. A folder's name ends with `/`, unless it
/// is called as a file that is read.
fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.path().is_dir() && !is_read(&name) && !is_yaml(&name);
        entries.push((if is_folder { format!("{name}/") } else { name }, entry.path()));
    }
    entries.sort();
    Ok(entries)
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe or a device would be waited for.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    fs::read(path)
}

fn unreadable(name: &str, why: &io::Error) -> Mistake {
    let what = if name.ends_with('/') { "folder" } else { "file" };
    let cure = match why.kind() {
        io::ErrorKind::PermissionDenied => "give whoever runs this the right to read it",
        _ => "put a file that can be read there, or take it away",
    };
    Mistake::error(name, 0..0, format!("this {what} cannot be read: {why}")).cured(cure)
}

/// The text of a file, and what is wrong where it is not UTF-8. What can be read of it is read all the same, so that its other
/// mistakes are told.
fn decoded(name: &str, bytes: Vec<u8>) -> (String, Option<Mistake>) {
    let units: Option<fn([u8; 2]) -> u16> = match bytes.as_slice() {
        [0xff, 0xfe, ..] => Some(u16::from_le_bytes),
        [0xfe, 0xff, ..] => Some(u16::from_be_bytes),
        _ => None,
    };
    let cure = "save the file as UTF-8";
    if let Some(unit) = units {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        let wrong = Mistake::error(name, 0..0, "the file is UTF-16, and not UTF-8").cured(cure);
        return (String::from_utf16_lossy(&units), Some(wrong));
    }
    String::from_utf8(bytes).map_or_else(
        |why| {
            let at = why.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(why.as_bytes()).into_owned();
            (text, Some(Mistake::error(name, at..at + UNREAD.len_utf8(), "this character is not UTF-8").cured(cure)))
        },
        |text| (text, None),
    )
}
