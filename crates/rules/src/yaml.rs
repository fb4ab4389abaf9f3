//! YAML files, with the place of whatever is wrong in them.

use std::ops::Range;

use serde::de::DeserializeOwned;
use serde_saphyr::{Location, Options};

use crate::mistake::Mistake;

/// Reads a file. One that holds nothing but comments is like one that says nothing.
pub(crate) fn read<T: DeserializeOwned + Default>(file: &str, text: &str) -> Result<T, Mistake> {
    let says_nothing = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if says_nothing {
        return Ok(T::default());
    }
    let mut options = Options::default();
    options.with_snippet = false;
    serde_saphyr::from_str_with_options(text, options).map_err(|why| {
        let span = why.location().map_or(0..0, |at| span(text, at));
        Mistake::error(file, span, sentence(&why.without_snippet().to_string()))
    })
}

/// The bytes of a place.
pub(crate) fn span(text: &str, at: Location) -> Range<usize> {
    let (Some(start), Some(length)) = (at.span().byte_offset(), at.span().byte_len()) else { return line_of(text, at.line()) };
    let start = usize::try_from(start).unwrap_or(text.len()).min(text.len());
    let end = start.saturating_add(usize::try_from(length).unwrap_or_default()).min(text.len());
    if text.is_char_boundary(start) && text.is_char_boundary(end) { start..end } else { line_of(text, at.line()) }
}

fn line_of(text: &str, line: u64) -> Range<usize> {
    let before = usize::try_from(line.saturating_sub(1)).unwrap_or_default();
    let start: usize = text.split_inclusive('\n').take(before).map(str::len).sum();
    let length = text.get(start..).and_then(|rest| rest.lines().next()).map_or(0, str::len);
    start..start + length
}

/// What the library says, without the place that is told beside it.
fn sentence(said: &str) -> String {
    let first = said.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    match first.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest.to_owned(),
        _ => first.rsplit_once(" at line ").map_or(first, |(what, _)| what).to_owned(),
    }
}
