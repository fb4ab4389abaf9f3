//! Cold start, memory and throughput of the real program: `cargo bench --bench handler`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_sandbox::estate;
use portcullis_sandbox::host::HostFiles;
use portcullis_sandbox::sandbox::{HostOptions, Sandbox, SandboxOptions};
use serde_json::json;

const HANDLER: &str = env!("CARGO_BIN_EXE_portcullis-handler");
const STARTS: usize = 41;
const EVENTS: usize = 1_000;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let sandbox = runtime.block_on(Sandbox::start(SandboxOptions::new(dir.path().join("starts"))))?;
    let (ready, invoked): (Vec<_>, Vec<_>) =
        (0..STARTS).map(|_| start(&sandbox.env)).collect::<anyhow::Result<Vec<_>>>()?.into_iter().unzip();
    println!("cold start, exec to the host's first poll answered: {}", quantiles(ready));
    println!("cold start, exec to the first invocation answered (token, TLS and store included): {}", quantiles(invoked));
    drop(sandbox);
    runtime.block_on(events(dir.path()))
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let ms = |n: usize| times[n].as_secs_f64() * 1000.0;
    format!("median {:.1} ms, best {:.1} ms, worst {:.1} ms of {}", ms(times.len() / 2), ms(0), ms(times.len() - 1), times.len())
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

/// Events at once: each is stored, passed on, and its policy read; then the memory that is left.
async fn events(dir: &Path) -> anyhow::Result<()> {
    let files = HostFiles::read(Path::new(env!("CARGO_MANIFEST_DIR"))).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
    let mut options = SandboxOptions::new(dir.join("events"));
    options.host = Some(HostOptions::new(PathBuf::from(HANDLER), files));
    let sandbox = Sandbox::start(options).await?;
    let policy = format!(
        "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Security/locations/{}/jitNetworkAccessPolicies/default",
        estate::SUBSCRIPTION,
        estate::GROUP,
        estate::LOCATION
    );
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
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.unwrap_or_default()))?;
    for (name, what) in [("VmHWM:", "most"), ("VmRSS:", "afterwards")] {
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|n| n.parse::<f64>().ok());
        println!("resident memory of the handler, {what}: {:.1} MB", kilobytes.unwrap_or_default() / 1024.0);
    }
    Ok(())
}
