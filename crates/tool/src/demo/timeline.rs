//! What happened, as lines for a person.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use portcullis_domain::audit::{AuditKind, AuditRecord};

use super::watch::{Happening, Opening, Through, What, place_of};

/// Where the third column begins.
const INDENT: usize = 26;
/// How often the same is told before it is only counted.
const TOLD: u32 = 2;

/// Whether to write colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// None.
    Plain,
    /// For a terminal.
    Colour,
}

/// What a colour stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Somebody of the estate.
    Person,
    /// Azure.
    Azure,
    /// Portcullis.
    Portcullis,
    /// Portcullis, with something proved.
    Good,
    /// Something that a person must know.
    Bad,
    /// What is beside the point.
    Faint,
}

impl Palette {
    /// A text in the colour of its meaning.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Person => "36",
            Tone::Azure => "33",
            Tone::Portcullis => "1",
            Tone::Good => "32",
            Tone::Bad => "1;31",
            Tone::Faint => "2",
        };
        match self {
            Palette::Plain => text.to_owned(),
            Palette::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

struct Line {
    at: DateTime<Utc>,
    who: String,
    tone: Tone,
    text: String,
    /// What is told if it happens over and over; absent for what is always told.
    repeated: Option<String>,
}

struct Repeated {
    lines: u32,
    /// How many things those lines and the untold ones are about.
    things: usize,
    last: DateTime<Utc>,
    tone: Tone,
}

/// The lines so far. What happens over and over is told twice and then counted.
pub struct Timeline {
    palette: Palette,
    width: usize,
    repeated: BTreeMap<(String, String), Repeated>,
}

impl Timeline {
    /// A timeline without a line, for rows of this width.
    pub fn new(palette: Palette, width: usize) -> Self {
        Timeline { palette, width, repeated: BTreeMap::new() }
    }

    /// What happened in one instant, as lines.
    pub fn told(&mut self, happened: &[Happening]) -> String {
        let mut out = String::new();
        for happening in happened {
            if is_said_by_another(happening, happened) {
                continue;
            }
            let line = line(happening);
            if self.lines(&line, happening.count) <= TOLD {
                self.write(&mut out, &line.at.format("%H:%M:%S").to_string(), &line);
            }
        }
        out
    }

    fn lines(&mut self, line: &Line, things: usize) -> u32 {
        let Some(repeated) = &line.repeated else { return 1 };
        let key = (line.who.clone(), repeated.clone());
        let said = self.repeated.entry(key).or_insert(Repeated { lines: 0, things: 0, last: line.at, tone: line.tone });
        said.lines += 1;
        said.things += things;
        said.last = line.at;
        said.lines
    }

    /// What was told twice and then only counted, all in all, in the order in which it ended.
    pub fn rest(&self) -> String {
        let mut counted: Vec<(&(String, String), &Repeated)> = self.repeated.iter().filter(|(_, said)| said.lines > TOLD).collect();
        counted.sort_by_key(|(key, said)| (said.last, *key));
        let mut out = String::new();
        for ((who, what), said) in counted {
            let text = format!("{what}: {} in all, last at {}", times(said.things), said.last.format("%H:%M:%S"));
            self.write(&mut out, "and", &Line { at: said.last, who: who.clone(), tone: said.tone, text, repeated: None });
        }
        out
    }

    fn write(&self, out: &mut String, time: &str, line: &Line) {
        let time = self.palette.paint(Tone::Faint, &format!("{time:<8}"));
        let who = self.palette.paint(line.tone, &format!("{:<14}", line.who));
        let mut rows = wrapped(&line.text, self.width.saturating_sub(INDENT)).into_iter();
        let first = rows.next().unwrap_or_default();
        let paint = |text: &str| match line.tone {
            Tone::Good | Tone::Bad => self.palette.paint(line.tone, text),
            Tone::Person | Tone::Azure | Tone::Portcullis | Tone::Faint => text.to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{time}  {who}  {}", paint(&first));
        for row in rows {
            let _ = writeln!(out, "{:INDENT$}{}", "", paint(&row));
        }
    }
}

/// Whether another line of the same instant says as much: a finding that is gone because its port is proved shut.
fn is_said_by_another(one: &Happening, all: &[Happening]) -> bool {
    let What::Audited { audit, .. } = &one.what else { return false };
    let proved = |other: &Happening| match &other.what {
        What::Audited { audit: other, .. } => other.kind == AuditKind::ProvedShut && place_of(other) == place_of(audit),
        _ => false,
    };
    audit.kind == AuditKind::FindingGone && all.iter().any(proved)
}

fn line(happening: &Happening) -> Line {
    let groups = joined(&happening.groups);
    let (who, tone, text) = match &happening.what {
        What::Asked(opening) => (opening.by.as_str(), Tone::Person, asked(opening)),
        What::Delivered { status } if *status < 400 => ("Event Grid", Tone::Azure, "delivers an event to Portcullis".to_owned()),
        What::Delivered { status } => ("Event Grid", Tone::Bad, format!("cannot deliver an event to Portcullis ({status})")),
        What::Opened { place, sources } => ("JIT", Tone::Azure, format!("lets {} in to {place}, by rules in {groups}", sources.join(", "))),
        What::Returned { place } => ("JIT", Tone::Azure, format!("writes the deleted rules for {place} again, in {groups}")),
        What::TakenAway { place, reason } => ("JIT", Tone::Azure, format!("takes its rules for {place} away ({reason})")),
        What::NotDeleted { place, status } => ("Azure", Tone::Bad, format!("refuses to delete the rules for {place} ({status})")),
        What::RowsRefused { status } => ("Sentinel", Tone::Bad, format!("refuses Portcullis' rows ({status})")),
        What::Audited { audit, through } => ("Portcullis", tone(audit.kind), audited(audit, *through, happening.groups.len())),
    };
    Line { at: happening.at, who: who.to_owned(), tone, text, repeated: repeated(&happening.what) }
}

/// What may happen over and over while something is in the way.
fn repeated(what: &What) -> Option<String> {
    match what {
        What::Returned { place } => Some(format!("writes a deleted rule for {place} again")),
        What::NotDeleted { place, status } => Some(format!("refuses to delete a rule for {place} ({status})")),
        What::RowsRefused { status } => Some(format!("refuses Portcullis' rows ({status})")),
        What::Audited { audit, .. } if audit.kind == AuditKind::Close => {
            place_of(audit).map(|place| format!("sends the delete of a rule for {place}"))
        }
        What::Audited { .. } | What::Asked(_) | What::Delivered { .. } | What::Opened { .. } | What::TakenAway { .. } => None,
    }
}

fn tone(kind: AuditKind) -> Tone {
    match kind {
        AuditKind::Close
        | AuditKind::CloseAnswered
        | AuditKind::WouldClose
        | AuditKind::FindingAppeared
        | AuditKind::FindingChanged
        | AuditKind::FindingGone
        | AuditKind::Missed
        | AuditKind::Granted
        | AuditKind::Declined
        | AuditKind::Open
        | AuditKind::OpenAnswered
        | AuditKind::Replayed
        | AuditKind::Swept => Tone::Portcullis,
        AuditKind::ProvedShut
        | AuditKind::ProvedGone
        | AuditKind::AlarmCleared
        | AuditKind::Adopted
        | AuditKind::Confirmed
        | AuditKind::Opened
        | AuditKind::GrantEnded
        | AuditKind::GrantClosed => Tone::Good,
        AuditKind::AlarmRaised | AuditKind::Rejected | AuditKind::ServiceFailing => Tone::Bad,
    }
}

fn asked(opening: &Opening) -> String {
    let length = length(opening.until - opening.asked);
    format!("asks JIT to open {} to {} for {length}", opening.place, opening.sources.join(", "))
}

fn audited(audit: &AuditRecord, through: Through, rules: usize) -> String {
    let place = place_of(audit).map_or_else(|| "the service".to_owned(), |place| place.to_string());
    let why = readable(&audit.why);
    let code = &audit.code;
    let rules = counted(rules, "rule");
    match audit.kind {
        AuditKind::FindingAppeared => {
            let how = match through {
                Through::Event => "told by the event",
                Through::Sweep => "in its sweep",
                Through::Look => "in a look that was planned",
            };
            let severity = format!("{:?}", audit.severity).to_lowercase();
            let done = why.rsplit_once("; ").map_or(why.as_str(), |(_, done)| done);
            format!("finds {place} open, {how} ({code}, severity {severity}); {done}")
        }
        AuditKind::FindingChanged => format!("finds {place} changed ({code}): {why}"),
        AuditKind::FindingGone => format!("no longer finds {place} open ({code})"),
        AuditKind::Close => format!("sends the delete of {rules} for {place}: {why}"),
        AuditKind::CloseAnswered => format!("is told that the delete of a rule for {place} was {code}"),
        AuditKind::WouldClose => format!("would delete {rules} for {place}: {why}"),
        AuditKind::ProvedShut => {
            let proof = why.split("; ").next().unwrap_or_default();
            format!("proves {place} shut: {}", proof.strip_prefix("it was ").unwrap_or(proof))
        }
        AuditKind::ProvedGone => format!("proves what had to go from {place} gone: {why}"),
        AuditKind::AlarmRaised => format!("raises the alarm {code}: {why}"),
        AuditKind::AlarmCleared => format!("clears the alarm {code} of {place}"),
        AuditKind::Missed => format!("finds that {place} was open before anybody looked ({code}): {why}"),
        AuditKind::Adopted => {
            let person = audit.person.as_deref().unwrap_or_default();
            let rule = audit.rule.as_deref().unwrap_or_default();
            let for_now = if audit.code == "provisional" { " for now, whom an event alone names" } else { "" };
            format!("lets {person} have {place} open{for_now}, by rule {rule}: {}", reason(&why))
        }
        AuditKind::Confirmed => format!("knows for certain who opened {place}: {}, as {why}", audit.person.as_deref().unwrap_or_default()),
        AuditKind::Granted => {
            let rule = audit.rule.as_deref().unwrap_or_default();
            format!("grants {place} to {}, by rule {rule}: {}", audit.person.as_deref().unwrap_or_default(), reason(&why))
        }
        AuditKind::Declined => format!("declines {place} to {}: {why}", audit.person.as_deref().unwrap_or_default()),
        AuditKind::Open => format!("asks JIT to open {place} {why}"),
        AuditKind::OpenAnswered => format!("is told that its wish for {place} was {code}"),
        AuditKind::Opened => format!("sees {place} open for {}", audit.person.as_deref().unwrap_or_default()),
        AuditKind::GrantEnded => format!("ends what {} has open, {place}: {why}", audit.person.as_deref().unwrap_or_default()),
        AuditKind::GrantClosed => format!("closes the grant of {} for {place}: {why}", audit.person.as_deref().unwrap_or_default()),
        AuditKind::Rejected | AuditKind::ServiceFailing => format!("says of itself ({code}): {why}"),
        AuditKind::Replayed | AuditKind::Swept => readable(&audit.what),
    }
}

/// The reason of a rule, of the sentence that tells what it permits.
fn reason(why: &str) -> &str {
    why.rsplit_once(": ").map_or(why, |(_, reason)| reason)
}

/// A text without the ids of grants, which are as long as they are meaningless.
fn without_grants(text: &str) -> String {
    const COVERED: &str = ", which covered it, has ended";
    let mut parts = text.split(COVERED);
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let id = told.rsplit(' ').next().map_or(0, str::len);
        told.truncate(told.len() - id);
        told = format!("{}the grant that covered it has ended{part}", told.strip_suffix("grant ").unwrap_or(&told));
    }
    told
}

/// A text without what says nothing to a person: the ids of Azure's resources become their names, and the names that
/// JIT gives its rules, 70 characters long, are left out.
pub fn readable(text: &str) -> String {
    let text = &without_grants(text);
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let inner = word.trim_matches(|c: char| "',;.:".contains(c));
        let shown = if inner.contains('/') { name_of(inner) } else { inner.to_owned() };
        match (shown.contains(JIT_RULE), words.last().map(String::as_str)) {
            (false, _) => words.push(word.replacen(inner, &shown, 1)),
            (true, Some("rule")) => {
                let after = word.rsplit_once(inner).map(|(_, after)| after).unwrap_or_default();
                let rule = words.pop().unwrap_or_default();
                words.push(format!("{rule}{after}"));
            }
            (true, _) => words.push(word.replacen(inner, "JIT's rule", 1)),
        }
    }
    words.join(" ")
}

