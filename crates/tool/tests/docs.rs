//! docs/sandbox.md is followed literally, with a handler, without one and in observe mode, and its tables are the
//! program's own; and the command keeps what it promises of its ways to start and to end.
//!
//! `portcullis-handler` must lie beside `portcullis`: `cargo build --workspace --bins` puts it there.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use portcullis_sandbox::faults::Effect;
use portcullis_sandbox::switches::*;
use serde_json::{Value, json};

fn portcullis() -> Command {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
}

fn document() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sandbox.md")).unwrap()
}

/// The fenced `sh` blocks of a document, in their order, as one script that names the block that fails and leaves no
/// sandbox behind.
fn script_of(document: &str) -> String {
    let mut script = String::from(
        "set -euo pipefail\ntrap 'echo \"docs/sandbox.md, block at line $LINE\" >&2' ERR\ntrap 'kill \"${SANDBOX:-0}\" 2> /dev/null || true' EXIT\n",
    );
    let mut inside = false;
    for (number, line) in document.lines().enumerate() {
        match (inside, line) {
            (false, "```sh") => {
                inside = true;
                script.push_str(&format!("LINE={}\n", number + 1));
            }
            (true, "```") => inside = false,
            (true, line) => {
                script.push_str(line);
                script.push('\n');
            }
            (false, _) => {}
        }
    }
    script
}

struct Running(Child);

impl Running {
    fn sandbox(dir: &Path) -> Running {
        Running::started(dir, &[])
    }

    fn started(dir: &Path, more: &[&str]) -> Running {
        let mut child = portcullis().args(["sandbox", "--no-host", "--dir"]).arg(dir).args(more).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Running(child)
    }

