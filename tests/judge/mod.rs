//! Programs of others that judge ours: how they are found, started, awaited and ended.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

/// Node starts in a second or two; a machine that is busy with a build takes a multiple.
const STARTS_WITHIN: Duration = Duration::from_secs(90);

/// What is kept of a program's words, for when it fails.
const LINES_KEPT: usize = 200;

/// Where the programs are installed, with their lock file.
pub fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// A command that runs this program of `tests/clients` with Node, and that ends with the value that it is kept in.
pub fn node(program: &str) -> Command {
    let path = clients().join(program);
    assert!(
        path.exists() && clients().join("node_modules").exists(),
        "{} is not installed: run `make test`, which installs it, or `npm ci` in tests/clients",
        path.display()
    );
    let mut command = Command::new("node");
    command.arg(path).current_dir(clients()).stdin(Stdio::null()).kill_on_drop(true);
    // Everything is on this machine, whatever proxy its owner has set.
    command.env("NO_PROXY", "127.0.0.1,localhost").env_remove("HTTP_PROXY").env_remove("HTTPS_PROXY").env_remove("NODE_OPTIONS");
    command
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
