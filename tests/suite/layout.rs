//! Lists that must agree, made to agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use portcullis::host::Function;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The modules of `src/lib.rs` in their order, private ones too.
fn modules() -> Vec<String> {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let declared = lib.lines().map(|line| line.strip_prefix("pub ").unwrap_or(line));
    declared.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)).collect()
}

/// What a text names of its own crate: the words behind `crate::`.
fn named(text: &str) -> BTreeSet<String> {
    let after = text.split("crate::").skip(1);
    after.map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()).collect()
}

#[test]
fn a_module_uses_only_modules_above_it() {
    let modules = modules();
    assert!(modules.len() >= 5, "{modules:?}");
    let place: BTreeMap<&str, usize> = modules.iter().enumerate().map(|(n, name)| (name.as_str(), n)).collect();
    let mut wrong = Vec::new();
    for path in sources(&root().join("src")) {
        let inside = path.strip_prefix(root().join("src")).unwrap();
        let own = inside.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        let Some(own_place) = place.get(own.as_str()) else { continue };
        let used = named(&fs::read_to_string(&path).unwrap());
        wrong.extend(
            used.iter()
                .filter(|name| place.get(name.as_str()).is_some_and(|at| at > own_place))
                .map(|name| format!("{} uses {name}", inside.display())),
        );
    }
    assert_eq!(wrong, Vec::<String>::new(), "the order is {modules:?}");
}

#[test]
fn every_module_of_the_app_stands_in_the_order() {
    let folder = fs::read_dir(root().join("src")).unwrap();
    let there: BTreeSet<String> = folder
        .map(|entry| entry.unwrap().file_name().to_string_lossy().trim_end_matches(".rs").to_owned())
        .filter(|name| !["lib", "main"].contains(&name.as_str()))
        .collect();
    assert_eq!(there, modules().into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn folders_routes_and_files_of_functions_have_the_same_names() {
    let folders: BTreeSet<String> =
        fs::read_dir(root().join("functions")).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    let mut routes: BTreeSet<String> = Function::ALL.iter().map(|function| function.name().to_owned()).collect();
    for route in &routes {
        let (file, folder) = (root().join(format!("src/functions/{route}.rs")), root().join(format!("src/functions/{route}")));
        assert!(file.is_file() || folder.is_dir(), "function {route} has no file of its name");
    }
    routes.insert("api".to_owned());
    assert_eq!(folders, routes);
}

#[test]
fn the_sandbox_knows_the_wire_only() {
    let manifest = fs::read_to_string(root().join("crates/sandbox/Cargo.toml")).unwrap();
    for other in ["portcullis.workspace", "portcullis-domain", "portcullis-tool"] {
        assert!(!manifest.contains(other), "the sandbox depends on {other}");
    }
}

#[test]
fn the_domain_depends_on_nothing_that_can_wait_or_look() {
    let manifest = fs::read_to_string(root().join("crates/domain/Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let names: Vec<&str> =
        dependencies.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|name| !name.is_empty()).collect();
    assert_eq!(names, ["chrono", "jiff", "serde", "serde_json", "sha2", "thiserror"]);
}
