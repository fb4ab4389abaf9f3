//! Cold start, memory, throughput and the way from an event to its delete, of the real program:
//! `cargo bench --bench handler`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use portcullis_sandbox::host::HostFiles;
use portcullis_sandbox::sandbox::{HostOptions, Sandbox, SandboxOptions};
use portcullis_sandbox::state::State;
use portcullis_sandbox::{entra, estate};
use serde_json::json;

const HANDLER: &str = env!("CARGO_BIN_EXE_portcullis-handler");
const STARTS: usize = 41;
const EVENTS: usize = 1_000;
const OPENINGS: usize = 100;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let sandbox = runtime.block_on(Sandbox::start(SandboxOptions::new(dir.path().join("starts"))))?;
    let (ready, invoked): (Vec<_>, Vec<_>) =
        (0..STARTS).map(|_| start(&sandbox.env)).collect::<anyhow::Result<Vec<_>>>()?.into_iter().unzip();
    println!("cold start, exec to the host's first poll answered: {}", quantiles(ready));
    println!("cold start, exec to the first invocation answered (token, TLS and store included): {}", quantiles(invoked));
    drop(sandbox);
    runtime.block_on(openings(dir.path()))?;
    runtime.block_on(events(dir.path()))
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let ms = |n: usize| times[n].as_secs_f64() * 1000.0;
    let (middle, high, last) = (times.len() / 2, times.len() * 99 / 100, times.len() - 1);
    format!(
        "median {:.1} ms, best {:.1} ms, 99th percentile {:.1} ms, worst {:.1} ms of {}",
        ms(middle),
        ms(0),
        ms(high),
        ms(last),
        times.len()
    )
}

/// A sandbox with the real handler whose time stands still.
async fn a_sandbox(dir: PathBuf, world: Option<State>) -> anyhow::Result<Sandbox> {
    let files = HostFiles::read(Path::new(env!("CARGO_MANIFEST_DIR"))).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
    let mut options = SandboxOptions::new(dir);
    options.world = world;
    options.host = Some(HostOptions::new(PathBuf::from(HANDLER), files));
    Sandbox::start(options).await
}

/// The JIT policy of the n-th subscription of a world.
fn policy(subscription: &str) -> String {
    let (group, location) = (estate::GROUP, estate::LOCATION);
    format!(
        "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Security/locations/{location}/jitNetworkAccessPolicies/default"
    )
}

/// Openings to the whole internet, one after the other: from each event's arrival until its rule's delete was accepted
/// and all that the event brought about is at rest.
async fn openings(dir: &Path) -> anyhow::Result<()> {
    let mut world = State::default();
    estate::large(&mut world, OPENINGS);
    // What Azure takes for itself is not what is measured.
    world.switches.initiating_seconds = 0;
    world.switches.operation_seconds = 0;
    let sandbox = a_sandbox(dir.join("openings"), Some(world)).await?;
    let http = sandbox.client()?;
    let mut times = Vec::new();
    for n in 1..=OPENINGS {
        let subscription = estate::numbered_subscription(1);
        let vm = estate::resource_id(&subscription, estate::GROUP, "Microsoft.Compute/virtualMachines", &format!("vm-0001-{n:03}"));
        let token = entra::mint(&sandbox.world.lock(), estate::ADMIN_OBJECT_ID, "https://management.azure.com");
        let end = (sandbox.now() + TimeDelta::hours(1)).to_rfc3339();
        let body =
            json!({"virtualMachines": [{"id": vm, "ports": [{"number": 22, "allowedSourceAddressPrefix": "*", "endTimeUtc": end}]}]});
        let url = format!("{}{}/initiate?api-version=2020-01-01", sandbox.url("arm"), policy(&subscription));
        let answer = http.post(url).bearer_auth(token.unwrap_or_default()).json(&body).send().await?;
        anyhow::ensure!(answer.status() == 202, "{}", answer.text().await?);
        let began = Instant::now();
        sandbox.engine.settle().await?;
        times.push(began.elapsed());
        let deletes =
            sandbox.world.lock().log.iter().filter(|entry| entry.what.ends_with("securityRules/delete") && entry.status < 300).count();
        anyhow::ensure!(deletes == n, "{deletes} deletes after {n} openings");
        // The next one is not within the minutes in which an event may be about this one, too.
        sandbox.engine.advance_by(TimeDelta::minutes(11)).await?;
    }
    println!("an opening to everybody, from its event's arrival until its delete was accepted and all is at rest: {}", quantiles(times));
    Ok(())
}

/// Starts the program once: the time to the first answer at all, and to the first invocation's.
fn start(env: &[(String, String)]) -> anyhow::Result<(Duration, Duration)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let began = Instant::now();
    let mut child = Killed(
        Command::new(HANDLER)
            .env_clear()
            .envs(env.iter().cloned())
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .stdout(Stdio::null())
            .spawn()?,
    );
    let ready = loop {
        if let Ok(answer) = ask(port, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") {
            anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            break began.elapsed();
        }
        anyhow::ensure!(child.0.try_wait()?.is_none() && began.elapsed() < Duration::from_secs(10), "the handler does not start");
        std::hint::spin_loop();
    };
    let body = json!({"Data": {"timer": {"Schedule": {}, "ScheduleStatus": null, "IsPastDue": false}}, "Metadata": {}}).to_string();
    let answer = ask(
        port,
        &format!(
            "POST /schedule HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200") && answer.contains("rows sent"), "{answer}");
    Ok((ready, began.elapsed()))
}

fn ask(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It is gone already if this fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Events at once: each is stored, passed on, and its policy read; then the memory that it took.
async fn events(dir: &Path) -> anyhow::Result<()> {
    let sandbox = a_sandbox(dir.join("events"), None).await?;
    let policy = policy(estate::SUBSCRIPTION);
    for _ in 0..EVENTS {
        let data = json!({"operationName": "Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action", "resourceUri": policy, "claims": {}});
        portcullis_sandbox::eventgrid::publish(&mut sandbox.world.lock(), "Action", &policy, data);
    }
    let began = Instant::now();
    sandbox.engine.settle().await?;
    let took = began.elapsed();
    let delivered = sandbox.world.lock().event_grid.delivered;
    anyhow::ensure!(delivered == EVENTS as u64, "{delivered} of {EVENTS} events were delivered");
    println!(
        "{EVENTS} events at once, each stored, passed on and its policy read, sandbox included: {:.2} s, {:.0} events a second",
        took.as_secs_f64(),
        EVENTS as f64 / took.as_secs_f64()
    );
    let pid = sandbox.host.as_ref().and_then(|host| host.process()).and_then(|process| process.pid());
    let pid = pid.ok_or_else(|| anyhow::anyhow!("the handler is down after {EVENTS} events"))?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    for (name, what) in [("VmHWM:", "most"), ("VmRSS:", "afterwards")] {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes: f64 = line.and_then(|rest| rest.split_whitespace().next()).unwrap_or_default().parse()?;
        println!("resident memory of the handler, {what}: {:.1} MB", kilobytes / 1024.0);
    }
    Ok(())
}
