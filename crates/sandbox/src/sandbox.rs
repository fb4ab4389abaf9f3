//! The whole sandbox: one world, its faces, its clock and the host, started together and stopped together.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use chrono::{DateTime, SubsecRound, Utc};
use tokio::task::JoinHandle;

use crate::control::Control;
use crate::engine::{Clock, Engine};
use crate::face::Bases;
use crate::face::server::{Faces, Over, Patience, Served};
use crate::host::client;
use crate::host::deliver::{Host, Worker};
use crate::host::process::{Console, Process, Program};
use crate::host::{HostConfig, HostFiles};
use crate::state::{Container, State};
use crate::tls::Tls;
use crate::world::World;
use crate::{arm, blob, entra, estate, eventgrid, graph, insights, logs, machine, servicebus};

/// The container of the product's state.
pub const STATE_CONTAINER: &str = "state";
/// The blob without which the product counts its store as unreadable; a deployment writes it once.
pub const STORE_MARKER: &str = "portcullis-store.json";
/// What the marker says.
pub const STORE_MARKER_BODY: &str = r#"{"portcullis":"store","version":1}"#;
/// The Service Bus namespace, which the host's connection names.
pub const SERVICE_BUS: &str = "portcullis.servicebus.windows.net";

/// How a sandbox is started.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// Where `ca.pem` and `env` are written; made if it is not there.
    pub dir: PathBuf,
    /// The world to begin with; none is a small estate.
    pub world: Option<State>,
    /// How many VMs the estate has, if no world is given.
    pub vms: Option<usize>,
    /// What is added to every answer of every service.
    pub latency: Duration,
    /// The host; without one nothing is delivered.
    pub host: Option<HostOptions>,
    /// Whether time passes by itself.
    pub clock: Clock,
    /// What the handler is told to do with what it finds.
    pub mode: Mode,
    /// Whether the app is told where Application Insights is.
    pub insights: bool,
    /// Settings of the app that the sandbox knows nothing of; they go to the handler and into `DIR/env`.
    pub app_settings: Vec<(String, String)>,
}

impl SandboxOptions {
    /// A small estate without a host, whose time stands still.
    pub fn new(dir: impl Into<PathBuf>) -> SandboxOptions {
        SandboxOptions {
            dir: dir.into(),
            world: None,
            vms: None,
            latency: Duration::ZERO,
            host: None,
            clock: Clock::Standing,
            mode: Mode::Enforce,
            insights: false,
            app_settings: Vec::new(),
        }
    }
}

/// How the host is started.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// The handler program; none is the one that `host.json` names.
    pub handler: Option<PathBuf>,
    /// The app's `host.json` and functions.
    pub files: HostFiles,
    /// Settings besides those that the sandbox gives, or instead of them; an empty value takes a setting away.
    pub settings: Vec<(String, String)>,
    /// Instead of the `functionTimeout` of `host.json`.
    pub function_timeout: Option<Duration>,
    /// What becomes of the handler's console.
    pub console: Console,
}

impl HostOptions {
    /// This handler with these files, and everything else as the files say.
    pub fn new(handler: impl Into<PathBuf>, files: HostFiles) -> HostOptions {
        HostOptions { handler: Some(handler.into()), ..HostOptions::of_app(files) }
    }

    /// An app as it is staged: the handler is the one that `host.json` names, as on a real host.
    pub fn of_app(files: HostFiles) -> HostOptions {
        HostOptions { handler: None, files, settings: Vec::new(), function_timeout: None, console: Console::Kept }
    }
}

/// The product's mode, as its setting says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It only says what it would do.
    Observe,
    /// It acts.
    Enforce,
}

impl Mode {
    fn as_setting(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Enforce => "enforce",
        }
    }
}

/// A running sandbox. Dropping it kills the handler and closes every port.
pub struct Sandbox {
    /// The world.
    pub world: World,
    /// Its clock.
    pub engine: Engine,
    /// The host, if there is one.
    pub host: Option<Host>,
    /// Where every face is.
    pub bases: Arc<Bases>,
    /// The authority's certificate, as in `DIR/ca.pem`.
    pub ca_pem: String,
    /// What every https face shows; another service on loopback that shows it is trusted like them.
    pub tls: Tls,
    /// The control token.
    pub control_token: String,
    /// What `DIR/env` says, in its order.
    pub env: Vec<(String, String)>,
    running: Option<JoinHandle<()>>,
    _faces: Vec<Served>,
}

