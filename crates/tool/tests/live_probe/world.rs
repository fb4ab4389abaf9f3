//! A world whose time moves only while the probe waits.

use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use chrono::TimeDelta;
use portcullis_domain::arm_id::VmId;
use portcullis_sandbox::faults::{Effect, Fault};
use portcullis_sandbox::logs::{RULE_ID, STREAM};
use portcullis_sandbox::sandbox::{Sandbox, SandboxOptions};
use portcullis_sandbox::state::{Assignment, Incident, Principal, Queue, State};
use portcullis_sandbox::{entra, estate};
use portcullis_tool::live_probe::azure::Azure;
use portcullis_tool::live_probe::bus::Bus;
use portcullis_tool::live_probe::clock::Clock;
use portcullis_tool::live_probe::ingestion::Ingestion;
use portcullis_tool::live_probe::report::Report;
use portcullis_tool::live_probe::token::Token;
use portcullis_tool::live_probe::{ACTIONS, ACTIONS_FOR_EVENTS, ACTIONS_FOR_INCIDENTS, ACTIONS_FOR_LOGS, Probe};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// Who runs the probe: a person with its rights in the subscription and no others.
pub const PERSON: &str = "5a4db0c5-00b0-4000-8000-0000000000f1";
const ARM: &str = "https://management.azure.com";
/// Everything that a probe needs that is asked all there is to ask.
pub fn actions() -> impl Iterator<Item = &'static str> {
    ACTIONS.into_iter().chain(ACTIONS_FOR_EVENTS).chain(ACTIONS_FOR_INCIDENTS).chain(ACTIONS_FOR_LOGS)
}

/// A queue that nothing else uses.
pub fn queue() -> String {
    estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.ServiceBus/namespaces/bus/queues", "probe")
}

/// A running sandbox without a host, and what it began with.
pub struct World {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// Whether the probe has a VM alone, and neither queue, workspace nor ingestion endpoint.
    pub alone: bool,
    machines: Value,
    denied: Vec<String>,
    dir: tempfile::TempDir,
}

/// The id of a VM of the small estate.
pub fn vm(name: &str) -> String {
    estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Compute/virtualMachines", name)
}

/// The id of its JIT policy.
pub fn policy() -> String {
    let kind = format!("Microsoft.Security/locations/{}/jitNetworkAccessPolicies", estate::LOCATION);
    estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, &kind, "default")
}

/// Moves the world's time where the probe waits, and counts its waits.
struct Moved<'a> {
    sandbox: &'a Sandbox,
    waits: AtomicUsize,
    stop_at: Option<usize>,
    stop: Notify,
    change: Option<&'a (dyn Fn(&Sandbox) -> bool + Send + Sync)>,
}

impl<'a> Moved<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        Moved { sandbox, waits: AtomicUsize::new(0), stop_at: None, stop: Notify::new(), change: None }
    }
}

#[async_trait]
impl Clock for Moved<'_> {
    async fn pass(&self, span: TimeDelta) {
        if Some(self.waits.fetch_add(1, Ordering::Relaxed)) == self.stop_at {
            self.stop.notify_one();
            // The probe is stopped here and now.
            std::future::pending::<()>().await;
        }
        self.sandbox.engine.advance_by(span).await.unwrap();
        if let Some(change) = self.change {
            change(self.sandbox);
        }
    }
}

impl World {
    /// The small estate with something changed.
    pub async fn begin(change: impl FnOnce(&mut State)) -> World {
        let mut state = State::default();
        estate::small(&mut state);
        state.queues.insert("probe".to_owned(), Queue::default());
        let incident = incident(&state);
        state.workspaces[0].incidents.push(incident);
        let actions = actions().map(str::to_owned).collect();
        state.principals.push(Principal {
            object_id: PERSON.to_owned(),
            upn: "petra.probe@sandbox.example".to_owned(),
            name: "Petra Probe".to_owned(),
            assignments: vec![Assignment { scope: format!("/subscriptions/{}", estate::SUBSCRIPTION), actions }],
            ..Principal::default()
        });
        change(&mut state);
        let dir = tempfile::tempdir().unwrap();
        let mut options = SandboxOptions::new(dir.path().join("sandbox"));
        options.world = Some(state);
        let sandbox = Sandbox::start(options).await.unwrap();
        let (machines, denied) = {
            let state = sandbox.world.lock();
            (machines(&state), rules(&state, "Deny"))
        };
        World { sandbox, alone: false, machines, denied, dir }
    }

