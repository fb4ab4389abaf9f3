//! YAML files, read so that whatever is wrong in them is told at once, each with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Error, Location, Options, Spanned};

use crate::mistake::{Lines, Mistake};

/// Something that stands in a file, with its place.
pub(crate) type Node = Spanned<Stands>;

/// What stands at a place of a file, whatever should.
#[derive(Clone, Debug)]
pub(crate) enum Stands {
    /// Nothing.
    Nothing,
    /// `true` or `false`.
    Flag(bool),
    /// A whole number that is not negative.
    Number(u64),
    /// A number of another kind.
    OddNumber,
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Names, each once, and what stands under each.
    Named(Vec<(Spanned<String>, Node)>),
}

impl Stands {
    /// Whether it is names with something under each, or nothing at all.
    pub(crate) fn may_hold_names(&self) -> bool {
        matches!(self, Stands::Nothing | Stands::Named(_))
    }

    /// Adds what stands in another place of the same name: to a list its items, to names those that are not there.
    fn join(&mut self, other: Stands) {
        match (self, other) {
            (Stands::List(nodes), Stands::List(more)) => nodes.extend(more),
            (Stands::Named(fields), Stands::Named(more)) => {
                let known: BTreeSet<String> = fields.iter().map(|(name, _)| name.value.clone()).collect();
                fields.extend(more.into_iter().filter(|(name, _)| !known.contains(&name.value)));
            }
            (nothing @ Stands::Nothing, other) => *nothing = other,
            _ => {}
        }
    }

    fn told(&self) -> &'static str {
        match self {
            Stands::Nothing => "nothing",
            Stands::Flag(_) => "`true` or `false`",
            Stands::Number(_) | Stands::OddNumber => "a number",
            Stands::Text(_) => "a text",
            Stands::List(_) => "a list",
            Stands::Named(_) => "names with something under each",
        }
    }
}

/// A text with its place.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// The text.
    pub(crate) value: String,
    /// Where it stands.
    pub(crate) at: Location,
}

/// The fields of a place under which something stands, by name.
pub(crate) type Fields<'n> = BTreeMap<&'n str, &'n Node>;

/// A file that is being read, and what is wrong in it so far.
pub(crate) struct Reading<'a> {
    file: &'a str,
    text: &'a str,
    lines: Lines,
    /// Where fields begin of which it is told that they stand there again: what an alias repeats is wrong once.
    again: BTreeSet<usize>,
    /// What is wrong so far.
    pub(crate) mistakes: Vec<Mistake>,
}

impl<'a> Reading<'a> {
    /// Begins to read a file.
    pub(crate) fn of(file: &'a str, text: &'a str) -> Self {
        Reading { file, text, lines: Lines::of(text), again: BTreeSet::new(), mistakes: Vec::new() }
    }

    /// All that stands in the file; nothing where it is no YAML, which is then told. One that holds nothing but comments is
    /// like one that says nothing.
    pub(crate) fn root(&mut self) -> Option<Node> {
        let says_nothing = self.text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        if says_nothing {
            return Some(Spanned::new(Stands::Nothing, Location::UNKNOWN, Location::UNKNOWN));
        }
        match serde_saphyr::from_str_with_options(self.text, options()) {
            Ok(mut root) => {
                self.once(&mut root);
                Some(root)
            }
            Err(why) => {
                let span = why.location().map_or(0..0, |at| span(self.text, at));
                let (what, cure) = said(&why);
                self.mistakes.push(Mistake { cure, ..Mistake::error(self.file, span, what) });
                None
            }
        }
    }

