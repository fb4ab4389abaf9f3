//! A world in a file: read for `--world`, and what is wrong with it said with its place and its key.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use portcullis_sandbox::engine::Clock;
use portcullis_sandbox::sandbox::begins;
use portcullis_sandbox::state::State;
use serde_json::Value;

/// What chrono says of a text that is no instant, none of which helps whoever wrote it.
const NO_INSTANT: [&str; 6] = [
    "input contains invalid characters",
    "premature end of input",
    "trailing input",
    "input is out of range",
    "input is not enough for unique date and time",
    "no possible date and time matching input",
];

/// Reads a world; what is wrong with it is said with its file, line, column and key.
pub fn read(path: &Path) -> anyhow::Result<State> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    if text.trim_start().starts_with('[') {
        bail!("{}: a world is a JSON object such as GET /state shows, and this is an array", path.display());
    }
    let mut state: State = serde_json::from_str(&text).map_err(|error| wrong(path, &text, &error))?;
    let file: Value = serde_json::from_str(&text)?;
    check_resources(&file).with_context(|| path.display().to_string())?;
    if file.get("now").is_none() {
        state.now = begins(Clock::Running);
    }
    Ok(state)
}

fn wrong(path: &Path, text: &str, error: &serde_json::Error) -> anyhow::Error {
    let (line, column) = (error.line(), error.column());
    let said = error.to_string();
    let said = said.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&said);
    let why = match NO_INSTANT.contains(&said) {
        true => "this is no instant such as \"2026-01-15T09:00:00Z\"".to_owned(),
        false => said.to_owned(),
    };
    let place = format!("{}:{line}:{column}", path.display());
    match key_at(text, line, column) {
        // What is wrong with the whole, or with a key that the message names itself.
        key if key.is_empty() || !error.is_data() || said.starts_with("unknown field") => anyhow!("{place}: {why}"),
        key => anyhow!("{place}: {key}: {why}"),
    }
}

/// What encloses a place in JSON text.
enum Frame {
    Object(String),
    Array(usize),
}

/// The key of the value that is read at this place, such as `queues.approval.messages[2].body`.
fn key_at(text: &str, line: usize, column: usize) -> String {
    let before = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
    let read = text.get(..before + column).unwrap_or(text);
    let mut frames: Vec<Frame> = Vec::new();
    let mut last = String::new();
    let mut chars = read.chars();
    while let Some(c) = chars.next() {
        match (c, frames.last_mut()) {
            ('"', _) => last = string(&mut chars),
            (':', Some(Frame::Object(key))) => *key = std::mem::take(&mut last),
            (',', Some(Frame::Array(index))) => *index += 1,
            ('{', _) => frames.push(Frame::Object(String::new())),
            ('[', _) => frames.push(Frame::Array(0)),
            ('}' | ']', _) => {
                frames.pop();
            }
            (_, _) => {}
        }
    }
    frames.iter().fold(String::new(), |path, frame| match frame {
        Frame::Object(key) if path.is_empty() => key.clone(),
        Frame::Object(key) => format!("{path}.{key}"),
        Frame::Array(index) => format!("{path}[{index}]"),
    })
}

/// The rest of a string, up to its quotation mark.
fn string(chars: &mut std::str::Chars) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => text.extend(chars.next()),
            c => text.push(c),
        }
    }
    text
}

/// A resource without an id could not be reached, and would be lost without a word.
fn check_resources(file: &Value) -> anyhow::Result<()> {
    let resources = file.get("resources").and_then(Value::as_array);
    for (place, resource) in resources.into_iter().flatten().enumerate() {
        let id = resource.get("id").and_then(Value::as_str).unwrap_or_default();
        if !id.starts_with('/') {
            bail!("resource {} of the list has no id such as /subscriptions/…", place + 1);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_place_is_found() {
        let text = "{\"a\": 1,\n \"q\": {\"x\\\"{\": [1, {\"b\": \"[,:\", \"c\": 7}]}}";
        let at = |part: &str| {
            let place = text.find(part).unwrap() + part.len();
            let line = text[..place].matches('\n').count() + 1;
            key_at(text, line, place - text[..place].rfind('\n').map_or(0, |newline| newline + 1))
        };
        assert_eq!(at("1"), "a");
        assert_eq!(at("[1"), "q.x\"{[0]");
        assert_eq!(at("[,:"), "q.x\"{[1].b");
        assert_eq!(at("7"), "q.x\"{[1].c");
        assert_eq!(key_at("[", 1, 1), "[0]");
        assert_eq!(key_at("", 1, 0), "");
    }
}
