//! What is wrong with a rule set: the place, what is wrong there, and what to write instead.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::files::RuleFiles;

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
            None => self.cured(format!("known are {}", known.join(", "))),
        }
    }

    /// The line and column where it is, from 1; columns count characters.
    pub fn place(&self, files: &RuleFiles) -> (usize, usize) {
        place(files.text(&self.file).unwrap_or_default(), self.span.start)
    }

    /// For a person: what is wrong, the line with the place underlined, and what to write instead. `shown_in` is put
    /// before the file's name.
    pub fn shown(&self, files: &RuleFiles, shown_in: &str, colours: Colours) -> String {
        let text = files.text(&self.file).unwrap_or_default();
        let path = format!("{shown_in}{}", self.file);
        let level = match self.weight {
            Weight::Error => Level::ERROR,
            Weight::Warning => Level::WARNING,
        };
        let span = self.span.start.min(text.len())..self.span.end.min(text.len());
        let snippet = Snippet::source(text).path(path.as_str()).annotation(AnnotationKind::Primary.span(span));
        let mut group: Group<'_> = level.primary_title(self.what.as_str()).element(snippet);
        if let Some(cure) = &self.cure {
            group = group.element(Level::HELP.message(cure.as_str()));
        }
        let renderer = match colours {
            Colours::Plain => Renderer::plain(),
            Colours::Terminal => Renderer::styled(),
        };
        renderer.render(&[group]).to_string()
    }
}

/// In one line: file, line, column, what and cure.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)?;
        self.cure.iter().try_for_each(|cure| write!(f, "; {cure}"))
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
