//! How `portcullis-handler` meets a person who starts it by hand: a few lines about itself, or everything that is wrong.

use std::process::Command;

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
