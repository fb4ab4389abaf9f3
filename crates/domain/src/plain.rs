//! Texts of others, shown so that they cannot steer a terminal or be taken for more than they are.

use std::borrow::Cow;

/// The text with whatever is not seen, or moves what is seen, written as an escape: line breaks, control characters, marks of
/// direction and characters without width.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let written = |c: char| if is_hidden(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(written).collect())
}

/// The most of a text of somebody else's that is told in a sentence: more than an ARM id or an address has.
const QUOTED: usize = 300;

/// A text as it is told in a sentence: [`plain`], and with `…` for what is more than anybody reads of it.
pub fn quoted(text: &str) -> String {
    let mut told = String::new();
    for c in text.chars() {
        let written = if is_hidden(c) { c.escape_default().to_string() } else { c.to_string() };
        if told.len() + written.len() > QUOTED {
            told.push('…');
            break;
        }
        told.push_str(&written);
    }
    told
}

/// Whether a character is not seen, or moves what is seen.
pub fn is_hidden(c: char) -> bool {
    // Nearly every character that is asked about; each id of a long list is asked about in whole.
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let moves_or_hides = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || moves_or_hides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_as_an_escape() {
        assert_eq!(plain("a\n\u{1b}[2Jb\r\u{9b}1m\u{202e}c"), "a\\n\\u{1b}[2Jb\\r\\u{9b}1m\\u{202e}c");
        assert!(matches!(plain("Zürich, 東京 – \"ok\""), Cow::Borrowed(_)));
    }

    #[test]
    fn a_text_is_told_in_part_where_it_is_long() {
        assert_eq!(quoted("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(quoted(&"x".repeat(300)), "x".repeat(300));
        assert_eq!(quoted(&"x".repeat(301)), format!("{}…", "x".repeat(300)));
        assert_eq!(quoted(&"\u{1b}".repeat(100_000)), format!("{}…", "\\u{1b}".repeat(50)));
    }
}
