//! The demo is played by the real programs, and each thing that can be broken makes it fail with its own sentence.
//!
//! `portcullis-handler` must lie beside `portcullis`: `cargo build --workspace --bins` puts it there.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

struct Played {
    code: Option<i32>,
    out: String,
}

impl Played {
    fn with(arguments: &[&str]) -> Played {
        Played::in_columns(120, arguments)
    }

    fn in_columns(width: usize, arguments: &[&str]) -> Played {
        let mut demo = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        demo.arg("demo").args(arguments).env_remove("COLUMNS");
        if width != 120 {
            demo.env("COLUMNS", width.to_string());
        }
        let output = demo.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors, "", "build the handler first: `cargo build --workspace --bins`");
        let played = Played { code: output.status.code(), out: String::from_utf8(output.stdout).unwrap() };
        for line in played.out.lines() {
            assert!(line.chars().count() <= width, "too wide: {line}");
            assert!(!line.contains('\u{1b}'), "a colour that is not on a terminal: {line}");
        }
        played
    }

    /// All that is said, in one line.
    fn line(&self) -> String {
        self.out.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn fails_with(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{}", self.out);
        let line = self.line();
        let failed = line.split_once(" failed: ").map(|(_, failed)| failed).unwrap_or_default();
        for part in parts {
            assert!(failed.contains(part), "`{part}` is not in `{failed}`");
        }
    }
}

/// Hides the seconds: the reads that prove a port shut take real time, which the handler adds to the world's.
fn without_seconds(text: &str) -> String {
    let mut hidden: Vec<char> = text.chars().collect();
    let is_digits = |hidden: &[char], at: usize| hidden.get(at..at + 2).is_some_and(|two| two.iter().all(char::is_ascii_digit));
    for at in 0..hidden.len() {
        let is_clock = is_digits(&hidden, at) && is_digits(&hidden, at + 3) && is_digits(&hidden, at + 6);
        if is_clock && hidden[at + 2] == ':' && hidden[at + 5] == ':' {
            hidden[at + 6] = '_';
            hidden[at + 7] = '_';
        }
    }
    hidden.into_iter().collect::<String>().lines().map(without_durations).collect::<Vec<_>>().join("\n")
}

/// Hides how many seconds something took, whatever the number of digits; a cell of a table keeps its width.
fn without_durations(line: &str) -> String {
    let mut cells: Vec<String> = line.split('┆').map(str::to_owned).collect();
    let last = cells.len() - 1;
    for (place, cell) in cells.iter_mut().enumerate() {
        let width = cell.chars().count();
        let mut words: Vec<&str> = cell.split(' ').collect();
        for word in 1..words.len() {
            let is_unit = words[word] == "seconds" || words[word] == "s";
            if is_unit && !words[word - 1].is_empty() && words[word - 1].chars().all(|c| c.is_ascii_digit()) {
                words[word - 1] = "_";
            }
        }
        let hidden = words.join(" ");
        *cell = if place < last { format!("{hidden:width$}") } else { hidden };
    }
    cells.join("┆")
}

#[test]
fn an_hour_is_told_and_ends_well() {
    let played = Played::with(&[]);
    assert_eq!(played.code, Some(0), "{}", played.out);
    insta::assert_snapshot!("hour", without_seconds(&played.out));
    assert!(!played.out.contains("Broken on purpose"));
}

#[test]
fn the_excerpt_of_the_readme_is_what_is_seen() {
    let readme = include_str!("../../../README.md");
    let excerpt = readme.split("```").find(|block| block.contains("Ada Admin")).unwrap();
    let snapshot = include_str!("snapshots/demo__hour.snap");
    let seen: Vec<&str> = snapshot.lines().collect();
    let mut at = 0;
    for line in excerpt.lines().filter(|line| !line.is_empty() && *line != "…") {
        let hidden = without_seconds(line);
        let found = seen[at..].iter().position(|seen| *seen == hidden);
        at += found.unwrap_or_else(|| panic!("`{hidden}` is not seen, or not in this order")) + 1;
    }
}

#[test]
fn a_delete_lock_leaves_the_port_open_and_the_alarm_says_why() {
    let played = Played::with(&["--break", "close"]);
    assert!(played.line().contains("Broken on purpose: a delete lock lies on every network security group."));
    played.fails_with(&[
        "the port 3389 of web-1 is still open to * at 10:00:00",
        "Azure refused all ",
        "deletes of its rules (409); alarm `lock` raised at 09:01:",
        "following scope(s) are locked: 'nsg-web-1'",
        "What to do: remove the lock that Azure names",
        "also: the port 22 of web-2 is still open",
        "also: 22 of db-1, harmless and asked for until 09:45:00, is still open",
    ]);
    let line = played.line();
    let counted = line.split_once("refuses to delete a rule for 3389 of web-1 (409): ").unwrap().1.split(' ').next().unwrap();
    assert!(line.contains(&format!("Azure refused all {counted} deletes of its rules (409)")), "{line}");
}