    /// Tells every field that stands at a place twice, and leaves it there once: with all that stands under either, so that
    /// neither hides the mistakes of the other.
    fn once(&mut self, node: &mut Node) {
        match &mut node.value {
            Stands::List(nodes) => nodes.iter_mut().for_each(|node| self.once(node)),
            Stands::Named(fields) => {
                let mut known: BTreeMap<String, usize> = BTreeMap::new();
                let mut kept: Vec<(Spanned<String>, Node)> = Vec::new();
                for (name, mut value) in std::mem::take(fields) {
                    self.once(&mut value);
                    match known.get(&name.value) {
                        Some(first) => {
                            let (first, under) = &mut kept[*first];
                            self.twice(first, &name);
                            under.value.join(value.value);
                        }
                        None => {
                            known.insert(name.value.clone(), kept.len());
                            kept.push((name, value));
                        }
                    }
                }
                *fields = kept;
            }
            Stands::Nothing | Stands::Flag(_) | Stands::Number(_) | Stands::OddNumber | Stands::Text(_) => {}
        }
    }

    fn twice(&mut self, first: &Spanned<String>, again: &Spanned<String>) {
        if !self.again.insert(span(self.text, again.referenced).start) {
            return;
        }
        let (line, column) = self.lines.place(self.text, span(self.text, first.referenced).start);
        let cure = format!("it stands in line {line}, column {column}, too: keep one of them");
        self.wrong_but(again.referenced, format!("`{}` is here twice", again.value), cure);
    }

    /// What is wrong at a place.
    pub(crate) fn mistake(&self, at: Location, what: impl Into<String>) -> Mistake {
        Mistake::error(self.file, span(self.text, at), what)
    }

    /// Tells what is wrong at a place.
    pub(crate) fn wrong(&mut self, at: Location, what: impl Into<String>) {
        let mistake = self.mistake(at, what);
        self.mistakes.push(mistake);
    }

    /// Tells what is wrong at a place, and what to write instead.
    pub(crate) fn wrong_but(&mut self, at: Location, what: impl Into<String>, cure: impl Into<String>) {
        let mistake = self.mistake(at, what).cured(cure);
        self.mistakes.push(mistake);
    }

    /// The line on which something stands, from 1.
    pub(crate) fn line(&self, node: &Node) -> usize {
        self.lines.line(span(self.text, node.referenced).start)
    }

