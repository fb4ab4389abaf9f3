//! What is printed when the hour is over: a row for each opening, the sums, the verdict, and where to look.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{DateTime, Utc};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ColumnConstraint, ContentArrangement, Table};
use portcullis_domain::audit::{AuditKind, AuditRecord};
use portcullis_domain::finding::FindingCode;
use portcullis_sandbox::estate::{AUDITOR_APP_ID, AUDITOR_SECRET};
use portcullis_sandbox::sandbox::Sandbox;
use portcullis_sandbox::state::State;

use super::timeline::{Palette, Tone, counted, done, length, readable, wrapped};
use super::verdict::{Wrong, has_row};
use super::watch::{Opening, Place, Watch, first_permitted};

/// From this width on every thing has a column of its own.
const WIDE: usize = 112;

/// The table of openings and the line of sums, in rows of this width.
pub fn table_and_sums(state: &State, watch: &Watch, width: usize) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic).force_no_tty();
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    // The column that takes what the others leave, and breaks its text.
    let (header, decided): (&[&str], usize) = if width >= WIDE {
        (&["Port", "Open to", "Asked by", "Decided, and why", "Open", "Proved shut", "Rows"], 3)
    } else {
        (&["Opening", "Decided, and why", "Open, and proved shut", "Rows"], 1)
    };
    table.set_header(header);
    for column in table.column_iter_mut().enumerate().filter(|(n, _)| *n != decided).map(|(_, column)| column) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    let mut places: Vec<&Place> = Vec::new();
    for opening in &watch.openings {
        if places.contains(&&opening.place) {
            continue;
        }
        places.push(&opening.place);
        let row = row(state, watch, opening);
        table.add_row(if width >= WIDE { row.wide() } else { row.narrow() });
    }
    let sums = wrapped(&sums(state, watch), width).join("\n");
    format!("{table}\n{sums}")
}

/// What the table says of an opening.
struct Row {
    place: String,
    open_to: String,
    asked_by: String,
    decided: String,
    open: String,
    proved: String,
    rows: String,
}

impl Row {
    fn wide(self) -> Vec<String> {
        vec![self.place, self.open_to, self.asked_by, self.decided, self.open, self.proved, self.rows]
    }

    /// Stacked: who asked for what, and when it was open and proved shut.
    fn narrow(self) -> Vec<String> {
        let opening = format!("{}\nto {}\n{}", self.place, self.open_to, self.asked_by);
        let times = if self.proved == NOT_PROVED { self.open } else { format!("{}\nproved {}", self.open, self.proved) };
        vec![opening, self.decided, times, self.rows]
    }
}

/// What stands in the table where nothing was proved.
const NOT_PROVED: &str = "-";

fn row(state: &State, watch: &Watch, opening: &Opening) -> Row {
    let place = &opening.place;
    let (opened, shut) = (watch.opened(place), watch.shut(place));
    let proved = watch.audits_of(place).rev().find(|audit| audit.kind == AuditKind::ProvedShut).map(|audit| audit.at);
    let after =
        |end: DateTime<Utc>| opened.map(|opened| format!("\n{} s after\nit opened", (end - opened).num_seconds())).unwrap_or_default();
    let audits: Vec<_> = watch.audits_of(place).collect();
    let rows = audits.iter().filter(|audit| has_row(state, audit)).count();
    Row {
        place: place.to_string(),
        open_to: open_to(watch, place).join(",\n"),
        asked_by: asked_by(watch, opening),
        decided: decided(watch, opening),
        open: opened.map_or("never".to_owned(), |opened| format!("{} to\n{}", clock(opened), shut.map_or("now".to_owned(), clock))),
        proved: proved.map_or(NOT_PROVED.to_owned(), |proved| format!("{}{}", clock(proved), after(proved))),
        rows: format!("{rows} of {}", audits.len()),
    }
}

/// Everybody who was let in at a place.
fn open_to(watch: &Watch, place: &Place) -> Vec<String> {
    let all: BTreeSet<&String> = watch.openings.iter().filter(|one| one.place == *place).flat_map(|one| &one.sources).collect();
    all.into_iter().cloned().collect()
}

