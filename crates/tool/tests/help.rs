//! What the commands say of themselves, and that what must be named is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_domain::audit::{AuditRecord, Installation};
use portcullis_domain::record::Cause;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).args(arguments).env("COLUMNS", "100").output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_command_says_what_it_takes() {
    insta::assert_snapshot!("portcullis", help(&["--help"]));
    insta::assert_snapshot!("demo", help(&["demo", "--help"]));
    insta::assert_snapshot!("sandbox", help(&["sandbox", "--help"]));
    insta::assert_snapshot!("rules", help(&["rules", "--help"]));
    insta::assert_snapshot!("rules_explain", help(&["rules", "explain", "--help"]));
    insta::assert_snapshot!("grant", help(&["grant", "--help"]));
    insta::assert_snapshot!("close", help(&["close", "--help"]));
    insta::assert_snapshot!("grants", help(&["grants", "--help"]));
    insta::assert_snapshot!("doctor", help(&["doctor", "--help"]));
    insta::assert_snapshot!("deadletter", help(&["deadletter", "--help"]));
    insta::assert_snapshot!("live_probe", help(&["live-probe", "--help"]));
    insta::assert_snapshot!("deadletter_replay", help(&["deadletter", "replay", "--help"]));
}

#[test]
fn the_help_of_the_makefile_names_every_command() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY:")).unwrap();
    let commands: BTreeSet<&str> = phony.split_whitespace().filter(|name| !["FORCE", "help", "guard"].contains(name)).collect();
    let help = makefile.lines().filter_map(|line| line.strip_prefix("\t@echo \"make ")?.split_whitespace().next());
    assert_eq!(help.collect::<BTreeSet<_>>(), commands);
    for line in makefile.lines().filter(|line| !line.starts_with(['\t', '#', '.', '$'])) {
        let Some((target, _)) = line.split_once(':').filter(|(name, rest)| !rest.starts_with('=') && !name.contains([' ', '='])) else {
            continue;
        };
        let is_file = target.contains('/');
        assert!(is_file || phony.split_whitespace().any(|name| name == target), "{target} is no file and not .PHONY");
    }
}

/// Azure drops a column that is not declared without a word.
#[test]
fn the_table_to_deploy_has_the_columns_of_a_row() {
    let audit: AuditRecord = serde_json::from_value(serde_json::json!({
        "id": "x", "at": "2026-01-15T09:00:00Z", "kind": "close", "vm": null, "port": null, "sources": null, "about": null,
        "code": "any-source", "severity": "High", "what": "", "why": "because", "attempt": null, "asked": [], "claims": [],
    }))
    .unwrap();
    let row = audit.row(&Installation { name: String::new(), tenant: String::new(), version: String::new() });
    let written: BTreeSet<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    let table: Vec<serde_json::Value> =
        serde_json::from_str(&fs::read_to_string(root().join("infra/sentinel/table.json")).unwrap()).unwrap();
    let declared: BTreeSet<&str> = table.iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!((declared.len(), &declared), (table.len(), &written));
    for column in &table {
        let (name, kind) = (column["name"].as_str().unwrap(), column["type"].as_str().unwrap());
        let fits = match &row[name] {
            serde_json::Value::Null => true,
            serde_json::Value::Number(_) => ["int", "long"].contains(&kind),
            serde_json::Value::String(_) => ["string", "datetime"].contains(&kind),
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => kind == "dynamic",
            serde_json::Value::Bool(_) => kind == "boolean",
        };
        assert!(fits && !column["description"].as_str().unwrap().is_empty(), "{column}");
    }
}

/// The words in backticks of the first column of a document's table below a heading.
fn first_column(document: &str, heading: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let section = text.split_once(heading).unwrap().1.split("\n## ").next().unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("|---"));
    rows.filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect()
}

#[test]
fn what_to_do_is_said_of_every_alarm_and_of_every_part_that_fails() {
    assert_eq!(first_column("docs/operating.md", "\n## Alarms\n"), Cause::ALL.map(|cause| cause.text().to_owned()).into());
    let sources: String = files(&root().join("src"), ".rs").iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let begins = ["tell_failing(\"", "told_store, \"", "told_slow, \"", "AuditKind::ServiceFailing, \""];
    let codes = begins.iter().flat_map(|begin| sources.split(begin).skip(1)).filter_map(|rest| rest.split('"').next());
    let told = first_column("docs/operating.md", "\n## Rows of the kind `service-failing`\n");
    assert_eq!(told, codes.map(str::to_owned).collect());
}

fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_ours = !path.ends_with("target") && !path.ends_with("node_modules") && !path.ends_with(".git");
        if path.is_dir() && is_ours {
            found.extend(files(&path, end));
        } else if path.is_file() && path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found
}

/// A snapshot that no test reads any more would be believed and be wrong.
#[test]
fn every_snapshot_belongs_to_a_test() {
    let sources: Vec<(String, String)> = files(&root(), ".rs")
        .into_iter()
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    let snapshots = files(&root(), ".snap");
    assert!(!snapshots.is_empty());
    for snapshot in snapshots {
        let name = snapshot.file_stem().unwrap().to_string_lossy().into_owned();
        let (test, name) = name.split_once("__").unwrap();
        let asked = format!("assert_snapshot!(\"{name}\"");
        let belongs = sources.iter().any(|(file, text)| file == test && text.contains(&asked));
        assert!(belongs, "no test reads {}: delete it", snapshot.display());
    }
    let new: Vec<PathBuf> = [".snap.new", ".pending-snap"].into_iter().flat_map(|end| files(&root(), end)).collect();
    assert_eq!(new, Vec::<PathBuf>::new(), "a snapshot is not settled");
}