    /// The fields of a place, by name. Others than the known ones are told, and those under which nothing stands: it may have
    /// been forgotten.
    pub(crate) fn fields<'n>(&mut self, name: &str, node: &'n Node, known: &[&str]) -> Fields<'n> {
        let fields = self.all_fields(name, node, known);
        let (empty, said): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(_, value)| matches!(value.value, Stands::Nothing));
        for (field, _) in empty {
            let what = format!("nothing stands under `{}`", field.value);
            self.wrong_but(field.referenced, what, "say what it is, or take it away");
        }
        said.into_iter().map(|(field, value)| (field.value.as_str(), value)).collect()
    }

    /// The fields of a place that may say nothing, and so may each of them: of a whole file, or of one of its sections.
    pub(crate) fn sections<'n>(&mut self, name: &str, node: &'n Node, known: &[&str]) -> Fields<'n> {
        if matches!(node.value, Stands::Nothing) {
            return Fields::new();
        }
        let fields = self.all_fields(name, node, known).into_iter();
        fields.filter(|(_, value)| !matches!(value.value, Stands::Nothing)).map(|(field, value)| (field.value.as_str(), value)).collect()
    }

    fn all_fields<'n>(&mut self, name: &str, node: &'n Node, known: &[&str]) -> Vec<(&'n Spanned<String>, &'n Node)> {
        let Stands::Named(nodes) = &node.value else {
            let such = known.first().copied().unwrap_or_default();
            self.instead(name, node, &format!("fields such as `{such}`"));
            return Vec::new();
        };
        let mut fields = Vec::new();
        for (field, value) in nodes {
            if known.contains(&field.value.as_str()) {
                fields.push((field, value));
            } else {
                let wrong = self
                    .mistake(field.referenced, format!("`{}` is not known in {name}", field.value))
                    .meant(&field.value, known.iter().copied());
                self.mistakes.push(wrong);
            }
        }
        fields
    }

    /// Tells that a field is missing at a place, unless another one there, told since `from` mistakes were known, is meant for
    /// it, or it is there with nothing under it.
    pub(crate) fn missing(&mut self, from: usize, at: &Node, name: &str, field: &str) {
        let is_it = format!("did you mean `{field}`?");
        let is_meant = self.mistakes.iter().skip(from).any(|mistake| mistake.cure.as_deref() == Some(is_it.as_str()));
        // What has no fields at all is told already.
        let Stands::Named(fields) = &at.value else { return };
        if !is_meant && fields.iter().all(|(known, _)| known.value != field) {
            let what = format!("{name} needs `{field}`, and this one has none");
            self.wrong_but(at.referenced, what, format!("write `{field}: …` here"));
        }
    }

    /// What stands under names of the author's choice.
    pub(crate) fn named<'n>(&mut self, name: &str, node: &'n Node) -> &'n [(Spanned<String>, Node)] {
        let Stands::Named(nodes) = &node.value else {
            self.instead(name, node, "names with something under each");
            return &[];
        };
        nodes
    }

    /// What is in a list.
    pub(crate) fn list<'n>(&mut self, name: &str, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Stands::List(nodes) => nodes,
            _ => {
                self.instead(name, node, "a list");
                &[]
            }
        }
    }

    /// The texts of a list.
    pub(crate) fn texts(&mut self, name: &str, node: &Node) -> Vec<Text> {
        let each = format!("each of {name}");
        self.list(name, node).iter().filter_map(|node| self.text(&each, node)).collect()
    }

    /// A text. A number, or `true`, is the text that it is written as.
    pub(crate) fn text(&mut self, name: &str, node: &Node) -> Option<Text> {
        let value = match &node.value {
            Stands::Text(value) => value.clone(),
            Stands::Flag(_) | Stands::Number(_) | Stands::OddNumber => self.text.get(span(self.text, node.defined))?.to_owned(),
            Stands::Nothing | Stands::List(_) | Stands::Named(_) => {
                self.instead(name, node, "a text");
                return None;
            }
        };
        Some(Text { value, at: node.referenced })
    }

    /// A whole number, at most this.
    pub(crate) fn number<T: TryFrom<u64> + fmt::Display>(&mut self, name: &str, node: &Node, most: T) -> Option<T> {
        match &node.value {
            Stands::Number(number) => T::try_from(*number).ok().or_else(|| {
                let what = format!("{number} is more than {most}, the most that {name} can be");
                self.wrong_but(node.referenced, what, format!("write a whole number of at most {most}"));
                None
            }),
            Stands::OddNumber => {
                let written = self.text.get(span(self.text, node.defined)).unwrap_or_default();
                let what = format!("`{written}` is not a whole number from 0 to {most}, which {name} must be");
                self.wrong_but(node.referenced, what, "write it with digits alone");
                None
            }
            _ => {
                self.instead(name, node, "a whole number");
                None
            }
        }
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, name: &str, node: &Node) -> Option<bool> {
        match &node.value {
            Stands::Flag(flag) => Some(*flag),
            _ => {
                self.instead(name, node, "`true` or `false`");
                None
            }
        }
    }

    /// One of some words, each with what it means.
    pub(crate) fn one_of<T: Copy>(&mut self, name: &str, node: &Node, known: &[(&str, T)]) -> Option<T> {
        let text = self.text(name, node)?;
        let found = known.iter().find(|(word, _)| *word == text.value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let wrong =
                self.mistake(text.at, format!("`{}` is no {name}", text.value)).meant(&text.value, known.iter().map(|(word, _)| *word));
            self.mistakes.push(wrong);
        }
        found
    }

    fn instead(&mut self, name: &str, node: &Node, wanted: &str) {
        let mistake = self.mistake(node.referenced, format!("{} stands here, and {name} must be {wanted}", node.value.told()));
        let cure = self.nearly(node, wanted);
        self.mistakes.push(Mistake { cure, ..mistake });
    }

    /// How to write what stands here as what is wanted, where little is wrong with it.
    fn nearly(&self, node: &Node, wanted: &str) -> Option<String> {
        let written = self.text.get(span(self.text, node.defined)).unwrap_or_default();
        match &node.value {
            Stands::Named(fields) if fields.iter().any(|(name, _)| name.value.starts_with('-')) => {
                Some("put a blank behind the `-`".to_owned())
            }
            Stands::Text(_) if wanted.contains("`entra`") => Some(format!("write `{{entra: {written}}}`, or `{{members: [{written}]}}`")),
            Stands::List(_) if wanted.contains("`entra`") => Some("write `{members: […]}`".to_owned()),
            Stands::Text(_) | Stands::Number(_) if wanted == "a list" => Some(format!("write `[{written}]`")),
            Stands::Text(text) if wanted == "a whole number" && text.parse::<u64>().is_ok() => {
                Some(format!("write `{text}`, without quotes"))
            }
            Stands::Text(_) if wanted == "a whole number" => Some("write it with digits alone".to_owned()),
            Stands::Text(_) | Stands::Number(_)
                if ["decision", "id", "name"].iter().any(|field| wanted.contains(&format!("`{field}`"))) =>
            {
                Some(format!("write `{{{}: {written}}}`", wanted.split('`').nth(1).unwrap_or_default()))
            }
            Stands::List(_) if wanted == "names with something under each" => Some("write `{name: value}`".to_owned()),
            Stands::Text(text) if wanted == "`true` or `false`" && ["true", "false"].contains(&text.as_str()) => {
                Some(format!("write `{text}`, without quotes"))
            }
            _ => None,
        }
    }
}

