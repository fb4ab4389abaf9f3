//! What is wrong with a rule set: the place, what is wrong there, and what to write instead.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::files::{RuleFiles, UNREAD};
use crate::plain::plain;

/// So many names are told; of more the nearest alone.
const FEW: usize = 20;

/// Whether a rule set with it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It cannot: nothing opens until it is mended.
    Error,
    /// It can, and somebody should look.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, by its name in the folder.
    pub file: String,
    /// The bytes of the file that are wrong; empty at a place where something is missing.
    pub span: Range<usize>,
    /// What is wrong, in one sentence.
    pub what: String,
    /// What to write instead, where that is known.
    pub cure: Option<String>,
    /// Whether the set can be used all the same.
    pub weight: Weight,
}

impl Mistake {
    /// An error at a place of a file.
    pub fn error(file: &str, span: Range<usize>, what: impl Into<String>) -> Self {
        Mistake { file: file.to_owned(), span, what: what.into(), cure: None, weight: Weight::Error }
    }

    /// The same as a warning.
    #[must_use]
    pub fn as_warning(mut self) -> Self {
        self.weight = Weight::Warning;
        self
    }

    /// The same with what to write instead.
    #[must_use]
    pub fn cured(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    /// The same with the nearest of the known names as what was meant, or with all of them where they are few.
    #[must_use]
    pub fn meant<'a>(self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        match nearest(name, known.iter().copied()) {
            Some(near) => self.cured(format!("did you mean `{near}`?")),
            None if known.is_empty() || known.len() > FEW => self,
            None if known.len() == 1 => self.cured(format!("only {} is known", known.join(""))),
            None => self.cured(format!("known are {}", known.join(", "))),
        }
    }

    /// Whether it is told of a text with characters that could not be read.
    pub(crate) fn stands_on_unread(&self, files: &RuleFiles) -> bool {
        let text = files.text(&self.file).and_then(|text| text.get(self.span.clone()));
        files.says_more(&self.file) && text.is_some_and(|text| text.contains(UNREAD))
    }

    /// The line and column where it is, from 1; columns count characters.
    pub fn place(&self, files: &RuleFiles) -> (usize, usize) {
        place(files.text(&self.file).unwrap_or_default(), self.span.start)
    }

    /// For a person: what is wrong, the line with the place underlined, and what to write instead. `shown_in` is put
    /// before the file's name.
    pub fn shown(&self, files: &RuleFiles, shown_in: &str, colours: Colours) -> String {
        let excerpt = Excerpt::of(files.text(&self.file).unwrap_or_default(), &self.span);
        let path = plain(&format!("{shown_in}{}", self.file)).into_owned();
        let (what, cure) = (wrapped(&self.what), self.cure.as_deref().map(wrapped));
        let level = match self.weight {
            Weight::Error => Level::ERROR,
            Weight::Warning => Level::WARNING,
        };
        let snippet =
            Snippet::source(excerpt.text.as_str()).line_start(excerpt.line).annotation(AnnotationKind::Primary.span(excerpt.span.clone()));
        let title = level.primary_title(what);
        let mut group: Group<'_> = match excerpt.column {
            None if excerpt.text.is_empty() => title.element(Origin::path(path)),
            None => title.element(snippet.path(path)),
            Some(column) => title.element(Origin::path(path).line(excerpt.line).char_column(column)).element(snippet),
        };
        if let Some(cure) = cure {
            group = group.element(Level::HELP.message(cure));
        }
        let renderer = match colours {
            Colours::Plain => Renderer::plain(),
            Colours::Terminal => Renderer::styled(),
        };
        renderer.render(&[group]).to_string()
    }
}

/// The lines of a file that a mistake is on; of a line that is longer than anybody reads, what is around the mistake.
struct Excerpt {
    text: String,
    /// The mistake's place in the excerpt.
    span: Range<usize>,
    /// The line of its first, from 1.
    line: usize,
    /// The mistake's column in its line, from 1, where the excerpt does not begin with the line.
    column: Option<usize>,
}

