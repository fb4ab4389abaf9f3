//! The handler program as a process: started with the host's environment, polled until it answers its port, its
//! console kept, and restarted or given up by its exit code as the real host does.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpSocket;
use tokio::process::{Child, Command};

/// How often the host asks a starting handler whether it answers.
const POLL: Duration = Duration::from_millis(25);
/// The exit code with which a handler asks for a restart that is not counted as an error.
const WANTS_RESTART: i32 = 200;
/// With this many errors the host shuts down.
const MOST_ERRORS: usize = 3;
/// When this has passed since the last error, all are forgotten.
const ERRORS_REMEMBERED: Duration = Duration::from_secs(30 * 60);
/// How many lines of the console are kept.
const LINES_KEPT: usize = 10_000;
/// How long an exit may take to be seen after the handler's connection broke.
const EXIT_SEEN_WITHIN: Duration = Duration::from_millis(500);
/// What the handler gets of the environment that the stand-in itself was started in, besides its settings. The
/// real host passes on all of its own, which is the app's settings; a developer's shell is not that.
const INHERITED: [&str; 9] =
    ["PATH", "HOME", "TMPDIR", "LANG", "TZ", "RUST_LOG", "RUST_BACKTRACE", "RUST_LIB_BACKTRACE", "LD_LIBRARY_PATH"];

/// What is started, and how.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The script root, which is also its working directory where it exists.
    pub root: PathBuf,
    /// The app's settings.
    pub settings: Vec<(String, String)>,
    /// How long it may take until it answers.
    pub initialization_timeout: Duration,
    /// What becomes of its console.
    pub console: Console,
}

/// What becomes of the handler's console besides being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// Nothing.
    Kept,
    /// Each line is written to standard error, too.
    PassedOn,
}

/// The handler program. It is started when it is first needed, and killed when this is dropped.
#[derive(Clone)]
pub struct Process {
    shared: Arc<Shared>,
}

struct Shared {
    program: Program,
    client: reqwest::Client,
    /// Held while the program is being started, so that all who need it wait for one start.
    starting: tokio::sync::Mutex<()>,
    now: Mutex<Now>,
    lines: Arc<Mutex<VecDeque<String>>>,
}

struct Now {
    life: Life,
    child: Option<Child>,
    /// Counts starts, so that news of an old process is not taken for the new one's.
    generation: u64,
    errors: Errors,
}

/// The handler's errors that count: all since the last pause of half an hour.
#[derive(Debug, Default)]
struct Errors {
    count: usize,
    last: Option<Instant>,
}

impl Errors {
    /// Counts one more and gives how many count now.
    fn add(&mut self, at: Instant) -> usize {
        if self.last.is_some_and(|last| at.saturating_duration_since(last) > ERRORS_REMEMBERED) {
            self.count = 0;
        }
        self.last = Some(at);
        self.count += 1;
        self.count
    }
}

/// What state the handler is in.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Life {
    /// It will be started when it is needed.
    Down,
    /// It is being started.
    Starting,
    /// It answers at this base URL.
    Ready(String),
    /// It exited with code 0: the host does nothing, and every invocation fails.
    ExitedZero,
    /// The host has shut down.
    Ended(String),
}

impl Process {
    /// A program that is not started yet. `client` is what it is polled with.
    pub fn new(program: Program, client: reqwest::Client) -> Process {
        Process {
            shared: Arc::new(Shared {
                program,
                client,
                starting: tokio::sync::Mutex::default(),
                now: Mutex::new(Now { life: Life::Down, child: None, generation: 0, errors: Errors::default() }),
                lines: Arc::default(),
            }),
        }
    }

    /// The base URL at which the handler answers; starts it if it is down. The error says why no invocation can
    /// reach it.
    pub async fn base(&self) -> Result<String, String> {
        let _one_at_a_time = self.shared.starting.lock().await;
        loop {
            match self.life() {
                Life::Ready(base) => return Ok(base),
                Life::ExitedZero => {
                    return Err("the handler exited with code 0, after which the host neither restarts nor reaches it".to_owned());
                }
                Life::Ended(why) => return Err(why),
                Life::Down | Life::Starting => self.start().await,
            }
        }
    }