impl Sandbox {
    /// Starts everything and writes `DIR/ca.pem` and `DIR/env`. When it returns the handler answers, if there is
    /// one, and no time has passed.
    pub async fn start(options: SandboxOptions) -> anyhow::Result<Sandbox> {
        let state = a_world(options.world, options.vms, begins(options.clock));
        let world = World::new(state, options.latency);
        let tls = Tls::generate()?;
        let ca_pem = tls.authority_pem().to_owned();
        let dir = prepared(&options.dir)?;
        write(&dir.join("ca.pem"), &ca_pem)?;

        let faces = Faces::new(world.clone(), tls.clone());
        let mut served = services(&faces, options.clock).await?;
        let mut settings = settings(&world, &faces.bases(), &dir, options.mode);
        if options.insights {
            settings.extend(insights_settings(&faces.bases()));
        }
        settings.extend(options.app_settings);
        let host = match options.host {
            Some(wanted) => Some(a_host(&world, wanted, &settings)?),
            None => None,
        };
        let engine = Engine::new(world.clone(), host.clone());
        let control = Control { world: world.clone(), engine: engine.clone(), host: host.clone(), token: machine::secret() };
        let control_token = control.token.clone();
        served.extend(own_faces(&faces, &control).await?);
        let bases = faces.bases();
        let mut env = names(&world, &bases, &control_token);
        env.extend(settings);
        write(&dir.join("env"), &env.iter().map(|(key, value)| format!("{key}={value}\n")).collect::<String>())?;

        let mut sandbox = Sandbox { world, engine, host, bases, ca_pem, tls, control_token, env, running: None, _faces: served };
        sandbox.await_handler().await?;
        if options.clock == Clock::Running {
            sandbox.running = Some(sandbox.engine.run());
        }
        Ok(sandbox)
    }

    /// The base URL of a face; empty for an unknown name.
    pub fn url(&self, face: &str) -> &str {
        self.bases.urls.get(face).map(String::as_str).unwrap_or_default()
    }

    /// A value of `DIR/env`; empty for an unknown name.
    pub fn env(&self, name: &str) -> &str {
        self.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// An HTTP client that trusts the sandbox's authority and no other.
    pub fn client(&self) -> anyhow::Result<reqwest::Client> {
        client::trusting(&self.ca_pem)
    }

    /// The world's time.
    pub fn now(&self) -> DateTime<Utc> {
        self.engine.now()
    }

    async fn await_handler(&self) -> anyhow::Result<()> {
        let Some(host) = &self.host else {
            return Ok(());
        };
        if let Err(why) = host.ready().await {
            let said = host.process().map(Process::lines).unwrap_or_default().join("\n");
            bail!("{why}\n{said}");
        }
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
        if let Some(host) = &self.host {
            host.kill();
        }
    }
}

/// When a world begins that does not say so itself. One whose clock runs begins now: a client that asks for an hour
/// from its own time means an hour of the world's.
pub fn begins(clock: Clock) -> DateTime<Utc> {
    match clock {
        Clock::Standing => crate::state::beginning(),
        Clock::Running => machine::now().trunc_subsecs(0),
    }
}

/// The given world, or a small estate; in either all that the product needs of Azure besides what it governs.
fn a_world(given: Option<State>, vms: Option<usize>, begins: DateTime<Utc>) -> State {
    let mut model = State { now: begins, ..State::default() };
    estate::small(&mut model);
    let mut state = match (given, vms) {
        (Some(state), _) => state,
        (None, Some(vms)) => {
            let mut state = State { now: begins, ..State::default() };
            estate::large(&mut state, vms);
            state
        }
        (None, None) => model.clone(),
    };
    furnish(&mut state, model);
    state
}

/// Gives a world that leaves them out the product's identity, queues and store, as a deployment would have made them,
/// and the people and applications that the documents and `env` speak of.
fn furnish(state: &mut State, model: State) {
    for principal in model.principals {
        let is_there = match principal.managed_identity {
            true => state.principals.iter().any(|known| known.managed_identity),
            false => state.principals.iter().any(|known| known.object_id.eq_ignore_ascii_case(&principal.object_id)),
        };
        if !is_there {
            state.principals.push(principal);
        }
    }
    for (name, queue) in model.queues {
        state.queues.entry(name).or_insert(queue);
    }
    // A store that the world brings is left as it is: one without its marker is a case worth trying.
    if !state.containers.contains_key(STATE_CONTAINER) {
        state.containers.insert(STATE_CONTAINER.to_owned(), Container::default());
        blob::put(state, STATE_CONTAINER, STORE_MARKER, STORE_MARKER_BODY.as_bytes(), "application/json");
    }
    for (name, container) in model.containers {
        state.containers.entry(name).or_insert(container);
    }
}

fn prepared(dir: &Path) -> anyhow::Result<PathBuf> {
    if dir.exists() && !dir.is_dir() {
        bail!("{} is a file: name a folder, which is made if it is not there", dir.display());
    }
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    dir.canonicalize().with_context(|| format!("{} cannot be read", dir.display()))
}

/// Readable by its owner alone, since `env` holds secrets.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| format!("{} cannot be written", path.display()))
}

