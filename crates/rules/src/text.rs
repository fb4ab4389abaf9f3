//! The text of rules, taken apart as far as is needed to point into it and to say which part of a rule did not hold.
//!
//! Cedar parses rules; this only finds where one begins and ends, its scope, its annotations and its conditions, so
//! that one broken rule does not hide the mistakes of the next, and a condition can be told in the author's words.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    Literal,
    Sign,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    kind: Kind,
    span: Range<usize>,
}

/// The tokens of a text; blanks and comments are none. A literal may go over several lines, and one that does not end
/// reaches to the end of the text: as for Cedar.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = &text[at..];
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        // The mark that some editors write at the beginning of a file is a blank there.
        let (kind, length) = if first.is_whitespace() || (at == 0 && first == '\u{feff}') {
            (None, first.len_utf8())
        } else if rest.starts_with("//") {
            // Cedar ends a comment at a lone carriage return, too: what stands behind it is a rule.
            (None, rest.find(['\n', '\r']).unwrap_or(rest.len()))
        } else if first == '"' {
            (Some(Kind::Literal), literal_length(rest))
        } else if is_word(first) {
            (Some(Kind::Word), rest.find(|c| !is_word(c)).unwrap_or(rest.len()))
        } else if ["&&", "||", "::"].iter().any(|sign| rest.starts_with(sign)) {
            (Some(Kind::Sign), 2)
        } else {
            (Some(Kind::Sign), first.len_utf8())
        };
        tokens.extend(kind.map(|kind| Token { kind, span: at..at + length }));
        at += length;
    }
    tokens
}

fn literal_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// Where the text in quotes begins that was meant to end before the rule does: the first that goes on to the head of a rule or to
/// an annotation on another line.
pub fn opened(text: &str) -> Option<usize> {
    let goes_on = |token: &Token| {
        let lines = text[token.span.clone()].lines().skip(1);
        lines.map(str::trim_start).any(|line| ["permit", "forbid", "@"].iter().any(|begin| line.starts_with(begin)))
    };
    tokens(text).iter().find(|token| token.kind == Kind::Literal && goes_on(token)).map(|token| token.span.start)
}

/// Where the statements of a text are, each with its semicolon. One without ends where the next one begins, so that a
/// forgotten semicolon hides nothing.
pub fn statements(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut begin: Option<usize> = None;
    let (mut end, mut depth, mut has_scope) = (0, 0usize, false);
    for token in tokens(text) {
        let word = if token.kind == Kind::Literal { "" } else { &text[token.span.clone()] };
        let begins_another = depth == 0 && has_scope && ["@", "permit", "forbid"].contains(&word);
        if let Some(start) = begin.filter(|_| begins_another) {
            found.push(start..end);
            (begin, has_scope) = (None, false);
        }
        let start = *begin.get_or_insert(token.span.start);
        end = token.span.end;
        match word {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "permit" | "forbid" if depth == 0 => has_scope = true,
            ";" => {
                found.push(start..end);
                (begin, depth, has_scope) = (None, 0, false);
            }
            _ => {}
        }
    }
    found.extend(begin.map(|start| start..end));
    found
}

/// Deeper brackets, more choices and longer conditions than anybody reads: Cedar reads a rule by recursion, and one that is
/// deep enough would end the program.
const DEEPEST: usize = 50;
const MOST_CHOICES: usize = 50;
const MOST_TOKENS: usize = 3000;

/// Where a statement is more than can be read.
pub fn too_much(text: &str) -> Option<Range<usize>> {
    let (mut depth, mut choices, mut signs) = (0usize, 0usize, 0usize);
    for (n, token) in tokens(text).into_iter().enumerate() {
        let word = if token.kind == Kind::Literal { "" } else { &text[token.span.clone()] };
        match word {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "if" => choices += 1,
            _ => {}
        }
        signs = if ["!", "-"].contains(&word) { signs + 1 } else { 0 };
        if depth > DEEPEST || choices > MOST_CHOICES || signs > DEEPEST || n >= MOST_TOKENS {
            return Some(token.span);
        }
    }
    None
}

/// Where a few words of a rule stand in it, however they are spaced; comments and texts are none of them.
pub fn places(text: &str, words: &str) -> Vec<Range<usize>> {
    let (all, wanted) = (tokens(text), tokens(words));
    let is_there = |some: &&[Token]| some.iter().zip(&wanted).all(|(one, other)| text[one.span.clone()] == words[other.span.clone()]);
    let found = all.windows(wanted.len().max(1)).filter(is_there).filter(|_| !wanted.is_empty());
    found.filter_map(|some| Some(some.first()?.span.start..some.last()?.span.end)).collect()
}

