//! `portcullis grant`, `close`, `grants`, `deadletter` and `doctor` against a running sandbox whose clock is moved while they wait.
//!
//! `portcullis-handler` must lie beside `portcullis`: `cargo build --workspace --bins` puts it there.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use chrono::TimeDelta;
use portcullis_sandbox::engine::Clock;
use portcullis_sandbox::host::HostFiles;
use portcullis_sandbox::sandbox::{HostOptions, Sandbox, SandboxOptions};
use portcullis_sandbox::state::{Message, State};
use portcullis_sandbox::{entra, estate, servicebus};
use serde_json::json;

const VM: &str = "5a4db0c5-0001-4000-8000-000000000001/rg-workload/web-1";

struct World {
    sandbox: Sandbox,
    dir: tempfile::TempDir,
}

impl World {
    /// The small estate with web-1 for development, under the shipped rules.
    async fn begin() -> World {
        let dir = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let policies = dir.path().join("policies");
        fs::create_dir(&policies).unwrap();
        for entry in fs::read_dir(root.join("policies")).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            fs::copy(entry.path(), policies.join(entry.file_name())).unwrap();
        }
        fs::copy(root.join("crates/tool/src/policies/people.yaml"), policies.join("people.yaml")).unwrap();
        let mut state = State::default();
        estate::small(&mut state);
        let id = estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Compute/virtualMachines", "web-1");
        state.resources.get_mut(&id).unwrap()["tags"] = json!({"environment": "development"});
        let handler = Path::new(env!("CARGO_BIN_EXE_portcullis")).with_file_name("portcullis-handler");
        let mut options = SandboxOptions::new(dir.path().join("sandbox"));
        options.world = Some(state);
        options.host = Some(HostOptions::new(handler, HostFiles::read(&root).unwrap()));
        options.clock = Clock::Standing;
        options.app_settings = vec![("PORTCULLIS_POLICIES".to_owned(), policies.display().to_string())];
        World { sandbox: Sandbox::start(options).await.unwrap(), dir }
    }

    fn token_of(&self, person: &str) -> String {
        entra::mint(&self.sandbox.world.lock(), person, "api://portcullis").unwrap()
    }

    /// Runs the command as this person, and moves the clock for as long as it waits.
    async fn ask(&self, person: &str, arguments: &[&str]) -> Output {
        self.ask_with(&self.token_of(person), self.sandbox.env("SANDBOX_API_URL"), arguments).await
    }

    async fn ask_with(&self, token: &str, url: &str, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(arguments).env("PORTCULLISCTL_URL", url).env("PORTCULLISCTL_TOKEN", token);
        command.env("SSL_CERT_FILE", self.dir.path().join("sandbox/ca.pem")).env("NO_COLOR", "1");
        let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let ended = running.wait_with_output();
        tokio::pin!(ended);
        loop {
            match tokio::time::timeout(Duration::from_millis(100), &mut ended).await {
                Ok(output) => return output.unwrap(),
                Err(_) => drop(self.sandbox.engine.advance_by(TimeDelta::seconds(5)).await.unwrap()),
            }
        }
    }
}

