//! Programs of others that judge ours: how they are found, started, awaited and ended.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_sandbox::engine::Clock;
use portcullis_sandbox::estate;
use portcullis_sandbox::sandbox::{Sandbox, SandboxOptions};
use portcullis_sandbox::state::State;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

/// Node starts in a second or two; a machine that is busy with a build takes a multiple.
const STARTS_WITHIN: Duration = Duration::from_secs(90);

/// A client makes some dozens of calls; a machine that is busy with a build takes a multiple.
const ENDS_WITHIN: Duration = Duration::from_secs(180);

/// What is kept of a program's words, for when it fails.
const LINES_KEPT: usize = 200;

/// A sandbox of the small estate without a host, and the folder that it lives in.
pub async fn sandbox(clock: Clock, prepare: impl FnOnce(&mut State)) -> (Sandbox, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::default();
    estate::small(&mut state);
    prepare(&mut state);
    let mut options = SandboxOptions::new(dir.path());
    options.world = Some(state);
    options.clock = clock;
    (Sandbox::start(options).await.unwrap(), dir)
}

/// Where the programs are installed, with their lock file.
pub fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// A command that runs this program of `tests/clients` with Node.
pub fn node(program: &str) -> Command {
    let path = clients().join(program);
    assert!(path.exists(), "{} is not there: run `make test`, which installs it, or `npm ci` in tests/clients", path.display());
    let mut command = javascript();
    command.arg(path);
    command
}

/// Node in `tests/clients`, which ends with the value that it is kept in.
pub fn javascript() -> Command {
    assert!(clients().join("node_modules").exists(), "run `make test`, or `npm ci` in tests/clients");
    let mut command = client("node");
    command.env_remove("NODE_OPTIONS");
    command
}

/// A command that runs this program of `tests/clients` with the Python of `make test`.
pub fn python(program: &str) -> Command {
    let mut command = interpreter();
    command.arg(program);
    command
}

/// The Python of `make test` in `tests/clients`, which ends with the value that it is kept in.
pub fn interpreter() -> Command {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/python");
    assert!(python.exists(), "{} is not installed: run `make test`, which installs it with its clients", python.display());
    let mut command = client(python);
    // Nothing is left in the folder of the sources.
    command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("PYTHONPATH");
    command
}

fn client(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(clients()).stdin(Stdio::null()).kill_on_drop(true);
    // Everything is on this machine, whatever proxy its owner has set.
    command.env("NO_PROXY", "127.0.0.1,localhost").env_remove("HTTP_PROXY").env_remove("HTTPS_PROXY");
    command
}

/// Runs a client to its end in the environment that the sandbox writes down.
pub async fn ended(mut command: Command, sandbox: &Sandbox) -> Output {
    let authority = sandbox.env("SSL_CERT_FILE");
    command.envs(sandbox.env.iter().cloned()).env("NODE_EXTRA_CA_CERTS", authority).env("REQUESTS_CA_BUNDLE", authority);
    // The world's time, for whoever asks for an instant.
    command.env("NOW", sandbox.now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    let output = tokio::time::timeout(ENDS_WITHIN, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{command:?} did not end within {ENDS_WITHIN:?}"));
    output.unwrap_or_else(|why| panic!("{command:?} cannot be started: {why}"))
}

/// The standard output of a client that ends well.
pub async fn output(command: Command, sandbox: &Sandbox) -> String {
    let output = ended(command, sandbox).await;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    told
}

/// What a client saw, as it says in one JSON document.
pub async fn saw(command: Command, sandbox: &Sandbox) -> Value {
    let told = output(command, sandbox).await;
    serde_json::from_str(&told).unwrap_or_else(|why| panic!("{why}: {told}"))
}

/// A program that listens on loopback until this is dropped.
pub struct Judge {
    /// Where it listens.
    pub url: String,
    said: Arc<Mutex<VecDeque<String>>>,
    _child: Child,
}

impl Judge {
    /// Starts a server and waits until it says where it listens.
    pub async fn start(name: &str, mut command: Command) -> Judge {
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child = spawned.unwrap_or_else(|why| panic!("{name} cannot be started with node ({why}): install Node 20 or newer"));
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe was asked for")).lines();
        let address = async {
            while let Ok(Some(line)) = lines.next_line().await {
                let address = address(&line);
                keep(&said, line);
                if address.is_some() {
                    return address;
                }
            }
            None
        };
        let url = tokio::time::timeout(STARTS_WITHIN, address).await;
        let told = || said.lock().unwrap().iter().cloned().collect::<Vec<_>>().join("\n");
        let url = url.unwrap_or_else(|_| panic!("{name} was not ready within {STARTS_WITHIN:?}:\n{}", told()));
        let url = url.unwrap_or_else(|| panic!("{name} ended before it was ready:\n{}", told()));
        tokio::spawn(drain(lines, said.clone()));
        Judge { url, said, _child: child }
    }

    /// What it said last.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

/// A pipe that nobody reads would stop the program.
async fn drain(mut lines: tokio::io::Lines<BufReader<ChildStdout>>, said: Arc<Mutex<VecDeque<String>>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        keep(&said, line);
    }
}

fn keep(said: &Mutex<VecDeque<String>>, line: String) {
    let mut said = said.lock().unwrap();
    if said.len() == LINES_KEPT {
        said.pop_front();
    }
    said.push_back(line);
}

/// The address in a line such as `… listens on http://127.0.0.1:4010`.
fn address(line: &str) -> Option<String> {
    let (_, address) = line.split_once(" listens on ").or_else(|| line.split_once(" listening on "))?;
    let address = address.split_whitespace().next()?;
    address.starts_with("http").then(|| address.trim_end_matches('/').to_owned())
}