/// Who asked for it, and for how long: where Portcullis did, for whom.
fn asked_by(watch: &Watch, opening: &Opening) -> String {
    let granted: Vec<&AuditRecord> = watch.audits_of(&opening.place).filter(|audit| audit.kind == AuditKind::Granted).collect();
    if granted.is_empty() {
        return format!("{},\nfor {}", opening.by, length(opening.until - opening.asked));
    }
    let people: Vec<&str> = granted.iter().filter_map(|audit| audit.person.as_deref()?.split('@').next()).collect();
    format!("granted to\n{}", people.join(",\n"))
}

fn clock(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S").to_string()
}

/// What Portcullis decided, by its audit records.
fn decided(watch: &Watch, opening: &Opening) -> String {
    let audits = || watch.audits_of(&opening.place);
    if let Some(close) = audits().find(|audit| audit.kind == AuditKind::Close && !is_end(audit)) {
        return format!("to be shut: {}", readable(&close.why));
    }
    if let Some(permitted) = first_permitted(watch, &opening.place) {
        return format!("permitted by rule {}", permitted.rule.as_deref().unwrap_or_default());
    }
    match audits().find(|audit| audit.kind == AuditKind::FindingAppeared) {
        Some(found) => done(&found.why).to_owned(),
        None => "nothing: it was not found".to_owned(),
    }
}

/// Whether a delete only ends what was permitted.
fn is_end(audit: &AuditRecord) -> bool {
    audit.code == FindingCode::GrantEnded.text()
}

fn sums(state: &State, watch: &Watch) -> String {
    let of = |kind: AuditKind| watch.audits.iter().filter(|audit| audit.kind == kind).count();
    let to_shut = watch
        .openings
        .iter()
        .filter(|opening| watch.audits_of(&opening.place).any(|audit| audit.kind == AuditKind::Close && !is_end(audit)))
        .count();
    let proved =
        watch.openings.iter().filter(|opening| watch.audits_of(&opening.place).any(|audit| audit.kind == AuditKind::ProvedShut)).count();
    let rows = watch.audits.iter().filter(|audit| has_row(state, audit)).count();
    format!(
        "{}: {} permitted, {to_shut} to be shut, {proved} proved shut; {} raised, {} cleared; {}, {rows} in Sentinel.",
        counted(watch.openings.len(), "opening"),
        watch.openings.len() - to_shut,
        counted(of(AuditKind::AlarmRaised), "alarm"),
        of(AuditKind::AlarmCleared),
        counted(watch.audits.len(), "audit record"),
    )
}

/// The last words.
pub fn verdict(wrong: &[Wrong], palette: Palette, width: usize) -> String {
    let Some((first, others)) = wrong.split_first() else {
        let text = "ok: what may not be open was shut and proved shut, what may be was open as long as it might, and Sentinel has a row for each record.";
        return wrapped(text, width).iter().map(|row| palette.paint(Tone::Good, row)).collect::<Vec<_>>().join("\n");
    };
    let why = if first.why.is_empty() { String::new() } else { format!(": {}", first.why) };
    let mut rows = wrapped(&format!("failed: {}{why}", first.what), width);
    for other in others {
        rows.extend(wrapped(&format!("also: {}", other.what), width));
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
         \x20 token=$(curl --cacert \"$SSL_CERT_FILE\" -d grant_type=client_credentials -d scope=\"$SANDBOX_API_SCOPE\" \\\n\
         \x20   -d client_id={AUDITOR_APP_ID} -d client_secret={AUDITOR_SECRET} \\\n\
         \x20   \"$SANDBOX_ENTRA_URL/$SANDBOX_TENANT_ID/oauth2/v2.0/token\" | sed 's/.*\"access_token\":\"\\([^\"]*\\).*/\\1/')\n\
         \x20 curl --cacert \"$SSL_CERT_FILE\" -H \"Authorization: Bearer $token\" \"$SANDBOX_API_URL/api/audit?kind=proved-shut\"\n\
         \nThe first curl shows the world's log, /state beside it the world; the second the health of the app; the last two\n\
         what an auditor may read, here the proofs (docs/api.md has every view).",
        sandbox.now().format("%H:%M:%S")
    )
}