/// The simulated services of Azure.
async fn services(faces: &Faces, clock: Clock) -> anyhow::Result<Vec<Served>> {
    let patience: Patience = match clock {
        // While it stands nothing can become due, so that a wait would only hold up whoever moves it.
        Clock::Standing => |_| Duration::ZERO,
        Clock::Running => servicebus::patience,
    };
    Ok(vec![
        faces.serve("arm", arm::answer, Over::Https, 0).await?,
        faces.serve("entra", entra::answer, Over::Https, 0).await?,
        faces.serve("identity", entra::identity, Over::Http, 0).await?,
        faces.serve("graph", graph::answer, Over::Https, 0).await?,
        faces.serve_patiently("servicebus", servicebus::answer, patience, Over::Https, 0).await?,
        faces.serve("blob", blob::answer, Over::Https, 0).await?,
        faces.serve("logs", logs::answer, Over::Https, 0).await?,
        faces.serve("insights", insights::answer, Over::Https, 0).await?,
    ])
}

/// The faces that are not Azure's services: the host's two, and the control API.
async fn own_faces(faces: &Faces, control: &Control) -> anyhow::Result<Vec<Served>> {
    let (world, host) = (control.world.clone(), control.host.clone());
    let webhook = move |call| eventgrid::webhook(world.clone(), host.clone(), call);
    let host = control.host.clone();
    let site = move |call| crate::host::http::answer(host.clone(), call);
    let control = control.clone();
    let control = move |call| control.clone().answer(call);
    Ok(vec![
        faces.serve_with("eventgrid", webhook, Over::Https, 0).await?,
        faces.serve_with("api", site, Over::Https, 0).await?,
        faces.serve_with("control", control, Over::Https, 0).await?,
    ])
}