    /// Asks everything about web-1.
    pub async fn probe(&self) -> anyhow::Result<Report> {
        self.probe_with("web-1", Moved::new(&self.sandbox)).await
    }

    /// Asks everything about another VM.
    pub async fn probe_of(&self, name: &str) -> anyhow::Result<Report> {
        self.probe_with(name, Moved::new(&self.sandbox)).await
    }

    /// The same, stopped at its n-th wait.
    pub async fn probe_until(&self, n: usize) -> anyhow::Result<Report> {
        self.probe_with("web-1", Moved { stop_at: Some(n), ..Moved::new(&self.sandbox) }).await
    }

    /// The same, without time to put anything back.
    pub async fn probe_in_a_hurry(&self, n: usize) -> anyhow::Result<Report> {
        let moved = Moved { stop_at: Some(n), ..Moved::new(&self.sandbox) };
        let probe = self.prepared("web-1", &moved).await?;
        Ok(probe.run(moved.stop.notified(), std::future::ready(())).await)
    }

    /// The same, while somebody looks at the world after each wait and changes it.
    pub async fn probe_while(&self, change: impl Fn(&Sandbox) -> bool + Send + Sync) -> anyhow::Result<Report> {
        self.probe_with("web-1", Moved { change: Some(&change), ..Moved::new(&self.sandbox) }).await
    }

    /// How often it waits.
    pub async fn waits(&self) -> usize {
        let moved = Moved::new(&self.sandbox);
        self.probe_by("web-1", &moved).await.unwrap();
        moved.waits.into_inner()
    }

    /// The methods of its calls, in their order.
    pub async fn calls(&self) -> Vec<String> {
        self.faults(vec![Fault::new("arm", "*", "", Effect::Delay { milliseconds: 0 })]);
        self.probe().await.unwrap();
        self.sandbox.world.lock().met.iter().map(|met| met.method.clone()).collect()
    }

    /// Cuts the n-th call, or the n-th that is no GET.
    pub fn cuts(&self, what: &str, n: usize, effect: Effect) {
        let n = u32::try_from(n).unwrap();
        match what {
            "call" => self.faults(vec![Fault::new("arm", "*", "", effect).skip(n).times(1)]),
            _ => {
                // GETs meet a fault that changes nothing first.
                let read = Fault::new("arm", "GET", "", Effect::Delay { milliseconds: 0 });
                self.faults(vec![read, Fault::new("arm", "*", "", effect).skip(n).times(1)]);
            }
        }
    }

    fn faults(&self, faults: Vec<Fault>) {
        self.sandbox.world.lock().faults = faults;
    }

    async fn probe_with(&self, name: &str, moved: Moved<'_>) -> anyhow::Result<Report> {
        self.probe_by(name, &moved).await
    }

    async fn probe_by(&self, name: &str, moved: &Moved<'_>) -> anyhow::Result<Report> {
        let probe = self.prepared(name, moved).await?;
        Ok(probe.run(moved.stop.notified(), std::future::pending()).await)
    }