/// A text on one line, without its comments.
pub fn on_one_line(text: &str) -> String {
    let mut line = String::new();
    let mut last: Option<usize> = None;
    for token in tokens(text) {
        let gap = last.is_some_and(|end| end < token.span.start);
        line.push_str(if gap { " " } else { "" });
        line.push_str(&text[token.span.clone()].split_whitespace().collect::<Vec<_>>().join(" "));
        last = Some(token.span.end);
    }
    line
}

/// An annotation: its name and its value with the quotes, where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// The name.
    pub name: Range<usize>,
    /// The value, quotes included.
    pub value: Option<Range<usize>>,
}

/// Which kind of condition a part of a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartKind {
    /// Who.
    Principal,
    /// Which machine.
    Resource,
    /// What must hold.
    When,
    /// What must not hold.
    Unless,
}

/// A part of a rule that must hold for the rule to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// Its text.
    pub span: Range<usize>,
}

/// Where the pieces of one statement are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The annotations.
    pub annotations: Vec<Annotation>,
    /// From `permit` or `forbid` to the end of the scope.
    pub head: Range<usize>,
    /// What must hold, in order.
    pub parts: Vec<Part>,
}

/// Takes one statement apart; spans count from the statement's beginning. What is not a rule has no parts.
pub fn shape(text: &str) -> Shape {
    let tokens = tokens(text);
    let is = |n: usize, sign: &str| tokens.get(n).is_some_and(|token| token.kind != Kind::Literal && &text[token.span.clone()] == sign);
    let mut shape = Shape::default();
    let mut n = 0;
    while is(n, "@") {
        let Some(name) = tokens.get(n + 1) else { return shape };
        let value = tokens.get(n + 3).filter(|token| is(n + 2, "(") && token.kind == Kind::Literal);
        shape.annotations.push(Annotation { name: name.span.clone(), value: value.map(|value| value.span.clone()) });
        // What is written wrong in one hides no other: a value without quotes, a bracket that is missing.
        n += match (value.is_some(), is(n + 2, "(")) {
            (true, _) if is(n + 4, ")") => 5,
            (true, _) => 4,
            (false, true) => closing(text, &tokens, n + 2).map_or(2, |end| end + 1 - n),
            (false, false) => 2,
        };
    }
    let Some(effect) = tokens.get(n) else { return shape };
    let Some(end) = is(n + 1, "(").then(|| closing(text, &tokens, n + 1)).flatten() else {
        shape.head = effect.span.clone();
        return shape;
    };
    shape.head = effect.span.start..tokens[end].span.end;
    let scope = split(text, &tokens[n + 2..end], ",");
    let (principal, resource) = (scope.first().cloned(), scope.get(2).cloned());
    let says_more = |span: &Range<usize>, word: &str| &text[span.clone()] != word;
    shape.parts.extend(principal.filter(|s| says_more(s, "principal")).map(|span| Part { kind: PartKind::Principal, span }));
    shape.parts.extend(resource.filter(|s| says_more(s, "resource")).map(|span| Part { kind: PartKind::Resource, span }));
    n = end + 1;
    while (is(n, "when") || is(n, "unless")) && is(n + 1, "{") {
        let kind = if is(n, "when") { PartKind::When } else { PartKind::Unless };
        let Some(end) = closing(text, &tokens, n + 1) else { return shape };
        shape.parts.extend(pieces(text, &tokens[n + 2..end], kind).into_iter().map(|span| Part { kind, span }));
        n = end + 1;
    }
    shape
}

/// The pieces of a condition that hold or do not hold on their own: of a `when` those between `&&`, of an `unless` those
/// between `||`.
fn pieces(text: &str, tokens: &[Token], kind: PartKind) -> Vec<Range<usize>> {
    let whole = split(text, tokens, "\0");
    let at_top = |sign: &str| split(text, tokens, sign).len() > 1;
    let chooses = tokens.first().is_some_and(|token| &text[token.span.clone()] == "if");
    match kind {
        _ if chooses => whole,
        PartKind::When if at_top("||") => whole,
        PartKind::When => split(text, tokens, "&&"),
        PartKind::Unless => split(text, tokens, "||"),
        PartKind::Principal | PartKind::Resource => whole,
    }
}

/// The texts between a sign, where it is in no bracket.
fn split(text: &str, tokens: &[Token], sign: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut piece: Option<Range<usize>> = None;
    let mut depth = 0usize;
    for token in tokens {
        let word = &text[token.span.clone()];
        if token.kind == Kind::Sign {
            match word {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ if word == sign && depth == 0 => {
                    found.extend(piece.take());
                    continue;
                }
                _ => {}
            }
        }
        let start = piece.map_or(token.span.start, |piece| piece.start);
        piece = Some(start..token.span.end);
    }
    found.extend(piece);
    found
}