/// The settings that the handler needs to run against this sandbox.
fn settings(world: &World, bases: &Bases, dir: &Path, mode: Mode) -> Vec<(String, String)> {
    let url = |face: &str| bases.urls.get(face).cloned().unwrap_or_default();
    let (tenant, workspace) = {
        let state = world.lock();
        (state.tenant_id.clone(), state.workspaces.first().map(|workspace| workspace.id.clone()))
    };
    let connected = workspace.map(|id| ("PORTCULLIS_SENTINEL_WORKSPACE", id));
    [
        ("IDENTITY_ENDPOINT", format!("{}/msi/token", url("identity"))),
        ("IDENTITY_HEADER", entra::identity_header().to_owned()),
        ("SSL_CERT_FILE", dir.join("ca.pem").display().to_string()),
        ("PORTCULLIS_MODE", mode.as_setting().to_owned()),
        ("PORTCULLIS_TENANT_ID", tenant),
        ("PORTCULLIS_LOGIN_ENDPOINT", url("entra")),
        ("PORTCULLIS_ARM_ENDPOINT", url("arm")),
        ("PORTCULLIS_GRAPH_ENDPOINT", url("graph")),
        ("PORTCULLIS_BLOB_ENDPOINT", format!("{}/{}", url("blob"), blob::ACCOUNT)),
        ("ServiceBus__fullyQualifiedNamespace", SERVICE_BUS.to_owned()),
        ("PORTCULLIS_SERVICEBUS_ENDPOINT", url("servicebus")),
        ("PORTCULLIS_LOGS_ENDPOINT", url("logs")),
        ("PORTCULLIS_LOGS_RULE_ID", logs::RULE_ID.to_owned()),
        ("PORTCULLIS_LOGS_STREAM", logs::STREAM.to_owned()),
        ("PORTCULLIS_API_AUDIENCE", entra::API_APP_ID.to_owned()),
    ]
    .into_iter()
    .chain(connected)
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// The settings by which the handler finds Application Insights, as a deployment with a system-assigned identity has them.
fn insights_settings(bases: &Bases) -> Vec<(String, String)> {
    [
        ("APPLICATIONINSIGHTS_CONNECTION_STRING", insights::connection_string(bases.url("insights"))),
        ("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "Authorization=AAD".to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// What any other program needs.
fn names(world: &World, bases: &Bases, control_token: &str) -> Vec<(String, String)> {
    let url = |face: &str| bases.urls.get(face).cloned().unwrap_or_default();
    let state = world.lock();
    let subscription = state.subscriptions.first().map(|subscription| subscription.id.clone()).unwrap_or_default();
    let signs_in = |object_id: &str| {
        let application = state.principals.iter().find(|principal| principal.object_id.eq_ignore_ascii_case(object_id));
        application.map(|application| (application.app_id.clone(), application.secret.clone())).unwrap_or_default()
    };
    let (client_id, secret) = signs_in(estate::CLIENT_OBJECT_ID);
    let (auditor_id, auditor_secret) = signs_in(estate::AUDITOR_OBJECT_ID);
    let webhook = format!("{}/runtime/webhooks/EventGrid?functionName={}", url("eventgrid"), eventgrid::FUNCTION);
    [
        ("SANDBOX_ARM_URL", url("arm")),
        ("SANDBOX_ENTRA_URL", url("entra")),
        ("SANDBOX_TENANT_ID", state.tenant_id.clone()),
        ("SANDBOX_SUBSCRIPTION_ID", subscription),
        ("SANDBOX_CLIENT_ID", client_id),
        ("SANDBOX_CLIENT_SECRET", secret),
        ("SANDBOX_AUDITOR_CLIENT_ID", auditor_id),
        ("SANDBOX_AUDITOR_CLIENT_SECRET", auditor_secret),
        ("SANDBOX_GRAPH_URL", url("graph")),
        ("SANDBOX_SERVICEBUS_URL", url("servicebus")),
        ("SANDBOX_BLOB_URL", format!("{}/{}", url("blob"), blob::ACCOUNT)),
        ("SANDBOX_LOGS_URL", url("logs")),
        ("SANDBOX_EVENTGRID_URL", webhook),
        ("SANDBOX_API_URL", url("api")),
        ("SANDBOX_API_SCOPE", entra::API_SCOPE.to_owned()),
        ("SANDBOX_CONTROL_URL", url("control")),
        ("SANDBOX_CONTROL_TOKEN", control_token.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn a_host(world: &World, wanted: HostOptions, settings: &[(String, String)]) -> anyhow::Result<Host> {
    let mut all: BTreeMap<String, String> = settings.iter().cloned().collect();
    for (key, value) in wanted.settings {
        match value.is_empty() {
            true => all.remove(&key),
            false => all.insert(key, value),
        };
    }
    let mut config = HostConfig::read(&wanted.files, &all).map_err(|mistakes| anyhow!("the app cannot be hosted:\n{mistakes}"))?;
    if let Some(timeout) = wanted.function_timeout {
        config.function_timeout = timeout;
    }
    let program = Program {
        path: wanted.handler.unwrap_or_else(|| config.executable_path()),
        arguments: config.arguments.clone(),
        root: config.root.clone(),
        settings: all.into_iter().collect(),
        initialization_timeout: config.initialization_timeout,
        console: wanted.console,
    };
    let client = client::to_handler(config.http)?;
    Host::new(world.clone(), config, Worker::Process(Process::new(program, client)))
}