    async fn prepared<'a>(&self, name: &str, moved: &'a Moved<'_>) -> anyhow::Result<Probe<'a>> {
        let http = self.sandbox.client()?;
        let token = |audience| Token::of(Some(self.token(audience)), "X");
        let azure = Azure::new(http.clone(), self.sandbox.url("arm"), token(ARM), moved);
        let queue = queue().parse().map_err(anyhow::Error::msg)?;
        let bus = Bus::new(http.clone(), queue, self.sandbox.url("servicebus"), token("https://servicebus.azure.net"));
        let logs = Ingestion::new(http, self.sandbox.url("logs"), RULE_ID, STREAM, token("https://monitor.azure.com"));
        let probe = Probe::prepare(azure, &VmId::parse(&vm(name))?, &|_| {}).await?;
        if self.alone {
            return Ok(probe);
        }
        Ok(probe.with_queue(Some(bus)).with_ingestion(Some(logs)).with_workspace(Some(estate::workspace_id())))
    }

    fn token(&self, audience: &str) -> String {
        entra::mint(&self.sandbox.world.lock(), PERSON, audience).unwrap()
    }

    /// Runs the command itself.
    pub async fn command(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("live-probe").args(arguments).env("PORTCULLIS_ARM_TOKEN", self.token(ARM)).env("NO_COLOR", "1");
        if !arguments.contains(&"--arm-endpoint") {
            command.args(["--arm-endpoint", self.sandbox.url("arm")]);
        }
        command.env("SSL_CERT_FILE", self.dir.path().join("sandbox/ca.pem")).stdin(std::process::Stdio::null());
        command.output().await.unwrap()
    }

    /// Somebody else opens a port through JIT, and it is open.
    pub async fn opens(&self, name: &str, port: u16, source: &str) {
        let (end, token) = {
            let state = self.sandbox.world.lock();
            ((state.now + TimeDelta::hours(1)).to_rfc3339(), entra::mint(&state, estate::ADMIN_OBJECT_ID, ARM).unwrap())
        };
        let port = json!({"number": port, "allowedSourceAddressPrefix": source, "endTimeUtc": end});
        let body = json!({"virtualMachines": [{"id": vm(name), "ports": [port]}]});
        let url = format!("{}{}/initiate?api-version=2020-01-01", self.sandbox.url("arm"), policy());
        let answer = self.sandbox.client().unwrap().post(url).bearer_auth(token).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        self.sandbox.engine.advance_by(TimeDelta::minutes(1)).await.unwrap();
    }

    /// Holds that the policy is as it was, no rule that allows is left, and each that denies is there, and that the report says so.
    pub fn is_as_it_was(&self, report: &Report) {
        assert_eq!(report.left, Vec::<String>::new(), "{}", report.to_text());
        self.is_shut();
        let state = self.sandbox.world.lock();
        assert_eq!(machines(&state), self.machines);
        assert_eq!(state.event_grid.queues, []);
        // JIT may write some of its own when the policy is written.
        let denied = rules(&state, "Deny");
        assert!(self.denied.iter().all(|rule| denied.contains(rule)), "{denied:?}");
    }

    /// Holds that no rule that allows is left.
    pub fn is_shut(&self) {
        assert_eq!(rules(&self.sandbox.world.lock(), "Allow"), Vec::<String>::new());
    }
}

fn incident(state: &State) -> Incident {
    serde_json::from_value(json!({
        "id": "5a4db0c5-00b0-4000-8000-0000000000f7", "number": 7, "severity": "High", "status": "Active", "created": state.now,
    }))
    .unwrap()
}

/// The machines of the policy; ids may come back in the letters in which Azure gave them.
fn machines(state: &State) -> Value {
    let policy = state.resources.get(&policy());
    policy.map_or(Value::Null, |policy| policy["properties"]["virtualMachines"].to_string().to_ascii_lowercase().parse().unwrap())
}

fn rules(state: &State, access: &str) -> Vec<String> {
    let groups = state.resources.of_type("Microsoft.Network/networkSecurityGroups");
    let rules = groups.flat_map(|group| group["properties"]["securityRules"].as_array().into_iter().flatten());
    rules.filter(|rule| rule["properties"]["access"] == access).map(|rule| rule["id"].to_string()).collect()
}