/// The token that closes the bracket at `open`.
fn closing(text: &str, tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (n, token) in tokens.iter().enumerate().skip(open) {
        if token.kind != Kind::Sign {
            continue;
        }
        match &text[token.span.clone()] {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(n);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        shape(text).parts.iter().map(|part| format!("{:?} {}", part.kind, &text[part.span.clone()])).collect()
    }

    #[test]
    fn statements_end_at_semicolons_that_are_none_of_texts_or_comments() {
        let text = "// a; b\npermit(\"x;\\\"y;\");\n\n forbid ( ) ; // c;\nlast";
        let found: Vec<&str> = statements(text).into_iter().map(|span| &text[span]).collect();
        assert_eq!(found, ["permit(\"x;\\\"y;\");", "forbid ( ) ;", "last"]);
        assert!(statements("// nothing\n").is_empty());
        let forgotten = "@id(\"a\") permit (principal) when { true }\n@id(\"b\")\nforbid (x)\npermit (y);";
        let cut: Vec<&str> = statements(forgotten).into_iter().map(|span| &forgotten[span]).collect();
        assert_eq!(cut, ["@id(\"a\") permit (principal) when { true }", "@id(\"b\")\nforbid (x)", "permit (y);"]);
        let hidden = "// a comment\rforbid (x);";
        assert_eq!(statements(hidden).into_iter().map(|span| &hidden[span]).collect::<Vec<_>>(), ["forbid (x);"]);
        let unended = "a \"b;\nc;";
        assert_eq!(statements(unended).into_iter().map(|span| &unended[span]).collect::<Vec<_>>(), [unended]);
    }

    #[test]
    fn a_rule_is_taken_into_the_parts_that_must_hold() {
        let rule = r#"@id("a") @loud
permit (principal in Group::"a,b", action == Action::"open", resource)
when { context.ports.contains(22) && (context.direct || context.leastPort > 1) && resource.name like "a&&b" }
when { context.direct || context.direct && true }
when { if context.direct && true then true else false }
unless { context.direct || context.leastPort == 1 && true };"#;
        assert_eq!(
            told(rule),
            [
                "Principal principal in Group::\"a,b\"",
                "When context.ports.contains(22)",
                "When (context.direct || context.leastPort > 1)",
                "When resource.name like \"a&&b\"",
                "When context.direct || context.direct && true",
                "When if context.direct && true then true else false",
                "Unless context.direct",
                "Unless context.leastPort == 1 && true",
            ]
        );
        let shape = shape(rule);
        let annotations: Vec<(&str, Option<&str>)> =
            shape.annotations.iter().map(|a| (&rule[a.name.clone()], a.value.clone().map(|value| &rule[value]))).collect();
        assert_eq!(annotations, [("id", Some("\"a\"")), ("loud", None)]);
        assert!(rule[shape.head].starts_with("permit (") && told("forbid (principal, action, resource is VM in X::\"y\");").len() == 1);
    }

    #[test]
    fn words_are_found_where_they_are_neither_comment_nor_text() {
        let rule = "// in Group::\"a\"\npermit (principal in Group :: \"a\") when { principal in Group::\"a\" && \"Group::\" == \"x\" };";
        let found: Vec<&str> = places(rule, "Group::\"a\"").into_iter().map(|span| &rule[span]).collect();
        assert_eq!(found, ["Group :: \"a\"", "Group::\"a\""]);
        assert_eq!((places(rule, "nothing").len(), places(rule, "").len()), (0, 0));
        assert_eq!(on_one_line("a == 1 // one\n  ||\tb.c(\"x // y\")"), "a == 1 || b.c(\"x // y\")");
    }

    #[test]
    fn a_rule_that_nobody_could_read_is_told_where_it_is_too_much() {
        let rule = |condition: &str| format!("permit (principal, action, resource) when {{ {condition} }};");
        let deep = |open: &str, close: &str, times: usize| rule(&format!("{}true{}", open.repeat(times), close.repeat(times)));
        for (text, is) in [
            (deep("(", ")", 49), false),
            (deep("(", ")", 50), true),
            (deep("[", "]", 1000), true),
            (deep("!", "", 51), true),
            (deep("if true then true else ", "", 51), true),
            (rule(&vec!["true"; 1000].join(" && ")), false),
            (rule(&vec!["true"; 2000].join(" || ")), true),
        ] {
            assert_eq!(too_much(&text).is_some(), is, "{}", &text[..100.min(text.len())]);
        }
    }

    #[test]
    fn what_is_no_rule_is_taken_apart_as_far_as_it_goes() {
        for text in ["", "@", "@id", "@id(\"a\")", "permit", "permit (", "permit (principal", "permit () when {", "when { true };", ") ] }"]
        {
            assert_eq!(told(text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(told("permit (a, b"), Vec::<String>::new());
    }
}
