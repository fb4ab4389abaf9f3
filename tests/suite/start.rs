//! How `portcullis-handler` meets a person who starts it by hand: a few lines about itself, or everything that is wrong.

use std::collections::BTreeMap;
use std::process::Command;

use portcullis::settings::Settings;

struct Started {
    code: Option<i32>,
    out: String,
}

/// Starts it with nothing in its environment but this, and waits for its end.
fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Started {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-handler"));
    let output = command.args(arguments).env_clear().envs(environment.iter().copied()).output().unwrap();
    assert!(output.stderr.is_empty(), "the host takes standard error for errors");
    Started { code: output.status.code(), out: String::from_utf8(output.stdout).unwrap() }
}

#[test]
fn it_says_in_a_few_lines_what_it_is() {
    let help = start(&["--help"], &[]);
    assert_eq!((help.code, &help.out), (Some(0), &start(&["-h"], &[]).out));
    insta::assert_snapshot!(help.out, @r"
    portcullis-handler: the custom handler of Portcullis, which the Azure Functions host starts.
    It takes no arguments: its settings are environment variables, which README.md lists under Deploying, and the host gives
    it a port in FUNCTIONS_CUSTOMHANDLER_PORT. To see it at work without Azure: `portcullis demo` or `portcullis sandbox`.
    ");
    for argument in ["--version", "-V"] {
        let version = start(&[argument], &[]);
        assert_eq!((version.code, version.out), (Some(0), format!("portcullis-handler {}\n", env!("CARGO_PKG_VERSION"))));
    }
}

#[test]
fn any_other_argument_is_refused_in_one_line() {
    for arguments in [&["--port"][..], &["serve"], &["--help", "--port"], &[""]] {
        let refused = start(arguments, &[]);
        let given = arguments.join(" ");
        let said = format!("portcullis-handler cannot start: it takes no arguments but --help and --version, and was given `{given}`\n");
        assert_eq!((refused.code, refused.out), (Some(1), said));
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let settings = [
        ("PORTCULLIS_TENANT_ID", "72f988bf-86f1-41af-91ab-2d7cd011db47"),
        ("PORTCULLIS_BLOB_ENDPOINT", "https://p.blob.core.windows.net"),
        ("ServiceBus__fullyQualifiedNamespace", "p.servicebus.windows.net"),
        ("PORTCULLIS_LOGS_ENDPOINT", "https://p.westeurope-1.ingest.monitor.azure.com"),
        ("PORTCULLIS_LOGS_RULE_ID", "rule"),
        ("PORTCULLIS_MODE", "on"),
    ];
    for port in [None, Some("none"), Some("0")] {
        let environment: Vec<(&str, &str)> = settings.into_iter().chain(port.map(|port| ("FUNCTIONS_CUSTOMHANDLER_PORT", port))).collect();
        let refused = start(&[], &environment);
        assert_eq!(refused.code, Some(1));
        let named: Vec<&str> = refused
            .out
            .lines()
            .map(|line| line.strip_prefix("portcullis-handler cannot start: ").unwrap().split(' ').next().unwrap())
            .collect();
        assert_eq!(named, ["FUNCTIONS_CUSTOMHANDLER_PORT", "PORTCULLIS_MODE", "PORTCULLIS_LOGS_RULE_ID"], "{}", refused.out);
    }
}

/// What stands for the settings that have no default.
const MUST: [(&str, &str); 5] = [
    ("PORTCULLIS_TENANT_ID", "72f988bf-86f1-41af-91ab-2d7cd011db47"),
    ("PORTCULLIS_BLOB_ENDPOINT", "https://p.blob.core.windows.net"),
    ("ServiceBus__fullyQualifiedNamespace", "p.servicebus.windows.net"),
    ("PORTCULLIS_LOGS_ENDPOINT", "https://p.westeurope-1.ingest.monitor.azure.com"),
    ("PORTCULLIS_LOGS_RULE_ID", "dcr-0123456789abcdef0123456789abcdef"),
];

/// The settings of the README's table in its order, each with its default; nothing where it must be set.
fn documented() -> Vec<(String, Option<String>)> {
    let readme = include_str!("../../README.md");
    let table = readme.split_once("| Setting |").unwrap().1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let default = |cell: &str| match cell {
        "must be set" => None,
        "empty" => Some(String::new()),
        code => Some(code.trim_matches('`').to_owned()),
    };
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        (cells[0].trim_start_matches("| ").trim_matches('`').to_owned(), default(cells[1]))
    })
    .collect()
}

/// The names that the template of the function app sets.
fn deployed() -> Vec<&'static str> {
    let template = include_str!("../../infra/app.bicep");
    let settings = template.split_once("appSettings: [").unwrap().1;
    settings
        .lines()
        .take_while(|line| *line != "      ]")
        .filter_map(|line| line.trim().strip_prefix("name: '")?.strip_suffix('\''))
        .collect()
}

fn all() -> BTreeMap<String, String> {
    let must: BTreeMap<&str, &str> = MUST.into();
    documented().into_iter().map(|(name, default)| (name.clone(), default.unwrap_or_else(|| must[name.as_str()].to_owned()))).collect()
}

/// The names with which the program's complaints begin, without a port.
fn complaints(settings: &BTreeMap<String, String>) -> Vec<String> {
    let environment: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let refused = start(&[], &environment);
    assert_eq!(refused.code, Some(1));
    let named = refused.out.lines().map(|line| line.strip_prefix("portcullis-handler cannot start: ").unwrap().split(' ').next().unwrap());
    named.map(str::to_owned).collect()
}

/// The settings as the program reads them, or whatever is wrong with them.
fn read(settings: &BTreeMap<String, String>) -> String {
    let lookup = |name: &str| settings.get(name).cloned();
    format!("{:?}", Settings::from_lookup(lookup, settings.keys().cloned()))
}

#[test]
fn each_setting_that_a_deployment_leaves_out_is_named_or_has_its_documented_default() {
    const PORT: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";
    let all = all();
    assert_eq!(complaints(&all), [PORT]);
    for (name, default) in documented() {
        let mut without = all.clone();
        without.remove(&name);
        match default {
            None => assert_eq!(complaints(&without), [PORT, name.as_str()]),
            Some(_) => {
                assert_eq!(complaints(&without), [PORT], "{name}");
                assert_eq!(read(&without), read(&all), "{name}: the documented default is another");
            }
        }
    }
}

#[test]
fn each_setting_that_a_deployment_makes_is_read_and_none_is_left_out() {
    let (all, deployed) = (all(), deployed());
    for name in all.keys() {
        assert!(deployed.contains(&name.as_str()), "the template leaves {name} out");
        let mut other = all.clone();
        other.insert(name.clone(), "another".to_owned());
        assert_ne!(read(&other), read(&all), "{name} is not read");
    }
    // The host reads these; whatever else begins as ours do stops the start.
    let others: Vec<&str> = deployed.into_iter().filter(|name| !all.contains_key(*name)).collect();
    assert!(others.iter().all(|name| name.starts_with("ServiceBus__") || !name.starts_with("PORTCULLIS_")), "{others:?}");
    let mut with_others = all.clone();
    with_others.extend(others.into_iter().map(|name| (name.to_owned(), "x".to_owned())));
    assert_eq!(read(&with_others), read(&all));
}