impl Excerpt {
    fn of(text: &str, span: &Range<usize>) -> Self {
        let at = boundary(text, span.start);
        let end = boundary(text, span.end.max(at));
        let (line, column) = place(text, at);
        let line_begins = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let begins = line_begins.max(boundary(text, at.saturating_sub(AROUND)));
        let until = text[end..].find('\n').map_or(text.len(), |length| end + length);
        let widest = if text[at..end].contains('\n') { until } else { boundary(text, at + AROUND) };
        let until = until.min(boundary(text, end.saturating_add(AROUND))).min(widest);
        // Windows ends a line with two characters, of which only one does here.
        let plain = |text: &str| shown_lines(text.replace("\r\n", "\n").trim_end_matches('\r'));
        let (before, within) = (plain(&text[begins..at]).len(), plain(&text[at..end.min(until)]).len());
        let column = (begins > line_begins).then_some(column);
        Excerpt { text: plain(&text[begins..until]), span: before..before + within, line, column }
    }
}

/// Lines of a file as they are shown: what is not seen, or moves what is seen, is an escape.
fn shown_lines(text: &str) -> String {
    let shown = |c: char| if matches!(c, '\n' | '\t') { c.to_string() } else { plain(c.encode_utf8(&mut [0; 4])).into_owned() };
    text.chars().map(shown).collect()
}

/// So many bytes of a line are shown before and after the place of a mistake: more than fit on a screen.
const AROUND: usize = 1000;

/// The last place of a text that is none within a character, up to this byte.
fn boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

/// The widest that a sentence is shown on one line.
const WIDEST: usize = 100;

/// The most of a sentence that is told: what it quotes of a file may be as long as the file.
const LONGEST: usize = 1500;

/// A sentence as it is told: in part where it is longer than anybody reads.
fn told(text: &str) -> String {
    let text = plain(text);
    text.char_indices().nth(LONGEST).map_or_else(|| text.to_string(), |(end, _)| format!("{}…", &text[..end]))
}

/// A sentence over as many lines as it needs; what stands in backticks stays together where a line can hold it.
fn wrapped(text: &str) -> String {
    folded(&told(text), WIDEST).join("\n")
}

/// A sentence over as many lines as it needs, each but the first indented so far.
pub(crate) fn hanging(text: &str, indent: usize) -> String {
    folded(text, WIDEST.saturating_sub(indent)).join(&format!("\n{}", " ".repeat(indent)))
}

fn folded(text: &str, widest: usize) -> Vec<String> {
    let text = plain(text);
    let mut lines: Vec<String> = Vec::new();
    let mut rest = text.as_ref();
    while !rest.is_empty() {
        let (word, after) = rest.split_at(unit(rest, widest));
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= widest) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
        rest = after.trim_start_matches(' ');
    }
    lines
}

/// The length of what stays on one line at the beginning of a text.
fn unit(text: &str, widest: usize) -> usize {
    let mut is_code = false;
    let end = text.find(|c: char| {
        is_code ^= c == '`';
        c == ' ' && !is_code
    });
    let word = text.find(' ').unwrap_or(text.len());
    end.filter(|end| *end <= widest).unwrap_or(if text.len() <= widest && !is_code { text.len() } else { word })
}

/// In one line: file, what and cure.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", plain(&self.file), told(&self.what))?;
        self.cure.iter().try_for_each(|cure| write!(f, "; {}", told(cure)))
    }
}

/// Whether what is shown has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// None.
    Plain,
    /// Those of a terminal.
    Terminal,
}

