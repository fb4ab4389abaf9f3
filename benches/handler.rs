//! Cold start and the way from an event to its delete, one at a time, of the real program:
//! `make bench ONLY=handler`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use portcullis_sandbox::sandbox::{Sandbox, SandboxOptions};
use serde_json::json;

use crate::shared::{HANDLER, a_sandbox, an_estate, is_delete, opens, resident};

mod shared;

const STARTS: usize = 41;
const OPENINGS: u64 = 100;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let sandbox = runtime.block_on(Sandbox::start(SandboxOptions::new(dir.path().join("starts"))))?;
    let (ready, invoked): (Vec<_>, Vec<_>) =
        (0..STARTS).map(|_| start(&sandbox.env)).collect::<anyhow::Result<Vec<_>>>()?.into_iter().unzip();
    println!("cold start, exec to the host's first poll answered: {}", quantiles(ready));
    println!("cold start, exec to the first invocation answered (token, TLS and store included): {}", quantiles(invoked));
    drop(sandbox);
    runtime.block_on(openings(dir.path()))
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

/// Openings to the whole internet, one after the other: from each event's arrival until its rule's delete was accepted
/// and all that the event brought about is at rest.
async fn openings(dir: &Path) -> anyhow::Result<()> {
    let sandbox = a_sandbox(dir.join("openings"), an_estate(OPENINGS)?, Duration::ZERO).await?;
    let mut times = Vec::new();
    for n in 0..OPENINGS {
        opens(&sandbox, n).await?;
        let began = Instant::now();
        sandbox.engine.settle().await?;
        times.push(began.elapsed());
        let deletes = sandbox.world.lock().log.iter().filter(|entry| is_delete(entry)).count();
        anyhow::ensure!(deletes as u64 == n + 1, "{deletes} deletes after {} openings", n + 1);
        // The next one is not within the minutes in which an event may be about this one, too.
        sandbox.engine.advance_by(TimeDelta::minutes(11)).await?;
    }
    println!("an opening to everybody, from its event's arrival until its delete was accepted and all is at rest: {}", quantiles(times));
    println!("{}", resident(&sandbox)?);
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
