//! The package: what the real host would unpack, and that the program in it governs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_sandbox::host::HostFiles;
use portcullis_trials::story::{Setting, vm};

const HANDLER: &str = env!("CARGO_BIN_EXE_portcullis-handler");

/// Unpacks as the host does, run bits kept, and lists what there is with its mode.
const UNPACK: &str = "
import sys, zipfile
from pathlib import Path
archive, folder = sys.argv[1:]
for entry in zipfile.ZipFile(archive).infolist():
    path = Path(zipfile.ZipFile(archive).extract(entry, folder))
    path.chmod((entry.external_attr >> 16) & 0o777)
    print(oct(entry.external_attr >> 16), entry.filename)
";

fn python(arguments: &[&str]) -> Output {
    Command::new("python3")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("python3 must be on PATH: the README names it")
}

fn package(folder: &Path, name: &str) -> PathBuf {
    let (stage, zip) = (folder.join(format!("{name}-stage")), folder.join(format!("{name}.zip")));
    let out = python(&["infra/package.py", "--allow-dynamic", HANDLER, stage.to_str().unwrap(), zip.to_str().unwrap()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    zip
}

fn unpacked(zip: &Path, into: &Path) -> String {
    let out = python(&["-c", UNPACK, zip.to_str().unwrap(), into.to_str().unwrap()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn the_package_holds_what_the_host_reads_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let zip = package(dir.path(), "one");
    insta::assert_snapshot!(unpacked(&zip, &dir.path().join("app")), @r"
    0o100644 alert/function.json
    0o100644 api/function.json
    0o100644 approval/function.json
    0o100644 host.json
    0o100644 jit_activity/function.json
    0o100644 policies/break-glass.cedar
    0o100644 policies/developers.cedar
    0o100644 policies/duties.cedar
    0o100644 policies/everybody.cedar
    0o100644 policies/networks.yaml
    0o100644 policies/people.yaml
    0o100644 policies/portcullis.cedarschema
    0o100644 policies/production.cedar
    0o100644 policies/responders.cedar
    0o100644 policies/tests/developers.yaml
    0o100644 policies/tests/duties.yaml
    0o100644 policies/tests/everybody.yaml
    0o100644 policies/tests/production.yaml
    0o100644 policies/tests/responders.yaml
    0o100755 portcullis-handler
    0o100644 schedule/function.json
    0o100644 sweep/function.json
    0o100644 sweep_shard/function.json
    ");
}

#[test]
fn the_same_files_make_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let read = |name| std::fs::read(package(dir.path(), name)).unwrap();
    assert!(read("one") == read("two"), "two packages of one build differ");
}

#[test]
fn a_program_that_is_not_static_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = python(&["infra/package.py", HANDLER, dir.path().join("s").to_str().unwrap(), dir.path().join("z").to_str().unwrap()]);
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success() && said.contains("is not a static program"), "{said}");
}

#[test]
fn a_static_program_is_taken_and_keeps_its_run_bit() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("small.rs"), "fn main() {}").unwrap();
    let rustc = std::process::Command::new("rustc")
        .args(["--edition", "2024", "-C", "target-feature=+crt-static", "-o", &at("small"), &at("small.rs")])
        .output()
        .expect("rustc must be on PATH: cargo is");
    assert!(rustc.status.success(), "{}", String::from_utf8_lossy(&rustc.stderr));
    let out = python(&["infra/package.py", &at("small"), &at("stage"), &at("small.zip")]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(unpacked(&dir.path().join("small.zip"), &dir.path().join("app")).contains("0o100755 portcullis-handler"));
}

#[tokio::test]
async fn the_app_governs_from_the_unpacked_zip() {
    let dir = tempfile::tempdir().unwrap();
    let app = dir.path().join("app");
    unpacked(&package(dir.path(), "app"), &app);
    let story = Setting::default().begin_app(HostFiles::read(&app).unwrap()).await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(1)).await;
    story.pass(300).await;
    story.is_proved_shut("web-1", 3389);
}