    fn interrupted(mut self, signal: &str) -> Option<i32> {
        let kill = format!("kill -s {signal} {}", self.0.id());
        assert!(Command::new("bash").args(["-c", &kill]).status().unwrap().success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What is left of a document that was followed.
struct Followed {
    dir: tempfile::TempDir,
}

impl Followed {
    /// Runs every block in a folder in which the programs are where the document has them.
    fn with(options: &str) -> Followed {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("target")).unwrap();
        let programs = Path::new(env!("CARGO_BIN_EXE_portcullis")).parent().unwrap();
        std::os::unix::fs::symlink(programs, dir.path().join("target/debug")).unwrap();
        let script = script_of(&document());
        assert!(script.matches("LINE=").count() > 10);
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(&script).current_dir(dir.path()).env("DIR", dir.path().join("sandbox")).env("OPTIONS", options);
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let followed = Followed { dir };
        assert_eq!(followed.read("out"), "ready\n");
        for left in ["ca.pem", "env"] {
            assert!(!followed.read(left).is_empty());
        }
        followed
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("sandbox").join(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// How many rules the app deleted, and how many are left that let somebody in.
    fn deleted_and_left(&self) -> (usize, usize) {
        let log = self.json("log.json");
        // A group that JIT is still writing refuses the first try.
        let accepted = log.as_array().unwrap().iter().filter(|entry| entry["status"].as_u64() < Some(300));
        let deletes = accepted.filter(|entry| entry["what"].as_str().unwrap().ends_with("/securityRules/delete"));
        let rules = self.json("rules.json");
        let allow = rules["value"].as_array().unwrap().iter().filter(|rule| rule["properties"]["access"] == "Allow");
        (deletes.count(), allow.count())
    }

    fn audit_kinds(&self) -> Vec<String> {
        let audits = self.json("audit.json");
        audits["items"].as_array().unwrap().iter().map(|audit| audit["kind"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn the_document_can_be_followed_with_the_handler() {
    let followed = Followed::with("");
    assert_eq!(followed.deleted_and_left(), (2, 0));
    let kinds = followed.audit_kinds();
    assert_eq!(followed.read("telemetry.txt"), "0 items of telemetry\n");
    assert!(["close", "proved-shut"].iter().all(|kind| kinds.iter().any(|known| known == kind)), "{kinds:?}");
    let (granted, ended) = (followed.read("granted.txt"), followed.read("ended.txt"));
    assert!(granted.contains("\nopen: port 22 of web-1 to 198.51.100.7 until "), "{granted}");
    assert!(ended.ends_with("shut: nothing that the grant allowed is open, seen twice\n"), "{ended}");
}

#[test]
fn the_document_can_be_followed_in_observe_mode() {
    let followed = Followed::with("--mode observe --telemetry");
    assert!(!followed.read("telemetry.txt").starts_with("0 items"), "{}", followed.read("telemetry.txt"));
    assert_eq!(followed.deleted_and_left(), (0, 1));
    let kinds = followed.audit_kinds();
    assert!(kinds.iter().any(|kind| kind == "would-close") && !kinds.iter().any(|kind| kind == "close"), "{kinds:?}");
    assert_eq!(followed.read("granted.txt"), "refused: observe mode opens nothing\n");
}

#[test]
fn the_document_can_be_followed_without_a_host() {
    let followed = Followed::with("--no-host");
    assert_eq!(followed.deleted_and_left(), (0, 1));
    assert!(followed.read("audit.json").contains("--no-host"));
}

/// The rows of the table that begins with this heading, each as its cells without their backticks.
fn table(first: &str) -> Vec<Vec<String>> {
    let document = document();
    let rows =
        document.lines().skip_while(|line| !line.starts_with(&format!("| {first} |"))).skip(2).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    rows.map(cells).collect()
}

#[test]
fn the_table_of_switches_has_every_switch_with_its_settings_and_default() {
    let defaults = serde_json::to_value(Switches::default()).unwrap();
    let choices = json!({
        "newerInitiate": NewerInitiate::ALL,
        "deletedRuleReturns": Returns::ALL,
        "sourceMust": SourceMust::ALL,
        "rulesLand": RulesLand::ALL,
        "requestor": Requestor::ALL,
        "planOffRefuses": PlanOffRefuses::ALL,
        "subscriptionParents": SubscriptionParents::ALL,
        "incidentEntities": IncidentEntities::ALL,
        "eventResource": EventResource::ALL,
        "recordOfDeletedRule": RecordOfDeletedRule::ALL,
        "letterCase": LetterCase::ALL,
        "ruleNames": RuleNames::ALL,
        "deleteAnswers": DeleteAnswers::ALL,
        "busyNsg": BusyNsg::ALL,
        "nsgIfMatch": NsgIfMatch::ALL,
        "events": Events::ALL,
        "eventSchema": EventSchema::ALL,
        "messages": Messages::ALL,
    });
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows = table("Switch");
    for row in &rows {
        let [name, settings, default, about] = row.as_slice() else { panic!("{row:?}") };
        let known = &defaults[name.as_str()];
        assert_eq!(&plain(known), default, "{name}");
        match known {
            Value::String(_) => {
                let all: Vec<String> = choices[name.as_str()].as_array().unwrap().iter().map(plain).collect();
                assert_eq!(settings, &all.join(", "), "{name}");
            }
            Value::Bool(_) => assert_eq!(settings, "true, false", "{name}"),
            _ => assert!(settings.starts_with("seconds") || settings.starts_with("a number"), "{name}"),
        }
        assert!(!about.is_empty());
    }
    assert_eq!(rows.len(), defaults.as_object().unwrap().len());
    let named: BTreeSet<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(named, defaults.as_object().unwrap().keys().map(String::as_str).collect());
}

#[test]
fn the_table_of_effects_has_every_effect_with_its_fields() {
    let status = Effect::Status { status: 429, code: Some("c".to_owned()), details: vec!["d".to_owned()], retry_after: Some(1) };
    let all = [
        status,
        Effect::CutBefore,
        Effect::CutAfter,
        Effect::Delay { milliseconds: 1 },
        Effect::Stale,
        Effect::KillBefore,
        Effect::KillAfter,
    ];
    for effect in &all {
        // A new one has to be entered above, and so in the table.
        match effect {
            Effect::Status { .. } | Effect::Delay { .. } => {}
            Effect::CutBefore | Effect::CutAfter | Effect::Stale | Effect::KillBefore | Effect::KillAfter => {}
        }
    }
    let rows = table("Effect");
    assert_eq!(rows.len(), all.len());
    for (effect, row) in all.iter().zip(rows) {
        let shown = serde_json::to_value(effect).unwrap();
        let fields: BTreeSet<&str> = shown.as_object().unwrap().keys().map(String::as_str).filter(|field| *field != "kind").collect();
        assert_eq!(shown["kind"], row[0].as_str());
        let named: BTreeSet<&str> = row[1].split([',', ';', ' ']).filter(|word| !["", "perhaps"].contains(word)).collect();
        assert_eq!(named, fields);
    }
}

#[test]
fn an_interrupt_ends_it_with_success() {
    for signal in ["INT", "TERM"] {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Running::sandbox(dir.path()).interrupted(signal), Some(0), "{signal}");
    }
}

#[test]
fn env_names_everything() {
    let dir = tempfile::tempdir().unwrap();
    let _running = Running::sandbox(dir.path());
    let env = std::fs::read_to_string(dir.path().join("env")).unwrap();
    let names: Vec<&str> = env.lines().map(|line| line.split_once('=').unwrap().0).collect();
    let promised = "SANDBOX_ARM_URL SANDBOX_ENTRA_URL SANDBOX_TENANT_ID SANDBOX_SUBSCRIPTION_ID SANDBOX_CLIENT_ID \
        SANDBOX_CLIENT_SECRET SANDBOX_AUDITOR_CLIENT_ID SANDBOX_AUDITOR_CLIENT_SECRET SANDBOX_GRAPH_URL SANDBOX_SERVICEBUS_URL SANDBOX_BLOB_URL SANDBOX_LOGS_URL \
        SANDBOX_EVENTGRID_URL SANDBOX_API_URL SANDBOX_API_SCOPE SANDBOX_CONTROL_URL SANDBOX_CONTROL_TOKEN \
        IDENTITY_ENDPOINT IDENTITY_HEADER SSL_CERT_FILE PORTCULLIS_MODE PORTCULLIS_TENANT_ID \
        PORTCULLIS_LOGIN_ENDPOINT PORTCULLIS_ARM_ENDPOINT PORTCULLIS_GRAPH_ENDPOINT PORTCULLIS_BLOB_ENDPOINT \
        ServiceBus__fullyQualifiedNamespace PORTCULLIS_SERVICEBUS_ENDPOINT PORTCULLIS_LOGS_ENDPOINT \
        PORTCULLIS_LOGS_RULE_ID PORTCULLIS_LOGS_STREAM PORTCULLIS_API_AUDIENCE PORTCULLIS_SENTINEL_WORKSPACE PORTCULLIS_POLICIES";
    assert_eq!(names, promised.split_whitespace().collect::<Vec<_>>());
    assert!(env.lines().all(|line| line.split_once('=').is_some_and(|(_, value)| !value.is_empty())), "{env}");
    let document = document();
    let signing_in = ["SANDBOX_CLIENT_ID", "SANDBOX_CLIENT_SECRET", "SANDBOX_AUDITOR_CLIENT_ID", "SANDBOX_AUDITOR_CLIENT_SECRET"];
    assert!(signing_in.iter().all(|name| document.contains(&format!("`{name}`"))));
}

#[test]
fn a_broken_world_is_said_with_its_file_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("world.json");
    let rows = [
        ("{\n  \"now\": 7\n}", ":2:10: now: invalid type: integer `7`"),
        ("{\n  \"nwo\": 7 }", ":2:7: unknown field `nwo`"),
        ("{", ":1:1: EOF"),
        ("[]", "a world is a JSON object"),
        ("{\"now\": \"yesterday\"}", ":1:19: now: this is no instant such as \"2026-01-15T09:00:00Z\""),
        ("{\"switches\": {\"events\": \"sometimes\"}}", "switches.events: unknown variant `sometimes`, expected one of `inOrder`, `late`"),
        (
            "{\"queues\": {\"approval\": {\"messages\": [{\"body\": 7}]}}}",
            "queues.approval.messages[0].body: invalid type: integer `7`, expected a string",
        ),
        ("{\"resources\": [{\"name\": \"x\"}]}", "resource 1 of the list has no id"),
    ];
    for (world, said) in rows {
        std::fs::write(&file, world).unwrap();
        let output = portcullis().args(["sandbox", "--no-host", "--dir"]).arg(dir.path()).arg("--world").arg(&file).output().unwrap();
        let said_now = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said_now}");
        assert!(said_now.contains(said) && said_now.contains("world.json"), "{said_now}");
        assert_eq!(said_now.lines().count(), 1, "{said_now}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let file = file.display().to_string();
    let (dir, no_file) = (dir.path().display().to_string(), format!("{file}-none"));
    let rows: [(&[&str], &str); 3] = [
        (&["--dir", &file], "is a file: name a folder"),
        (&["--dir", &dir, "--vms", "0"], "--vms 0: a world needs a VM"),
        (&["--dir", &dir, "--world", &no_file], "cannot be read"),
    ];
    for (arguments, said) in rows {
        let output = portcullis().args(["sandbox", "--no-host"]).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output).contains(said), "{}", text(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_missing_handler_is_said_with_how_to_build_it() {
    let dir = tempfile::tempdir().unwrap();
    let alone = dir.path().join("portcullis");
    std::fs::copy(env!("CARGO_BIN_EXE_portcullis"), &alone).unwrap();
    let dir = dir.path().display().to_string();
    // The demo without its handler is no demo.
    for (arguments, without_host) in [(&["sandbox", "--dir", &dir][..], true), (&["demo"], false)] {
        let output = Command::new(&alone).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output);
        assert!(said.contains("cargo build --bin portcullis-handler"), "{said}");
        assert_eq!(said.contains("--no-host"), without_host, "{said}");
    }
}

#[test]
fn whoever_is_named_in_env_can_sign_in_to_a_world_that_brings_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("world.json");
    std::fs::write(&file, r#"{"principals": []}"#).unwrap();
    let _running = Running::started(dir.path(), &["--world", &file.display().to_string()]);
    let script = r#"
set -euo pipefail; set -a; . "$DIR/env"; set +a
for who in "$SANDBOX_CLIENT_ID $SANDBOX_CLIENT_SECRET" "$SANDBOX_AUDITOR_CLIENT_ID $SANDBOX_AUDITOR_CLIENT_SECRET"; do
  curl --silent --show-error --fail-with-body --cacert "$SSL_CERT_FILE" -d grant_type=client_credentials -d "client_id=${who% *}" \
    -d "client_secret=${who#* }" --data-urlencode "scope=$SANDBOX_API_SCOPE" "$SANDBOX_ENTRA_URL/$SANDBOX_TENANT_ID/oauth2/v2.0/token"
done"#;
    let output = Command::new("bash").arg("-c").arg(script).env("DIR", dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}