/// What the names of JIT's rules have in common.
const JIT_RULE: &str = "-JITRule";

/// The name in an ARM id; of one of JIT's rules that of its group.
fn name_of(id: &str) -> String {
    let mut parts = id.rsplit('/');
    let name = parts.next().unwrap_or_default();
    match (name.contains(JIT_RULE), parts.nth(1)) {
        (true, Some(group)) => format!("{group}/…"),
        (true | false, _) => name.to_owned(),
    }
}

/// What Portcullis does about a finding: the last part of its record's sentence.
pub fn done(why: &str) -> &str {
    let done = why.rsplit_once("; ").map_or(why, |(_, done)| done);
    done.strip_prefix("it is ").unwrap_or(done)
}

/// A number of things.
pub fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// How often.
pub fn times(number: usize) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
}

/// A length of time as people say it.
pub fn length(time: TimeDelta) -> String {
    let (hours, minutes, seconds) = (time.num_hours(), time.num_minutes() % 60, time.num_seconds() % 60);
    let parts = [(hours, "h"), (minutes, "min"), (seconds, "s")];
    let said: Vec<String> = parts.iter().filter(|(number, _)| *number != 0).map(|(number, unit)| format!("{number} {unit}")).collect();
    if said.is_empty() { "0 s".to_owned() } else { said.join(" ") }
}