/// What a person reads, without what is another each time.
fn told(output: &Output) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let is_id = |word: &str| word.len() == 36 && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let is_time = |word: &str| word.starts_with("2026-01-15T") && word.ends_with('Z');
    let plain = |word: &str| match word {
        id if is_id(id) => "00000000-0000-4000-8000-000000000000".to_owned(),
        time if is_time(time) => "2026-01-15T00:00:00Z".to_owned(),
        _ => word.to_owned(),
    };
    text.lines().map(|line| line.split(' ').map(plain).collect::<Vec<_>>().join(" ").trim_end().to_owned() + "\n").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_opens_a_port_for_a_developer_sees_it_and_ends_it() {
    let world = World::begin().await;
    let dora = estate::DEVELOPER_UPN;
    let ask = ["grant", "web-1", "--port", "22", "--source", "203.0.113.4", "--for", "2h", "--person", dora, "--name", "Dora"];
    let opened = world.ask(estate::SECURITY_OBJECT_ID, &ask).await;
    assert_eq!(opened.status.code(), Some(0), "{}", told(&opened));
    let shown = world.ask(estate::SECURITY_OBJECT_ID, &["grants", "--vm", "web-1"]).await;
    let id =
        String::from_utf8_lossy(&shown.stdout).lines().nth(1).and_then(|row| row.split_whitespace().next().map(str::to_owned)).unwrap();
    let closed = world.ask(estate::SECURITY_OBJECT_ID, &["close", "web-1", "--grant", &id]).await;
    assert_eq!(closed.status.code(), Some(0), "{}", told(&closed));
    let none = world.ask(estate::SECURITY_OBJECT_ID, &["grants"]).await;
    insta::assert_snapshot!(format!("{}\n{}\n{}\n{}", told(&opened), told(&shown), told(&closed), told(&none)), @r"
    granted: rule developers-on-development permits it, for 8 h at most: Developers open machines tagged environment = development on working days
    open: port 22 of web-1 to 203.0.113.4 until 2026-01-15T00:00:00Z
    end it early with: portcullis close web-1 --grant 00000000-0000-4000-8000-000000000000

     GRANT                                 VM     PORT  SOURCES      FOR   UNTIL                 PHASE  RULE
     00000000-0000-4000-8000-000000000000  web-1  22    203.0.113.4  Dora  2026-01-15T00:00:00Z  open   developers-on-development

    ended: sam.security@sandbox.example ended it early
    shut: nothing that the grant allowed is open, seen twice

    nothing is granted
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_said_with_its_reason_and_ends_with_1() {
    let world = World::begin().await;
    let sam = world.token_of(estate::SECURITY_OBJECT_ID);
    let dora = world.token_of(estate::DEVELOPER_OBJECT_ID);
    let url = world.sandbox.env("SANDBOX_API_URL").to_owned();
    let grant = |more: &[&'static str]| [&["grant", VM, "--port", "22", "--source"], more].concat();
    let mut said = Vec::new();
    for (token, url, arguments) in [
        (&sam, url.as_str(), grant(&["203.0.113.4"])),
        (&sam, &url, grant(&["0.0.0.0/0"])),
        (&sam, &url, grant(&["203.0.113.4", "--for", "two hours"])),
        (&sam, &url, grant(&["203.0.113.4", "--person", "dora"])),
        (&sam, &url, vec!["close", VM, "--grant", "nothing"]),
        (&sam, &url, vec!["close", "web-9", "--grant", "nothing"]),
        (&sam, &url, vec!["grant", "web-9", "--port", "22", "--source", "203.0.113.4"]),
        (&sam, &url, vec!["grants", "--vm", "rg/web-1"]),
        (&dora, &url, grant(&["203.0.113.4"])),
        (&"nonsense".to_owned(), &url, grant(&["203.0.113.4"])),
        (&sam, "https://127.0.0.1:9", vec!["grants"]),
        (&sam, world.sandbox.env("SANDBOX_ARM_URL"), vec!["grants"]),
    ] {
        let output = world.ask_with(token, url, &arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", told(&output));
        said.push(told(&output).replace(url, "URL"));
    }
    insta::assert_snapshot!(said.concat(), @r#"
    refused: no rule permits it; rule developers-on-development came nearest, but this person is not one of `principal in Group::"developers"`
    portcullis: No rule can permit this: the sources * amount to the whole internet: name the addresses that need access.
    portcullis: --for two hours: write a duration such as 2h30m or PT2H30M
    portcullis: `person` is neither an object id nor a name to sign in with: give the GUID that Entra shows for the person, or their user principal name, such as ada@contoso.com.
    refused: there is no such grant: it is over, or never was
    portcullis: `vm`: nothing is granted or open on a machine web-9: check the name, or give SUBSCRIPTION/GROUP/NAME.
    portcullis: `vm`: no JIT policy of a governed subscription lists a machine web-9: check the name, or give SUBSCRIPTION/GROUP/NAME.
    portcullis: The parameter vm must be the ARM id of a VM, or SUBSCRIPTION/GROUP/NAME.
    portcullis: The access token does not carry the app role Operator: ask for it to be assigned.
    portcullis: The Authorization header holds no access token of Entra ID: send one for this API as `Authorization: Bearer …`.
    portcullis: URL does not answer: error sending request for url (URL/api/grants?limit=1000): client error (Connect): tcp connect error: Connection refused (os error 111)
    portcullis: The api-version query parameter (?api-version=) is required for all requests.
    "#);
}

/// Puts a message into a queue, or among its dead letters.
fn put(world: &World, queue: &str, body: &str, dead: bool) {
    let mut state = world.sandbox.world.lock();
    let now = state.now;
    let message = Message { body: body.to_owned(), enqueued_at: now, ..Message::default() };
    match dead {
        true => state.queues.get_mut(queue).unwrap().dead_letters.push(Message {
            sequence: 7,
            delivery_count: 10,
            dead_letter_reason: Some("MaxDeliveryCountExceeded".to_owned()),
            ..message
        }),
        false => assert!(servicebus::enqueue(&mut state, queue, message)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_to_no_end_is_listed_shown_and_sent_again() {
    let world = World::begin().await;
    let sam = estate::SECURITY_OBJECT_ID;
    let nothing = world.ask(sam, &["deadletter", "list"]).await;
    let id = estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.Compute/virtualMachines", "web-1");
    put(&world, "approval", &json!({"portcullis": {"kind": "look", "vm": id}}).to_string(), true);
    put(&world, "sweep", "{\"portcullis\": {\"kind\": \"dance\\u001b[2J\"}}", false);
    world.sandbox.engine.advance_by(TimeDelta::seconds(5)).await.unwrap();
    let mut said = vec![told(&nothing)];
    let listed = world.ask(sam, &["deadletter", "list"]).await;
    let set_aside = told(&listed).split_whitespace().find(|word| word.starts_with("rejected-")).unwrap().to_owned();
    said.push(told(&listed));
    for (arguments, code) in [
        (vec!["deadletter", "show", "approval-7"], 0),
        (vec!["deadletter", "show", &set_aside], 0),
        (vec!["deadletter", "show", "approval-8"], 1),
        (vec!["deadletter", "replay", &set_aside, "approval-8"], 1),
        (vec!["deadletter", "replay", "--all"], 0),
        (vec!["deadletter", "replay", "--all"], 0),
        (vec!["deadletter", "replay"], 2),
    ] {
        let output = world.ask(sam, &arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", told(&output));
        said.push(told(&output));
    }
    insta::assert_snapshot!("deadletters", said.join("\n---\n").replace(&set_aside, "rejected-0123456789abcdef"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_is_wrong_and_what_to_do() {
    let world = World::begin().await;
    let sam = estate::SECURITY_OBJECT_ID;
    let well = world.ask(sam, &["doctor"]).await;
    {
        let mut state = world.sandbox.world.lock();
        state.subscriptions[0].jit_plan = false;
        state.subscriptions[0].events = false;
    }
    put(&world, "approval", "{}", true);
    let ill = world.ask(sam, &["doctor", "--subscription", estate::SUBSCRIPTION]).await;
    assert_eq!((well.status.code(), ill.status.code()), (Some(0), Some(1)), "{}\n{}", told(&well), told(&ill));
    insta::assert_snapshot!("doctor", format!("{}\n---\n{}", told(&well), told(&ill)));
    let json = world.ask(sam, &["doctor", "--json"]).await;
    let answer: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(answer["checks"].as_array().unwrap().len() > 10, "{answer}");
    let nowhere = world.ask_with("none", "https://127.0.0.1:9", &["doctor"]).await;
    assert!(nowhere.status.code() == Some(1) && told(&nowhere).contains("the last line of its log"), "{}", told(&nowhere));
}