    /// SIGKILL, without warning; the next invocation starts the program again. Returns when it is dead.
    pub fn kill(&self) {
        let mut now = self.now();
        let Some(mut child) = now.child.take() else {
            return;
        };
        now.life = Life::Down;
        if child.start_kill().is_ok() {
            await_death(&mut child);
        }
    }

    /// Asks the program to stop (SIGTERM), as whoever takes an instance away may, and waits until it has. The error says why it
    /// could not be asked.
    pub async fn ask_to_stop(&self) -> std::io::Result<()> {
        let (Some(pid), generation) = (self.pid(), self.starts()) else { return Ok(()) };
        // The signal goes out by a program, since a system call would be unsafe code.
        let asked = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
        while asked.success() && self.is_running(generation) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Called when a connection to the handler broke that was its `generation`-th: waits until its exit is seen, if it did exit, so that
    /// what comes next waits for the restart instead of failing in turn. Whether it did.
    pub async fn connection_broke(&self, generation: u64) -> bool {
        let since = Instant::now();
        while self.is_running(generation) {
            if since.elapsed() >= EXIT_SEEN_WITHIN {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        true
    }

    /// Whether the host has shut down for the handler's errors.
    pub fn has_ended(&self) -> bool {
        matches!(self.life(), Life::Ended(_))
    }

    /// How often the program was started.
    pub fn starts(&self) -> u64 {
        self.now().generation
    }

    /// The process id, while there is a process.
    pub fn pid(&self) -> Option<u32> {
        self.now().child.as_ref().and_then(Child::id)
    }

    /// What state it is in, for people.
    pub fn described(&self) -> String {
        match self.life() {
            Life::Down => "down; the next invocation starts it".to_owned(),
            Life::Starting => "starting".to_owned(),
            Life::Ready(base) => format!("answers at {base}"),
            Life::ExitedZero => "exited with code 0; every invocation fails".to_owned(),
            Life::Ended(why) => why,
        }
    }

    /// The lines of its console that are still kept, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn life(&self) -> Life {
        self.now().life.clone()
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.shared.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn start(&self) {
        let started = HeldPort::new().and_then(|held| Ok((self.spawn(held.port)?, held)));
        let (generation, held) = match started {
            Ok(started) => started,
            Err(error) => {
                let path = self.shared.program.path.display();
                self.now().life = Life::Ended(format!("the handler {path} cannot be started: {error}"));
                return;
            }
        };
        let base = format!("http://127.0.0.1:{}", held.port);
        let deadline = Instant::now() + self.shared.program.initialization_timeout;
        while self.is_running(generation) {
            if self.answers(&base).await {
                self.ready(generation, base);
                return;
            }
            if Instant::now() > deadline {
                self.kill();
                let limit = self.shared.program.initialization_timeout;
                self.count_error(&format!("the handler did not answer its port within {limit:?}"));
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn spawn(&self, port: u16) -> std::io::Result<u64> {
        let program = &self.shared.program;
        let mut now = self.now();
        let id = format!("handler-{}", now.generation + 1);
        let mut command = Command::new(&program.path);
        command
            .args(&program.arguments)
            .env_clear()
            .envs(inherited())
            .envs(program.settings.iter().map(|(name, value)| (name, value)))
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .env("FUNCTIONS_HTTPWORKER_PORT", port.to_string())
            .env("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", &id)
            .env("FUNCTIONS_HTTPWORKER_ID", &id)
            .env("FUNCTIONS_APP_ROOT_PATH", &program.root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if program.root.is_dir() {
            command.current_dir(&program.root);
        }
        let mut child = command.spawn()?;
        now.generation += 1;
        now.life = Life::Starting;
        let generation = now.generation;
        let stdout = child.stdout.take().map(|stdout| self.keep_lines(stdout));
        if let Some(stderr) = child.stderr.take() {
            self.keep_lines(stderr);
        }
        now.child = Some(child);
        let watching = self.clone();
        tokio::spawn(async move {
            // A closed console is the quickest sign of an exit.
            if let Some(stdout) = stdout {
                let _ = stdout.await;
            }
            while watching.is_running(generation) {
                tokio::time::sleep(POLL).await;
            }
        });
        Ok(generation)
    }

    /// Whether the process of this generation still runs; if it has exited by itself, the host's rules for its
    /// exit code are applied.
    fn is_running(&self, generation: u64) -> bool {
        let mut now = self.now();
        if now.generation != generation {
            return false;
        }
        let Some(child) = now.child.as_mut() else {
            return false;
        };
        match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                now.child = None;
                drop(now);
                self.exited(status);
                false
            }
            Err(_) => false,
        }
    }

    fn exited(&self, status: ExitStatus) {
        match status.code() {
            Some(0) => self.now().life = Life::ExitedZero,
            Some(WANTS_RESTART) => self.now().life = Life::Down,
            Some(_) | None => self.count_error(&format!("the handler ended by itself: {status}")),
        }
    }

    fn count_error(&self, why: &str) {
        tracing::warn!("{why}");
        let mut now = self.now();
        now.life = if now.errors.add(Instant::now()) < MOST_ERRORS {
            Life::Down
        } else {
            Life::Ended(format!("the host has shut down after {MOST_ERRORS} errors of the handler, the last being: {why}"))
        };
    }

    /// Any status at all is an answer.
    async fn answers(&self, base: &str) -> bool {
        self.shared.client.get(format!("{base}/")).timeout(Duration::from_secs(5)).send().await.is_ok()
    }

    fn ready(&self, generation: u64, base: String) {
        let mut now = self.now();
        if now.generation == generation && now.child.is_some() {
            now.life = Life::Ready(base);
        }
    }

    fn keep_lines(&self, stream: impl AsyncRead + Send + Unpin + 'static) -> tokio::task::JoinHandle<()> {
        let lines = Arc::clone(&self.shared.lines);
        let console = self.shared.program.console;
        tokio::spawn(async move {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line).await, Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if console == Console::PassedOn {
                    eprintln!("handler: {text}");
                }
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == LINES_KEPT {
                    lines.pop_front();
                }
                lines.push_back(text);
            }
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let now = self.now.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = now.child.as_mut() {
            let _ = child.start_kill();
        }
    }
}

/// Whoever kills goes on only when the handler can do nothing more.
#[expect(clippy::disallowed_methods, reason = "death by SIGKILL takes microseconds, and the caller may hold no await")]
fn await_death(child: &mut Child) {
    let since = Instant::now();
    while matches!(child.try_wait(), Ok(None)) && since.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[expect(clippy::disallowed_methods, reason = "a child's environment is made of its parent's")]
fn inherited() -> impl Iterator<Item = (&'static str, OsString)> {
    INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)))
}

/// A free port that is kept for the handler while it starts. The socket is bound and does not listen: a program that
/// sets `SO_REUSEADDR`, as servers do, can listen there, and nobody else is given the port meanwhile. Without it the
/// poll of a port that nobody listens on yet may be given that very port to call from, and so connect to itself.
struct HeldPort {
    port: u16,
    _socket: TcpSocket,
}

impl HeldPort {
    fn new() -> std::io::Result<HeldPort> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(HeldPort { port: socket.local_addr()?.port(), _socket: socket })
    }
}

#[cfg(test)]
mod tests {
    use super::super::client;
    use super::super::config::HttpMode;
    use super::*;

    /// A handler that answers every GET with 404, and exits with the code that a POST names; written in what every machine for tests has.
    const ANSWERING: &str = r#"
import http.server, os, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404); self.send_header("Content-Length", "0"); self.end_headers()
    def do_POST(self): os._exit(int(self.path[1:]))
    def log_message(self, *a): pass
print("port", os.environ["FUNCTIONS_CUSTOMHANDLER_PORT"] == os.environ["FUNCTIONS_HTTPWORKER_PORT"], flush=True)
print("id", os.environ["FUNCTIONS_CUSTOMHANDLER_WORKER_ID"], os.environ["SETTING"], "HTTP_PROXY" in os.environ, file=sys.stderr, flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["FUNCTIONS_CUSTOMHANDLER_PORT"])), H).serve_forever()
"#;

    fn a_process(script: &str) -> Process {
        let program = Program {
            path: PathBuf::from("python3"),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            root: std::env::temp_dir(),
            settings: vec![("SETTING".to_owned(), "set".to_owned())],
            initialization_timeout: Duration::from_secs(20),
            console: Console::Kept,
        };
        Process::new(program, client::to_handler(HttpMode::Proxying).unwrap())
    }

    async fn until(what: &str, mut done: impl FnMut() -> bool) {
        let since = Instant::now();
        while !done() {
            assert!(since.elapsed() < Duration::from_secs(20), "{what} did not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_handler_is_started_with_the_hosts_environment_and_ready_with_any_status() {
        let process = a_process(ANSWERING);
        let base = process.base().await.unwrap();
        assert_eq!(process.base().await.unwrap(), base);
        assert_eq!(process.starts(), 1);
        until("two lines", || process.lines().len() == 2).await;
        let mut lines = process.lines();
        lines.sort();
        assert_eq!(lines, ["id handler-1 set False", "port True"]);
    }

    #[tokio::test]
    async fn a_held_port_is_given_to_nobody_and_the_handler_can_listen_there() {
        let held = HeldPort::new().unwrap();
        let given = |_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!((0..200).map(given).all(|other| other.local_addr().unwrap().port() != held.port));
        let address = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, held.port));
        let connects = |_| std::net::TcpStream::connect(address).is_ok();
        assert!(!(0..70_000).any(connects), "a poll connected to itself");
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        drop(held);
        assert!(tokio::net::TcpStream::connect(address).await.is_ok());
        drop(listener);
    }

    #[tokio::test]
    async fn a_killed_handler_is_dead_at_once_and_started_again_when_needed() {
        let process = a_process(ANSWERING);
        let first = process.base().await.unwrap();
        for _ in 0..4 {
            process.kill();
            assert_eq!(process.pid(), None);
            let client = client::to_handler(HttpMode::Proxying).unwrap();
            assert!(client.get(&first).send().await.is_err());
            process.base().await.unwrap();
        }
        assert_eq!(process.starts(), 5);
    }

    async fn exits_with(process: &Process, code: u8) {
        let base = process.base().await.unwrap();
        let client = client::to_handler(HttpMode::Proxying).unwrap();
        assert!(client.post(format!("{base}/{code}")).send().await.is_err());
        until("the exit", || process.pid().is_none()).await;
    }

    #[tokio::test]
    async fn exit_code_0_is_never_restarted() {
        let process = a_process(ANSWERING);
        exits_with(&process, 0).await;
        assert!(process.base().await.unwrap_err().contains("code 0"));
        assert_eq!(process.starts(), 1);
    }

    #[tokio::test]
    async fn exit_code_200_is_a_restart_that_is_not_counted() {
        let process = a_process(ANSWERING);
        for starts in 1..=4 {
            exits_with(&process, 200).await;
            assert_eq!(process.starts(), starts);
        }
        process.base().await.unwrap();
    }

    #[tokio::test]
    async fn the_third_error_ends_the_host() {
        let process = a_process("import os; os._exit(3)");
        let why = process.base().await.unwrap_err();
        assert!(why.contains("shut down after 3 errors") && why.contains('3'), "{why}");
        assert_eq!(process.starts(), 3);
    }

    #[test]
    fn errors_are_forgotten_half_an_hour_after_the_last() {
        let (minute, begin) = (Duration::from_secs(60), Instant::now());
        let counted = |minutes: &[u32]| {
            let mut errors = Errors::default();
            minutes.iter().map(|at| errors.add(begin + minute * *at)).collect::<Vec<_>>()
        };
        assert_eq!(counted(&[0, 1, 2]), [1, 2, 3]);
        assert_eq!(counted(&[0, 20, 40]), [1, 2, 3]);
        assert_eq!(counted(&[0, 30, 61, 62]), [1, 2, 1, 2]);
    }

    #[tokio::test]
    async fn a_missing_program_is_said_with_its_path() {
        let mut process = a_process("");
        Arc::get_mut(&mut process.shared).unwrap().program.path = PathBuf::from("/nowhere/handler");
        assert!(process.base().await.unwrap_err().contains("/nowhere/handler"));
    }
}