/// Names as a person lists them.
fn joined(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Breaks a text between words; a word that is wider than a row stays whole.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match rows.last_mut().filter(|row| row.chars().count() + 1 + word.chars().count() <= width) {
            Some(row) => {
                row.push(' ');
                row.push_str(word);
            }
            None => rows.push(word.to_owned()),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::watch::Place;
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        portcullis_sandbox::state::beginning() + TimeDelta::seconds(second)
    }

    fn returned(second: i64) -> Happening {
        let what = What::Returned { place: Place { vm: "web-1".to_owned(), port: 22 } };
        Happening { at: at(second), what, groups: vec!["nsg-a".to_owned(), "nsg-b".to_owned()], count: 2 }
    }

    #[test]
    fn what_happens_over_and_over_is_told_twice_and_then_counted() {
        let mut timeline = Timeline::new(Palette::Plain, 120);
        let told: Vec<String> = (0..5).map(|second| timeline.told(&[returned(second)])).collect();
        assert_eq!(told[1], "09:00:01  JIT             writes the deleted rules for 22 of web-1 again, in nsg-a and nsg-b\n");
        assert_eq!(told[2..], ["", "", ""]);
        assert_eq!(
            timeline.rest(),
            "and       JIT             writes a deleted rule for 22 of web-1 again: 10 times in all, last at 09:00:04\n"
        );
    }

    #[test]
    fn colours_are_written_for_a_terminal_only() {
        let line = |palette| Timeline::new(palette, 120).told(&[returned(0)]);
        assert!(!line(Palette::Plain).contains('\u{1b}'));
        assert!(line(Palette::Colour).starts_with("\u{1b}[2m09:00:00\u{1b}[0m  \u{1b}[33mJIT           \u{1b}[0m  writes"));
    }

    #[test]
    fn ids_become_names_and_the_names_of_rules_are_left_out() {
        let nsg = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/nsg-a";
        let name = "MicrosoftDefenderForCloud-JITRule-1-0123456789ABCDEF0123456789ABCDEF";
        for (text, expected) in [
            (format!("the rule {name} was deleted"), "the rule was deleted"),
            (format!("deleting rule {name}: no"), "deleting rule: no"),
            (format!("{name} lets in *"), "JIT's rule lets in *"),
            (format!("The scope '{nsg}/securityRules/{name}' is below '{nsg}'."), "The scope 'nsg-a/…' is below 'nsg-a'."),
            ("22 and 3389, or PT8H".to_owned(), "22 and 3389, or PT8H"),
        ] {
            assert_eq!(readable(&text), expected);
        }
    }

    #[test]
    fn a_text_is_broken_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a word-that-is-too-wide b", 5), ["a", "word-that-is-too-wide", "b"]);
        assert_eq!(wrapped("", 5), Vec::<String>::new());
    }

    #[test]
    fn a_line_is_broken_at_the_width_of_the_terminal() {
        let told = Timeline::new(Palette::Plain, 60).told(&[returned(0)]);
        let rows =
            ["09:00:00  JIT             writes the deleted rules for 22 of", "                          web-1 again, in nsg-a and nsg-b"];
        assert_eq!(told.lines().collect::<Vec<_>>(), rows);
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([counted(1, "row"), counted(2, "row"), counted(0, "row")], ["1 row", "2 rows", "0 rows"]);
        assert_eq!([times(1), times(2)], ["once", "2 times"]);
    }

    #[test]
    fn a_length_is_said_as_people_say_it() {
        let lengths = [0, 45, 60, 135, 3600, 86_400, 3661].map(|seconds| length(TimeDelta::seconds(seconds)));
        assert_eq!(lengths, ["0 s", "45 s", "1 min", "2 min 15 s", "1 h", "24 h", "1 h 1 min 1 s"]);
    }

    #[test]
    fn names_are_listed_as_people_list_them() {
        let names = |count: usize| joined(&["a", "b", "c"].map(str::to_owned)[..count]);
        assert_eq!([names(0), names(1), names(2), names(3)], ["", "a", "a and b", "a, b and c"]);
    }
}