#[test]
fn without_events_the_worst_opening_is_found_by_the_sweep_only() {
    let played = Played::with(&["--break", "event"]);
    played.fails_with(&[
        "the port 3389 of web-1 was open to * and was not found until 4 min after it was asked for (by the sweep, 09:05:00)",
        "Event Grid delivered no event in the whole hour",
    ]);
    // Nothing tells who it was, and nobody is permitted nothing.
    assert!(played.line().contains("also: 22 of db-1 was harmless"), "{}", played.out);
}

#[test]
fn a_rule_that_always_returns_leaves_the_port_unproved_and_the_alarm_says_why() {
    let played = Played::in_columns(80, &["--break", "rule"]);
    played.fails_with(&[
        "Portcullis sent the delete of a rule ",
        "times and JIT wrote one again ",
        "alarm `rule-returns` raised at 09:",
        "find out who or what writes the rule again",
        "port 3389 of web-1",
        "port 22 of web-2",
        "port 3389 of db-1",
    ]);
    let line = played.line();
    for (raised, place) in [("09:01:", "3389 of web-1"), ("09:0", "22 of web-2"), ("09:3", "3389 of db-1")] {
        let alarm = format!("Portcullis raises the alarm rule-returns: port {place} is open to ");
        let (before, _) = line.split_once(&alarm).unwrap_or_else(|| panic!("no alarm for {place}: {line}"));
        let at = before.split_whitespace().next_back().unwrap();
        assert!(at.starts_with(raised), "the alarm for {place} was raised at {at}");
    }
    // Which rule stands at the very end is a matter of seconds, and an open port is told before one that is not proved.
    let counted = |what: &str| line.split_once(what).unwrap().1.split(' ').next().unwrap();
    let same = ["3389 of web-1", "22 of web-2", "3389 of db-1"].into_iter().any(|place| {
        let sent = counted(&format!("sends the delete of a rule for {place}: "));
        let returned = counted(&format!("writes a deleted rule for {place} again: "));
        line.contains(&format!("Portcullis sent the delete of a rule {sent} times and JIT wrote one again {returned} times"))
    });
    assert!(same, "timeline and verdict count differently: {line}");
}

#[test]
fn rows_that_are_refused_are_missed_in_sentinel() {
    let played = Played::with(&["--break", "alert"]);
    played.fails_with(&["none of the ", "audit records has a row in Sentinel: the ingestion endpoint answered 403 "]);
    assert!(!played.line().contains("also: "), "{}", played.out);
    let line = played.line();
    let counted = line.split_once("Sentinel refuses Portcullis' rows (403): ").unwrap().1.split(' ').next().unwrap();
    assert!(line.contains(&format!("the ingestion endpoint answered 403 {counted} times")), "{line}");
}

/// A demo that stays up; it does not outlive a test that fails.
struct Kept(Child);

impl Kept {
    fn ended_by(&mut self, signal: &str) -> Option<i32> {
        let kill = format!("kill -s {signal} {}", self.0.id());
        assert!(Command::new("bash").args(["-c", &kill]).status().unwrap().success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Kept {
    /// Asked to end, it takes its handler along; killed, it would leave it behind.
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.ended_by("TERM");
        }
    }
}

#[test]
fn what_it_says_about_where_to_look_is_so_until_it_is_interrupted() {
    let child = Command::new(env!("CARGO_BIN_EXE_portcullis")).args(["demo", "--keep"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut kept = Kept(child);
    let mut lines = BufReader::new(kept.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let stays = lines.find(|line| line.starts_with("The sandbox stays up until Ctrl-C.")).unwrap();
    assert!(stays.contains("Its clock runs on from 10:00:00"), "{stays}");
    let shown: Vec<String> = lines.by_ref().take_while(|line| !line.starts_with("The first curl")).collect();
    let script = shown.join("\n").replace("curl ", "curl --silent --show-error --fail-with-body ");
    let looked = Command::new("bash").args(["-euc", &script]).output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&looked.stdout), String::from_utf8_lossy(&looked.stderr));
    assert!(looked.status.success(), "{script}\n{out}{errors}");
    for shown in ["securityRules/delete", "\"status\":\"ok\"", "\"kind\":\"proved-shut\""] {
        assert!(out.contains(shown), "{shown} is not in {out}");
    }
    assert_eq!(kept.ended_by("INT"), Some(0));
}
