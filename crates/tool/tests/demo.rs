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
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).arg("demo").args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors, "", "build the handler first: `cargo build --workspace --bins`");
        Played { code: output.status.code(), out: String::from_utf8(output.stdout).unwrap() }
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
    let text: String = hidden.into_iter().collect();
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for place in 1..words.len() {
        let is_unit = words[place] == "seconds" || words[place] == "s";
        if is_unit && words[place - 1].chars().all(|c| c.is_ascii_digit()) {
            words[place - 1] = "_".repeat(words[place - 1].len());
        }
    }
    words.join(" ")
}

#[test]
fn an_hour_is_told_and_ends_well() {
    let played = Played::with(&[]);
    assert_eq!(played.code, Some(0), "{}", played.out);
    insta::assert_snapshot!("hour", without_seconds(&played.out));
    for line in played.out.lines() {
        assert!(line.chars().count() <= 120, "too wide: {line}");
        assert!(!line.contains('\u{1b}'), "a colour that is not on a terminal: {line}");
    }
}

#[test]
fn a_delete_lock_leaves_the_port_open_and_the_alarm_says_why() {
    Played::with(&["--break", "close"]).fails_with(&[
        "the port 3389 of web-1 is still open to * at 10:00:00",
        "Azure refused all ",
        "deletes of its rules (409); alarm `lock` raised at 09:01:",
        "following scope(s) are locked: 'nsg-web-1'",
        "What to do: remove the delete lock",
        "also: the port 22 of web-2 is still open",
        "also: 22 of db-1, harmless and asked for until 09:45:00, is still open",
    ]);
}

#[test]
fn without_events_the_worst_opening_is_found_by_the_sweep_only() {
    let played = Played::with(&["--break", "event"]);
    played.fails_with(&[
        "the port 3389 of web-1 was open to * and found only 4 min after it was asked for, by the sweep at 09:05:00",
        "Event Grid delivered no event in the whole hour",
    ]);
    assert!(!played.line().contains("also: "), "{}", played.out);
}

#[test]
fn a_rule_that_always_returns_leaves_the_port_unproved_and_the_alarm_says_why() {
    // Whether the rule stands at the very end is a matter of seconds.
    Played::with(&["--break", "rule"]).fails_with(&[
        "port 3389 of web-1",
        "Portcullis deleted its rules ",
        "times and JIT wrote them again ",
        "alarm `rule-returns` raised at 09:01:",
        "find out who or what writes the rule again",
    ]);
}

#[test]
fn rows_that_are_refused_are_missed_in_sentinel() {
    let played = Played::with(&["--break", "alert"]);
    played.fails_with(&["none of the ", "audit records has a row in Sentinel: the ingestion endpoint answered 403 "]);
    assert!(!played.line().contains("also: "), "{}", played.out);
    assert!(played.line().contains("Sentinel refuses Portcullis' rows (403)"), "{}", played.out);
}

/// A demo that stays up; it does not outlive a test that fails.
struct Kept(Child);

impl Kept {
    fn interrupted(mut self) -> Option<i32> {
        let kill = format!("kill -s INT {}", self.0.id());
        assert!(Command::new("bash").args(["-c", &kill]).status().unwrap().success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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
    assert!(out.contains("securityRules/delete") && out.contains("\"status\":\"ok\""), "{out}");
    assert_eq!(kept.interrupted(), Some(0));
}
