//! What is printed when the hour is over: a row for each opening, the sums, the verdict, and where to look.

use std::path::Path;

use chrono::{DateTime, Utc};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ColumnConstraint, ContentArrangement, Table};
use portcullis_domain::audit::AuditKind;
use portcullis_sandbox::sandbox::Sandbox;
use portcullis_sandbox::state::State;

use super::timeline::{Palette, Tone, done, length, readable, wrapped};
use super::verdict::{Wrong, has_row};
use super::watch::{Opening, Watch};

/// The widest row.
const WIDTH: u16 = 120;

/// The column that takes what the others leave, and breaks its text.
const DECIDED: usize = 3;

/// The table of openings and the line of sums.
pub fn table_and_sums(state: &State, watch: &Watch) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH).force_no_tty();
    table.set_header(["Port", "Open to", "Asked by", "Decided, and why", "Open", "Proved shut", "Rows"]);
    for column in table.column_iter_mut().enumerate().filter(|(n, _)| *n != DECIDED).map(|(_, column)| column) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    for opening in &watch.openings {
        table.add_row(row(state, watch, opening));
    }
    format!("{table}\n{}", sums(state, watch))
}

fn row(state: &State, watch: &Watch, opening: &Opening) -> [String; 7] {
    let place = &opening.place;
    let (opened, shut) = (watch.opened(place), watch.shut(place));
    let proved = watch.audits_of(place).rev().find(|audit| audit.kind == AuditKind::ProvedShut).map(|audit| audit.at);
    let after = |end: DateTime<Utc>| opened.map(|opened| format!("\nafter {} s", (end - opened).num_seconds())).unwrap_or_default();
    let audits: Vec<_> = watch.audits_of(place).collect();
    let rows = audits.iter().filter(|audit| has_row(state, audit)).count();
    [
        place.to_string(),
        opening.sources.join(", "),
        format!("{},\nfor {}", opening.by, length(opening.until - opening.asked)),
        decided(watch, opening),
        opened.map_or("never".to_owned(), |opened| format!("{} to\n{}", clock(opened), shut.map_or("now".to_owned(), clock))),
        proved.map_or("-".to_owned(), |proved| format!("{}{}", clock(proved), after(proved))),
        format!("{rows} of {}", audits.len()),
    ]
}

fn clock(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S").to_string()
}

/// What Portcullis decided, by its audit records.
fn decided(watch: &Watch, opening: &Opening) -> String {
    let audits = || watch.audits_of(&opening.place);
    if let Some(close) = audits().find(|audit| audit.kind == AuditKind::Close) {
        return format!("to be shut: {}", readable(&close.why));
    }
    match audits().find(|audit| audit.kind == AuditKind::FindingAppeared) {
        Some(found) => done(&found.why).to_owned(),
        None => "nothing: it was not found".to_owned(),
    }
}

fn sums(state: &State, watch: &Watch) -> String {
    let of = |kind: AuditKind| watch.audits.iter().filter(|audit| audit.kind == kind).count();
    let to_shut =
        watch.openings.iter().filter(|opening| watch.audits_of(&opening.place).any(|audit| audit.kind == AuditKind::Close)).count();
    let proved =
        watch.openings.iter().filter(|opening| watch.audits_of(&opening.place).any(|audit| audit.kind == AuditKind::ProvedShut)).count();
    let rows = watch.audits.iter().filter(|audit| has_row(state, audit)).count();
    format!(
        "{}: {} left alone, {to_shut} to be shut, {proved} proved shut; {} raised, {} cleared; {}, {rows} in Sentinel.",
        counted(watch.openings.len(), "opening"),
        watch.openings.len() - to_shut,
        counted(of(AuditKind::AlarmRaised), "alarm"),
        of(AuditKind::AlarmCleared),
        counted(watch.audits.len(), "audit record"),
    )
}

fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The last words.
pub fn verdict(wrong: &[Wrong], palette: Palette) -> String {
    let Some((first, others)) = wrong.split_first() else {
        let text = "ok: what may not be open was shut and proved shut, what may be was left alone, and Sentinel has a row for each record.";
        return palette.paint(Tone::Good, text);
    };
    let why = if first.why.is_empty() { String::new() } else { format!(": {}", first.why) };
    let mut rows = wrapped(&format!("failed: {}{why}", first.what), WIDTH.into());
    for other in others {
        rows.extend(wrapped(&format!("also: {}", other.what), WIDTH.into()));
    }
    rows.iter().map(|row| palette.paint(Tone::Bad, row)).collect::<Vec<_>>().join("\n")
}

/// Where to look while the sandbox stays up.
pub fn where_to_look(sandbox: &Sandbox, dir: &Path) -> String {
    let env = dir.join("env");
    let env = env.display();
    format!(
        "The sandbox stays up until Ctrl-C. Its clock runs on from {} with this machine's. To look around, in another shell:\n\
         \n  set -a; . {env}; set +a\n\
         \x20 curl --cacert \"$SSL_CERT_FILE\" -H \"Authorization: Bearer $SANDBOX_CONTROL_TOKEN\" \"$SANDBOX_CONTROL_URL/log\"\n\
         \x20 curl --cacert \"$SSL_CERT_FILE\" \"$SANDBOX_API_URL/api/health\"\n\
         \nThe first curl shows the world's log, /state beside it the world; the second the health of the app.",
        sandbox.now().format("%H:%M:%S")
    )
}
