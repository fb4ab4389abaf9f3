//! Every request that docs/sandbox.md shows is made, against a sandbox that runs without a host; and the command
//! keeps what it promises of its ways to start and to end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn portcullis() -> Command {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
}

/// The fenced `sh` blocks of a document, in their order, as one script that names the block that fails.
fn script_of(document: &str) -> String {
    let mut script = String::from("set -euo pipefail\ntrap 'echo \"docs/sandbox.md, block at line $LINE\" >&2' ERR\n");
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
        let mut child = portcullis().args(["sandbox", "--no-host", "--dir"]).arg(dir).stdout(Stdio::piped()).spawn().unwrap();
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

#[test]
fn every_request_of_the_document_works() {
    let dir = tempfile::tempdir().unwrap();
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sandbox.md");
    let script = script_of(&std::fs::read_to_string(document).unwrap());
    assert!(script.matches("LINE=").count() > 10);
    let _running = Running::sandbox(dir.path());
    let output = Command::new("bash").arg("-c").arg(&script).env("DIR", dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
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
        SANDBOX_CLIENT_SECRET SANDBOX_GRAPH_URL SANDBOX_SERVICEBUS_URL SANDBOX_BLOB_URL SANDBOX_LOGS_URL \
        SANDBOX_EVENTGRID_URL SANDBOX_API_URL SANDBOX_API_SCOPE SANDBOX_CONTROL_URL SANDBOX_CONTROL_TOKEN \
        IDENTITY_ENDPOINT IDENTITY_HEADER SSL_CERT_FILE PORTCULLIS_MODE PORTCULLIS_TENANT_ID \
        PORTCULLIS_LOGIN_ENDPOINT PORTCULLIS_ARM_ENDPOINT PORTCULLIS_BLOB_ENDPOINT \
        ServiceBus__fullyQualifiedNamespace PORTCULLIS_SERVICEBUS_ENDPOINT PORTCULLIS_LOGS_ENDPOINT \
        PORTCULLIS_LOGS_RULE_ID PORTCULLIS_LOGS_STREAM PORTCULLIS_API_AUDIENCE";
    assert_eq!(names, promised.split_whitespace().collect::<Vec<_>>());
    assert!(env.lines().all(|line| line.split_once('=').is_some_and(|(_, value)| !value.is_empty())), "{env}");
}

#[test]
fn a_broken_world_is_said_with_its_file_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("world.json");
    let rows = [
        ("{\n  \"now\": 7\n}", ":2:10: "),
        ("{\n  \"nwo\": 7 }", ":2:7: unknown field `nwo`"),
        ("{", ":1:1: "),
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
fn a_missing_handler_is_said_with_how_to_build_it() {
    let dir = tempfile::tempdir().unwrap();
    let alone = dir.path().join("portcullis");
    std::fs::copy(env!("CARGO_BIN_EXE_portcullis"), &alone).unwrap();
    let output = Command::new(&alone).args(["sandbox", "--dir"]).arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("cargo build --bin portcullis-handler"), "{}", text(&output));
}