/// The line and column of a byte of a text, from 1.
pub fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Where the lines of a text begin, so that many places of it are told without reading it for each.
#[derive(Clone, Debug)]
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    /// The lines of a text.
    pub(crate) fn of(text: &str) -> Self {
        Lines(text.match_indices('\n').map(|(at, _)| at + 1).collect())
    }

    /// The line of a byte, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.0.partition_point(|begin| *begin <= at) + 1
    }

    /// The line and column of a byte of the same text, from 1; columns count characters.
    pub(crate) fn place(&self, text: &str, at: usize) -> (usize, usize) {
        let line = self.line(at);
        let begin = line.checked_sub(2).and_then(|before| self.0.get(before)).copied().unwrap_or_default();
        let before = text.get(begin..at).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

/// The known name that somebody meant, if one is so near that it is likely.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let near = known.into_iter().map(|known| (strsim::damerau_levenshtein(&name, &known.to_lowercase()), known)).min()?;
    let (edits, known) = near;
    (edits <= 2.min(known.len() / 2) || edits * 3 <= known.len()).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_shown_with_its_line_underlined() {
        let files = RuleFiles::of([("a.cedar", "// é\npermit (prinzipal);\n")]);
        let mistake = Mistake::error("a.cedar", 14..23, "`prinzipal` is none").meant("prinzipal", ["principal"]);
        assert_eq!(mistake.place(&files), (2, 9));
        insta::assert_snapshot!(mistake.shown(&files, "policies/", Colours::Plain), @r"
        error: `prinzipal` is none
         --> policies/a.cedar:2:9
          |
        2 | permit (prinzipal);
          |         ^^^^^^^^^
          |
          = help: did you mean `principal`?
        ");
        assert_eq!(mistake.to_string(), "a.cedar: `prinzipal` is none; did you mean `principal`?");
        let nowhere = Mistake::error("a.cedar", 900..901, "it ends too early").as_warning();
        assert!(nowhere.shown(&files, "", Colours::Plain).starts_with("warning: it ends too early"));
    }

    #[test]
    fn the_places_of_a_text_are_the_same_however_they_are_found() {
        let text = "é a\n\n b é\r\nc";
        let lines = Lines::of(text);
        for (at, _) in text.char_indices().chain([(text.len(), ' ')]) {
            assert_eq!(lines.place(text, at), place(text, at), "{at}");
        }
    }

    #[test]
    fn the_ends_of_lines_of_windows_are_not_shown() {
        let files = RuleFiles::of([("a.cedar", "permit\r\n(\r\nx);\r\n")]);
        let shown = |span| Mistake::error("a.cedar", span, "it is wrong").shown(&files, "", Colours::Plain);
        assert!(
            [shown(0..6), shown(0..12), shown(8..9)].iter().all(|shown| !shown.contains('␍') && shown.contains('^')),
            "{}",
            shown(0..12)
        );
    }

    #[test]
    fn of_a_very_long_line_what_is_around_the_mistake_is_shown() {
        let text = format!("a\n{}wrong{}\nb\n", "é ".repeat(400_000), "x ".repeat(400_000));
        let at = 2 + 3 * 400_000;
        let files = RuleFiles::of([("a.cedar", text.as_str())]);
        let shown = Mistake::error("a.cedar", at..at + 5, "it is wrong").shown(&files, "", Colours::Plain);
        assert!(shown.contains("--> a.cedar:2:800001") && shown.contains(" wrongx") && shown.len() < 1000, "{shown}");
        assert!(shown.lines().last().unwrap().trim_start_matches([' ', '|']) == "^^^^^", "{shown}");
        let whole = Mistake::error("a.cedar", 2..text.len() - 4, "it is long").shown(&files, "", Colours::Plain);
        assert!(whole.contains("--> a.cedar:2:1") && whole.len() < 4000, "{}", whole.len());
    }

    #[test]
    fn long_sentences_go_over_several_lines_and_what_steers_a_terminal_is_escaped() {
        let files = RuleFiles::of([("a.cedar", "permit")]);
        let mistake =
            Mistake::error("a.cedar", 0..6, format!("it is \u{1b}[2J {}", "so long a sentence ".repeat(6))).cured("one\ntwo ".repeat(20));
        insta::assert_snapshot!(mistake.shown(&files, "", Colours::Plain), @r"
        error: it is \u{1b}[2J so long a sentence so long a sentence so long a sentence so long a sentence so long
               a sentence so long a sentence
         --> a.cedar:1:1
          |
        1 | permit
          | ^^^^^^
          |
          = help: one\ntwo one\ntwo one\ntwo one\ntwo one\ntwo one\ntwo one\ntwo one\ntwo one\ntwo one\ntwo one\ntwo
                  one\ntwo one\ntwo one\ntwo one\ntwo one\ntwo one\ntwo one\ntwo one\ntwo one\ntwo
        ");
    }

    #[test]
    fn the_nearest_name_is_told_only_when_it_is_near() {
        let known = ["responders", "developers", "ciso"];
        for (name, near) in
            [("responder", Some("responders")), ("Developres", Some("developers")), ("cios", Some("ciso")), ("finance", None), ("xy", None)]
        {
            assert_eq!(nearest(name, known), near, "{name}");
        }
        let far = Mistake::error("a", 0..0, "x").meant("finance", known);
        assert_eq!(far.cure.as_deref(), Some("known are responders, developers, ciso"));
        assert_eq!(Mistake::error("a", 0..0, "x").meant("finance", []).cure, None);
    }
}