/// Whether a file has a section of another name than these.
pub(crate) fn holds_others(root: &Node, known: &[&str]) -> bool {
    matches!(&root.value, Stands::Named(fields) if fields.iter().any(|(name, _)| !known.contains(&name.value.as_str())))
}

/// The bytes of a place.
pub(crate) fn span(text: &str, at: Location) -> Range<usize> {
    let (Some(start), Some(length)) = (at.span().byte_offset(), at.span().byte_len()) else { return column_of(text, at) };
    let start = usize::try_from(start).unwrap_or(text.len()).min(text.len());
    let end = start.saturating_add(usize::try_from(length).unwrap_or_default()).min(text.len());
    if text.is_char_boundary(start) && text.is_char_boundary(end) { start..end } else { line_of(text, at.line()) }
}

/// The character of a place of which only line and column are known; its whole line where that has no such column.
fn column_of(text: &str, at: Location) -> Range<usize> {
    let line = line_of(text, at.line());
    let before = usize::try_from(at.column().saturating_sub(1)).unwrap_or_default();
    let found = text.get(line.clone()).and_then(|text| text.char_indices().nth(before));
    found.filter(|_| before > 0).map_or(line.clone(), |(at, c)| line.start + at..line.start + at + c.len_utf8())
}

fn line_of(text: &str, line: u64) -> Range<usize> {
    let before = usize::try_from(line.saturating_sub(1)).unwrap_or_default();
    let start: usize = text.split_inclusive('\n').take(before).map(str::len).sum();
    let length = text.get(start..).and_then(|rest| rest.lines().next()).map_or(0, str::len);
    start..start + length
}

/// How a file is read. Its length bounds what it can say, but for what stands once and is named in many places.
fn options() -> Options {
    let mut options = Options::default();
    options.with_snippet = false;
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.budget = serde_saphyr::budget! {
        max_depth: DEEPEST,
        max_events: usize::MAX,
        max_nodes: usize::MAX,
        max_aliases: usize::MAX,
        max_anchors: usize::MAX,
        max_merge_keys: usize::MAX,
        max_total_scalar_bytes: usize::MAX,
        enforce_alias_anchor_ratio: false,
    };
    options
}

/// Deeper than any of our files has to be: what is deeper is read by recursion, too, and could end the program.
const DEEPEST: usize = 64;

/// What is no YAML, and what to write instead, in words of our own where the library speaks of its own matters.
fn said(why: &Error) -> (String, Option<String>) {
    let told = |what: &str, cure: &str| (what.to_owned(), Some(cure.to_owned()));
    match why {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => said(error),
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => told(
            &format!("more than {DEEPEST} lists and fields stand within each other here"),
            "take them apart: no file of these needs more than eight",
        ),
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } | Error::AliasExpansionLimitExceeded { .. } => told(
            "with what its aliases (`*name`) stand for, the file says too much to be read",
            "use fewer aliases, or take the file apart",
        ),
        Error::AliasReplayStackDepthExceeded { .. } | Error::RecursiveReferencesRequireWeakTypes { .. } => {
            told("this alias stands for something that has an alias in it, and so on without an end", "write out what it stands for")
        }
        Error::UnknownAnchor { .. } => told("no anchor before this alias has its name", "write `&name` before what `*name` stands for"),
        Error::MultipleDocuments { .. } => {
            told("a second document begins here, after `---`", "take the line away, or put what follows into a file of its own")
        }
        Error::MergeValueNotMapOrSeqOfMaps { .. } => {
            told("`<<` takes over fields, and something else stands here", "name an alias of fields, or a list of such aliases")
        }
        Error::NonFiniteFloat { value, .. } => {
            told(&format!("`{value}` is no number that could be used"), "write a whole number, or a text in quotes")
        }
        Error::NullIntoString { .. } => {
            told("nothing stands here for the name of a field", "write its name, in quotes where it means something to YAML")
        }
        _ => sentence(&why.without_snippet().to_string()),
    }
}

/// What the library says of a file that is no YAML, without the place that is told beside it.
fn sentence(said: &str) -> (String, Option<String>) {
    let first = said.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let what = match first.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest,
        _ => first.rsplit_once(" at line ").map_or(first, |(what, _)| what),
    };
    let told = |what: &str, cure: &str| (what.to_owned(), Some(cure.to_owned()));
    let quoted = || what.split(['`', '\'']).nth(1).unwrap_or_default();
    match what {
        _ if what.starts_with("tabs disallowed") => told("a tab stands here where the line is indented", "indent with blanks"),
        "unclosed quote" => told("a text in quotes does not end", "look for the quote that is missing, from this line on"),
        _ if what.starts_with("unclosed bracket") => {
            told(&format!("a `{}` is never closed", quoted()), "look for the bracket that is missing")
        }
        _ if what.starts_with("illegal placement of ':'") => {
            told("a `:` cannot stand here", "look whether a bracket before it is never closed, or put a text with `: ` in it into quotes")
        }
        _ if quoted().starts_with("\\u{") => {
            told(&format!("the character `{}` cannot stand in a YAML file", quoted()), "take it away: it is not seen")
        }
        "mapping values are not allowed in this context" => told(
            "a `:` cannot stand here",
            "put a text with `: ` in it into quotes, and look whether the line before lacks a `:` or is indented otherwise",
        ),
        _ if what.contains("did not find expected") => told(
            "this line does not go on with what was begun before it",
            "indent what belongs together by the same number of blanks, and look for a missing `-`, `,` or `:`",
        ),
        _ if what.starts_with("unexpected character") && !quoted().is_empty() => {
            told(&format!("a text without quotes cannot begin with `{}`, or have it in it", quoted()), "put the text into quotes")
        }
        _ => (format!("the file is no YAML from here on: {what}"), None),
    }
}

impl<'de> Deserialize<'de> for Stands {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Stands;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Stands, E> {
        Ok(Stands::Nothing)
    }

    fn visit_none<E>(self) -> Result<Stands, E> {
        Ok(Stands::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Stands, D::Error> {
        Stands::deserialize(from)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Stands, E> {
        Ok(Stands::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Stands, E> {
        Ok(Stands::Number(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Stands, E> {
        Ok(u64::try_from(number).map_or(Stands::OddNumber, Stands::Number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Stands, E> {
        Ok(Stands::OddNumber)
    }

    fn visit_str<E>(self, text: &str) -> Result<Stands, E> {
        Ok(Stands::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Stands, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Stands::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Stands, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = map.next_entry()? {
            nodes.push(node);
        }
        Ok(Stands::Named(nodes))
    }
}
