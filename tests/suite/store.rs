//! What the store needs of a Blob service, held against two: the sandbox, and a real Azurite.
//!
//! One suite runs against both. Trust in the sandbox's authority, which signs what Azurite shows too, comes from the
//! environment and a test does not change its own: the test starts itself again with the variables of the service.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use crate::judge::{Judge, node};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use portcullis::azure::blob::{Blobs, Create, Listed, Read, Remove, Replace};
use portcullis::azure::{Azure, FailureKind};
use portcullis::settings::Settings;
use portcullis::store::{AuditPlace, AuditsFound, Due, Held, Inbox, MARKER, Store, StoreError, VmIndex, Written};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::audit::{AuditKind, AuditRecord};
use portcullis_domain::behind::Behind;
use portcullis_domain::finding::Severity;
use portcullis_domain::record::{Claim, VmRecord};
use portcullis_domain::want::{Want, Wanter, What};
use portcullis_sandbox::sandbox::{STORE_MARKER_BODY, Sandbox, SandboxOptions};
use portcullis_sandbox::state::{Container, State};
use portcullis_sandbox::{entra, estate};
use serde_json::{Value, json};

/// Tells the process inside which test it plays.
const INSIDE: &str = "PLAYS_STORE_TEST";

/// A container that is no store: it has no marker.
const UNMARKED: &str = "unmarked";

/// Somebody's storage account in Azurite: the one that it always has (documentation).
const AZURITE_ACCOUNT: &str = "devstoreaccount1";

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_is_a_store() {
    let name = "the_sandbox_is_a_store";
    if let Some(settings) = inside(name) {
        return conforms(&settings).await;
    }
    let (sandbox, _dir) = a_sandbox().await;
    again(name, &sandbox, &[]).await.unwrap_or_else(|told| panic!("{told}"));
    assert!(blobs_in_the_sandbox(&sandbox) > 1, "the trial was of the sandbox");
}

#[tokio::test(flavor = "multi_thread")]
async fn azurite_is_a_store() {
    let name = "azurite_is_a_store";
    if let Some(settings) = inside(name) {
        return conforms(&settings).await;
    }
    let (sandbox, dir) = a_sandbox().await;
    let azurite = azurite(&sandbox, dir.path()).await;
    let endpoint = format!("{}/{AZURITE_ACCOUNT}", azurite.url);
    deploy(&sandbox, &endpoint).await;
    let outcome = again(name, &sandbox, &[("PORTCULLIS_BLOB_ENDPOINT", &endpoint)]).await;
    outcome.unwrap_or_else(|told| panic!("{told}\nAzurite said:\n{}", azurite.said()));
    assert_eq!(blobs_in_the_sandbox(&sandbox), 1, "the trial was of Azurite: the sandbox has the marker alone");
}

fn blobs_in_the_sandbox(sandbox: &Sandbox) -> usize {
    sandbox.world.lock().containers.values().map(|container| container.blobs.len()).sum()
}

/// The settings, if this process is the one that plays this test inside.
#[expect(clippy::disallowed_methods, reason = "the part inside reads the service's settings as the handler does")]
fn inside(name: &str) -> Option<Settings> {
    if std::env::var(INSIDE).as_deref() != Ok(name) {
        return None;
    }
    let settings = Settings::from_lookup(|name| std::env::var(name).ok(), std::env::vars().map(|(name, _)| name));
    let settings = settings.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(settings.loopback());
    Some(settings)
}

/// A trial makes some hundred calls; a machine that is busy with a build takes a multiple.
const ENDS_WITHIN: Duration = Duration::from_secs(180);

/// Runs the test again in the sandbox's environment with these variables changed; gives what it said if it failed.
async fn again(name: &str, sandbox: &Sandbox, changed: &[(&str, &str)]) -> Result<(), String> {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.args([&format!("store::{name}"), "--exact", "--nocapture", "--test-threads=1"]).kill_on_drop(true);
    command.env_clear().envs(sandbox.env.iter().cloned()).envs(changed.iter().copied()).env(INSIDE, name);
    let output = tokio::time::timeout(ENDS_WITHIN, command.output()).await;
    let output = output.map_err(|_| format!("{name} did not end within {ENDS_WITHIN:?}"))?.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    let passed = output.status.success() && told.contains("1 passed");
    if passed { Ok(()) } else { Err(format!("{told}\n{wrong}")) }
}

/// A sandbox whose lists come in pages of two, beside what a deployment makes a container without a marker.
async fn a_sandbox() -> (Sandbox, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::default();
    estate::small(&mut state);
    state.switches.page_size = 2;
    state.containers.insert(UNMARKED.to_owned(), Container::default());
    let mut options = SandboxOptions::new(dir.path());
    options.world = Some(state);
    (Sandbox::start(options).await.unwrap(), dir)
}

/// Azurite in https, with tokens of the sandbox's Entra ID.
async fn azurite(sandbox: &Sandbox, dir: &Path) -> Judge {
    let (certificate, key) = (dir.join("leaf.pem"), dir.join("leaf.key"));
    std::fs::write(&certificate, sandbox.tls.leaf_pem()).unwrap();
    std::fs::write(&key, sandbox.tls.leaf_key_pem()).unwrap();
    let mut command = node("node_modules/azurite/dist/src/blob/main.js");
    command.args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--oauth", "basic", "--inMemoryPersistence"]);
    command.args(["--silent", "--disableTelemetry", "--skipApiVersionCheck"]);
    command.arg("--cert").arg(certificate).arg("--key").arg(key);
    Judge::start("Azurite", command).await
}

/// Makes what a deployment makes: the containers, and the marker in the store's.
async fn deploy(sandbox: &Sandbox, endpoint: &str) {
    let token = entra::mint(&sandbox.world.lock(), estate::PRODUCT_OBJECT_ID, "https://storage.azure.com").unwrap();
    let http = sandbox.client().unwrap();
    let put = |path: &str, body: &'static str| {
        let request = http.put(format!("{endpoint}/{path}")).bearer_auth(&token).header("x-ms-version", "2021-12-02");
        request.header("x-ms-blob-type", "BlockBlob").body(body).send()
    };
    for container in ["state", "audit", UNMARKED] {
        let answer = put(&format!("{container}?restype=container"), "").await.unwrap();
        assert_eq!(answer.status(), 201, "{container}: {}", answer.text().await.unwrap());
    }
    let answer = put(&format!("state/{MARKER}"), STORE_MARKER_BODY).await.unwrap();
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
}

/// A Blob service under trial.
struct Trial {
    blobs: Blobs,
    store: Store,
    container: String,
    audit: String,
}

/// The suite: everything that the store promises, by what it needs of the service.
async fn conforms(settings: &Settings) {
    let azure = Azure::new(settings);
    let (container, audit) = (settings.state_container.clone(), settings.audit_container.clone());
    let store = Store::new(azure.blobs.clone(), &container, &audit);
    let trial = Trial { blobs: azure.blobs, store, container, audit };
    trial.a_blob_is_created_once().await;
    trial.of_many_creators_one_creates().await;
    trial.only_what_was_read_is_replaced().await;
    trial.only_what_was_read_is_deleted().await;
    trial.names_of_any_characters_are_kept_apart().await;
    trial.a_prefix_is_listed_in_order_and_in_pages().await;
    trial.no_update_of_racing_writers_is_lost().await;
    trial.a_blob_may_be_big_or_empty().await;
    trial.every_answer_tells_the_time_and_it_never_goes_back().await;
    trial.a_missing_container_is_told_from_a_missing_blob().await;
    trial.a_store_without_its_marker_is_none().await;
    trial.a_record_is_saved_over_what_was_read().await;
    trial.due_entries_come_in_the_order_of_time().await;
    trial.the_index_of_what_is_open_keeps_one_entry_a_vm().await;
    trial.claims_are_left_once_and_taken_out().await;
    trial.events_and_rejects_are_kept_as_they_first_came().await;
    trial.an_audit_record_is_written_once_and_unsent_until_its_receipt().await;
    trial.an_entry_without_its_audit_record_is_forgotten_only_when_it_is_old().await;
    trial.vms_are_looked_through_a_few_at_a_time().await;
    trial.the_newest_audit_records_come_first().await;
    trial.documents_of_the_service_are_replaced_as_read().await;
}

impl Trial {
    async fn create(&self, name: &str, body: &str) -> Create {
        self.blobs.create(&self.container, name, Bytes::from(body.to_owned())).await.unwrap()
    }

    async fn created(&self, name: &str, body: &str) -> String {
        match self.create(name, body).await {
            Create::Created { etag, .. } => etag,
            Create::Exists { .. } => panic!("{name} was there"),
        }
    }

    async fn replace(&self, name: &str, body: &str, etag: &str) -> Replace {
        self.blobs.replace(&self.container, name, Bytes::from(body.to_owned()), etag).await.unwrap()
    }

    async fn delete(&self, name: &str, etag: Option<&str>) -> Remove {
        self.blobs.delete(&self.container, name, etag).await.unwrap()
    }

    async fn read(&self, name: &str) -> Option<(Bytes, String)> {
        match self.blobs.get(&self.container, name).await.unwrap() {
            Read::Found { body, etag, .. } => Some((body, etag)),
            Read::Missing { .. } => None,
        }
    }

    async fn text(&self, name: &str) -> String {
        let (body, _) = self.read(name).await.unwrap_or_else(|| panic!("{name} is missing"));
        String::from_utf8(body.to_vec()).unwrap()
    }

    /// The pages of a list.
    async fn pages(&self, prefix: &str, page: usize) -> Vec<Vec<Listed>> {
        let mut pages = Vec::new();
        let each = |page| {
            pages.push(page);
            ControlFlow::Continue(())
        };
        self.blobs.list(&self.container, prefix, page, each).await.unwrap();
        pages
    }

    async fn names(&self, prefix: &str) -> Vec<String> {
        self.pages(prefix, 5000).await.into_iter().flatten().map(|listed| listed.name).collect()
    }

    async fn a_blob_is_created_once(&self) {
        self.created("once/a", "1").await;
        assert!(matches!(self.create("once/a", "2").await, Create::Exists { .. }));
        assert_eq!(self.text("once/a").await, "1");
    }

    async fn of_many_creators_one_creates(&self) {
        let creators: Vec<_> = (0..8)
            .map(|n| {
                let (blobs, container) = (self.blobs.clone(), self.container.clone());
                tokio::spawn(async move { blobs.create(&container, "once/raced", Bytes::from(n.to_string())).await.unwrap() })
            })
            .collect();
        let mut winners = Vec::new();
        for (n, creator) in creators.into_iter().enumerate() {
            if let Create::Created { etag, .. } = creator.await.unwrap() {
                winners.push((Bytes::from(n.to_string()), etag));
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(self.read("once/raced").await.as_ref(), winners.first());
    }

    async fn only_what_was_read_is_replaced(&self) {
        let first = self.created("replace/a", "1").await;
        let Replace::Replaced { etag: second, .. } = self.replace("replace/a", "2", &first).await else { panic!("it is what was read") };
        assert_ne!(first, second);
        assert!(matches!(self.replace("replace/a", "3", &first).await, Replace::Changed { .. }));
        assert_eq!(self.read("replace/a").await, Some((Bytes::from("2"), second.clone())));
        let Replace::Replaced { etag: same, .. } = self.replace("replace/a", "2", &second).await else { panic!("it is what was read") };
        assert_ne!(second, same, "the same content is another version");
        assert!(matches!(self.replace("replace/none", "1", &first).await, Replace::Changed { .. }));
        assert_eq!(self.read("replace/none").await, None, "what is missing is not made");
        self.delete("replace/a", None).await;
        assert!(matches!(self.replace("replace/a", "4", &same).await, Replace::Changed { .. }), "what was deleted is not made again");
        assert_eq!(self.read("replace/a").await, None);
    }

    async fn only_what_was_read_is_deleted(&self) {
        let first = self.created("delete/a", "1").await;
        self.replace("delete/a", "2", &first).await;
        assert!(matches!(self.delete("delete/a", Some(&first)).await, Remove::Changed { .. }));
        let (_, second) = self.read("delete/a").await.expect("it was left");
        let listed = self.pages("delete/", 10).await.concat();
        let [Listed { name, etag, .. }] = listed.as_slice() else { panic!("{listed:?}") };
        assert_eq!((name.as_str(), etag.as_ref()), ("delete/a", Some(&second)), "a list tells the version that a condition takes");
        assert!(matches!(self.delete("delete/a", Some(&second)).await, Remove::Deleted { .. }));
        assert!(matches!(self.delete("delete/a", None).await, Remove::Missing { .. }));
        assert!(matches!(self.delete("delete/a", Some(&second)).await, Remove::Missing { .. } | Remove::Changed { .. }));
        self.created("delete/b", "1").await;
        assert!(matches!(self.delete("delete/b", None).await, Remove::Deleted { .. }), "without a condition any version goes");
        assert_eq!(self.names("delete/").await, Vec::<String>::new());
    }

    async fn names_of_any_characters_are_kept_apart(&self) {
        let odd = [
            "a b",
            "a+b",
            "a%20b",
            "a%2Bb",
            "100%",
            "#1",
            "?q=1&r",
            "(prod)",
            "[x]{y}",
            "it's",
            "\"quoted\"",
            "<&>",
            "a:b;c,d",
            "=@$!*~",
            "ümläut",
            "日本語",
            "🚪",
            "a|b^c`d",
            "UPPER",
            "upper",
            "-",
            "_",
            "with.dot",
            "deep/er/name",
        ];
        for name in odd {
            self.created(&format!("odd/{name}"), &format!("{{\"n\":{}}}", json!(name))).await;
        }
        for name in odd {
            let whole = format!("odd/{name}");
            assert_eq!(self.text(&whole).await, format!("{{\"n\":{}}}", json!(name)));
            assert!(self.names(&whole).await.contains(&whole), "{whole} is listed by its own name as a prefix");
        }
        let listed: BTreeSet<String> = self.names("odd/").await.into_iter().collect();
        assert_eq!(listed, odd.iter().map(|name| format!("odd/{name}")).collect());
        for name in odd {
            assert!(matches!(self.delete(&format!("odd/{name}"), None).await, Remove::Deleted { .. }), "{name}");
        }
        assert_eq!(self.names("odd/").await, Vec::<String>::new());
    }

    async fn a_prefix_is_listed_in_order_and_in_pages(&self) {
        let mut names: Vec<String> =
            ["b/2", "a/10", "a/2", "a/1/x", "a", "a-b", "ab", "b/1", "c", "a/1"].map(|name| format!("list/{name}")).into();
        for name in &names {
            self.created(name, "{}").await;
        }
        self.created("listed", "{}").await;
        names.sort();
        for page in [1, 3, 5000] {
            let pages = self.pages("list/", page).await;
            assert!(pages.iter().all(|listed| listed.len() <= page), "{page}: {pages:?}");
            assert_eq!(pages.concat().into_iter().map(|listed| listed.name).collect::<Vec<_>>(), names, "{page}");
        }
        assert_eq!(self.names("list/a/").await, ["list/a/1", "list/a/1/x", "list/a/10", "list/a/2"]);
        assert_eq!(self.names("list/none").await, Vec::<String>::new());
        let mut seen = 0;
        let each = |page: Vec<Listed>| {
            seen += page.len();
            ControlFlow::Break(())
        };
        self.blobs.list(&self.container, "list/", 1, each).await.unwrap();
        assert_eq!(seen, 1, "a list ends when nobody wants more");
    }

    async fn no_update_of_racing_writers_is_lost(&self) {
        const WRITERS: usize = 8;
        const UPDATES: usize = 10;
        self.created("race", "0").await;
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let (blobs, container) = (self.blobs.clone(), self.container.clone());
                tokio::spawn(async move {
                    let mut made = Vec::new();
                    for _ in 0..UPDATES {
                        made.push(increment(&blobs, &container).await);
                    }
                    made
                })
            })
            .collect();
        let mut made = BTreeSet::new();
        for writer in writers {
            made.extend(writer.await.unwrap());
        }
        assert_eq!(self.text("race").await, (WRITERS * UPDATES).to_string());
        assert_eq!(made.len(), WRITERS * UPDATES, "every update has a version of its own");
    }

    async fn a_blob_may_be_big_or_empty(&self) {
        let big: Vec<u8> = (0..3 * 1024 * 1024_u32).map(|n| b'a' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 26).collect();
        let big = Bytes::from(big);
        let Create::Created { etag, .. } = self.blobs.create(&self.container, "size/big", big.clone()).await.unwrap() else {
            panic!("it was not there")
        };
        assert!(self.read("size/big").await == Some((big.clone(), etag.clone())), "3 MB come back as they went");
        assert!(matches!(self.blobs.replace(&self.container, "size/big", big, &etag).await.unwrap(), Replace::Replaced { .. }));
        let etag = self.created("size/empty", "").await;
        assert_eq!(self.read("size/empty").await, Some((Bytes::new(), etag)));
    }

    async fn every_answer_tells_the_time_and_it_never_goes_back(&self) {
        let (c, body) = (self.container.as_str(), || Bytes::from("{}"));
        let mut dates = vec![self.store.check().await.unwrap()];
        let etag = match self.blobs.create(c, "date", body()).await.unwrap() {
            Create::Created { etag, date } => {
                dates.push(date);
                etag
            }
            Create::Exists { .. } => panic!("it was not there"),
        };
        let (Create::Created { date, .. } | Create::Exists { date }) = self.blobs.create(c, "date", body()).await.unwrap();
        dates.push(date);
        for name in ["date", "date/none"] {
            let (Read::Found { date, .. } | Read::Missing { date }) = self.blobs.get(c, name).await.unwrap();
            dates.push(date);
        }
        for etag in [etag.as_str(), "\"0x1\""] {
            let (Replace::Replaced { date, .. } | Replace::Changed { date }) = self.blobs.replace(c, "date", body(), etag).await.unwrap();
            dates.push(date);
        }
        dates.push(self.blobs.list(c, "date", 1, |_| ControlFlow::Continue(())).await.unwrap());
        for etag in [Some("\"0x1\""), None, None] {
            let (Remove::Deleted { date } | Remove::Changed { date } | Remove::Missing { date }) =
                self.blobs.delete(c, "date", etag).await.unwrap();
            dates.push(date);
        }
        assert_eq!(dates.len(), 11);
        assert!(dates.is_sorted(), "{dates:?}");
        assert!(dates[0] > "2026-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap(), "{dates:?}");
    }

    async fn a_missing_container_is_told_from_a_missing_blob(&self) {
        let body = Bytes::from("{}");
        let failures = [
            self.blobs.get("nowhere", "x").await.unwrap_err(),
            self.blobs.create("nowhere", "x", body.clone()).await.unwrap_err(),
            self.blobs.replace("nowhere", "x", body, "\"0x1\"").await.unwrap_err(),
            self.blobs.delete("nowhere", "x", None).await.unwrap_err(),
            self.blobs.list("nowhere", "", 1, |_| ControlFlow::Continue(())).await.unwrap_err(),
        ];
        for failed in failures {
            assert_eq!((failed.kind, failed.is_missing_container()), (FailureKind::NotFound, true), "{failed}");
        }
        assert_eq!(self.read("missing").await, None);
    }

    async fn a_store_without_its_marker_is_none(&self) {
        self.store.check().await.unwrap();
        for container in [UNMARKED, "nowhere"] {
            let store = Store::new(self.blobs.clone(), container, &self.audit);
            assert_eq!(store.check().await, Err(StoreError::Unmarked(container.to_owned())));
        }
        let store = Store::new(self.blobs.clone(), UNMARKED, &self.audit);
        let new = store.vm(&vm("web-1")).await.map(|held| held.document);
        assert_eq!(new, Err(StoreError::Unmarked(UNMARKED.to_owned())), "an emptied store is not a new estate");
    }

    async fn a_record_is_saved_over_what_was_read(&self) {
        let vm = vm("Web (1)");
        let Held { document: mut record, etag, .. } = self.store.vm(&vm).await.unwrap();
        assert_eq!((&record, &etag), (&VmRecord::new(vm.clone()), &None));
        record.serial = 1;
        let Written::Done { etag: first, .. } = self.store.save_vm(&record, None).await.unwrap() else { panic!("nobody else wrote") };
        assert_eq!(self.store.save_vm(&record, None).await.unwrap(), Written::Lost, "a second first write is lost");
        record.serial = 2;
        let Written::Done { etag: second, .. } = self.store.save_vm(&record, Some(&first)).await.unwrap() else {
            panic!("nobody else wrote")
        };
        record.serial = 3;
        assert_eq!(self.store.save_vm(&record, Some(&first)).await.unwrap(), Written::Lost);
        let other_case = VmId::parse(&vm.to_string().to_uppercase().replace("/SUBSCRIPTIONS/", "/subscriptions/")).unwrap();
        let held = self.store.vm(&other_case).await.unwrap();
        assert_eq!((held.document.serial, held.etag), (2, Some(second)), "a VM is one in every letter case");
        let other = self::vm("web-2");
        self.store.save_vm(&VmRecord::new(other.clone()), None).await.unwrap();
        assert_eq!(self.store.list_vms("").await.unwrap(), [vm, other.clone()]);
        assert_eq!(self.store.list_vms(&other.key()).await.unwrap(), [other]);
    }

    async fn due_entries_come_in_the_order_of_time(&self) {
        let now: DateTime<Utc> = "2026-01-15T09:59:59Z".parse().unwrap();
        let due = |minutes: i64, name: &str| Due { at: now + TimeDelta::minutes(minutes), vm: vm(name), run: "0a1b".to_owned() };
        let all = [due(5, "late"), due(-600, "b"), due(0, "now"), due(-600, "a"), due(-1, "a")];
        for due in all.iter().chain(&all) {
            self.store.put_due(due).await.unwrap();
        }
        let up_to_now = [due(-600, "a"), due(-600, "b"), due(-1, "a"), due(0, "now")];
        assert_eq!(self.store.list_due(now, 100, |_| true).await.unwrap(), up_to_now);
        assert_eq!(self.store.list_due(now, 3, |_| true).await.unwrap(), up_to_now[..3]);
        let counts = |vm: &VmId| *vm != up_to_now[0].vm;
        assert_eq!(self.store.list_due(now, 1, counts).await.unwrap(), up_to_now[1..2], "what does not count keeps nothing out");
        assert_eq!(self.store.list_due(now - TimeDelta::days(1), 100, |_| true).await.unwrap(), []);
        for due in up_to_now.iter().chain(&up_to_now) {
            self.store.remove_due(due).await.unwrap();
        }
        assert_eq!(self.store.list_due(now + TimeDelta::days(1), 100, |_| true).await.unwrap(), [due(5, "late")]);
    }

    async fn the_index_of_what_is_open_keeps_one_entry_a_vm(&self) {
        let (one, other) = (vm("web-1"), vm("web-10"));
        for (vm, fingerprint) in [(&one, "f1"), (&one, "f2"), (&one, "f2"), (&other, "f3")] {
            self.store.put_open(vm, fingerprint, "a").await.unwrap();
        }
        let entry = |vm: &VmId, fingerprint: &str| (vm.clone(), fingerprint.to_owned());
        assert_eq!(self.store.list_open("").await.unwrap(), [entry(&one, "f1"), entry(&one, "f2"), entry(&other, "f3")]);
        assert_eq!(self.store.list_open(&format!("{}/", one.subscription())).await.unwrap().len(), 3);
        assert_eq!(self.store.list_open("another").await.unwrap(), []);
        let outdated = self.store.outdated_open(&one, Some("f2")).await.unwrap();
        // Another run sees what was there before.
        for fingerprint in ["f1", "f4"] {
            self.store.put_open(&one, fingerprint, "b").await.unwrap();
        }
        for _ in 0..2 {
            for name in &outdated {
                self.store.remove(name).await.unwrap();
            }
        }
        let left = [entry(&one, "f1"), entry(&one, "f2"), entry(&one, "f4"), entry(&other, "f3")];
        assert_eq!(self.store.list_open("").await.unwrap(), left, "what was entered meanwhile stays");
        for name in self.store.outdated_open(&one, None).await.unwrap() {
            self.store.remove(&name).await.unwrap();
        }
        assert_eq!(self.store.list_open("").await.unwrap(), [entry(&other, "f3")], "web-10 is not web-1");
    }

    async fn claims_are_left_once_and_taken_out(&self) {
        let vm = vm("db-1");
        let claim = |event: &str, name: &str| Claim {
            event: event.to_owned(),
            at: "2026-01-15T09:00:00.1234567Z".parse().unwrap(),
            object_id: estate::RESPONDER_OBJECT_ID.to_owned(),
            name: name.to_owned(),
            operation: "initiate".to_owned(),
            apart_seconds: None,
        };
        for (event, name) in [("e2", "Rosa"), ("e1", "Ädä 🚪"), ("e3", "x"), ("e2", "somebody else")] {
            self.store.leave_claim(&vm, &claim(event, name)).await.unwrap();
        }
        let inbox = self.store.inbox(&vm, 3).await.unwrap();
        let claims = |inbox: &Inbox| inbox.claims.iter().map(|(_, claim)| claim.clone()).collect::<Vec<_>>();
        assert_eq!(claims(&inbox), [claim("e1", "Ädä 🚪"), claim("e2", "Rosa"), claim("e3", "x")]);
        assert!(!inbox.more);
        let two = self.store.inbox(&vm, 2).await.unwrap();
        assert_eq!((two.claims.len(), two.more), (2, true));
        // However many events anybody sends, a wish comes first.
        let by = Wanter { id: "p".to_owned(), name: String::new() };
        let want = Want { id: "ffff".to_owned(), at: claim("e1", "x").at, vm: vm.clone(), by, what: What::Close { grant: "g".to_owned() } };
        self.store.leave_want(&want).await.unwrap();
        let first = self.store.inbox(&vm, 1).await.unwrap();
        assert_eq!((first.wants.len(), first.claims.len(), first.more), (1, 0, true));
        self.store.remove(&first.wants[0].0).await.unwrap();
        assert_eq!(self.store.inbox(&self::vm("db-10"), 3).await.unwrap(), Inbox::default(), "another VM's inbox");
        for (name, _) in inbox.claims.iter().chain(&inbox.claims) {
            self.store.remove(name).await.unwrap();
        }
        assert_eq!(self.store.inbox(&vm, 3).await.unwrap(), Inbox::default());
        let name = format!("inbox/{}/odd", vm.key());
        self.created(&name, "not a claim").await;
        let odd = self.store.inbox(&vm, 3).await.unwrap();
        assert_eq!((odd.claims.len(), odd.unreadable.len(), odd.unreadable[0].0.as_str()), (0, 1, name.as_str()));
        assert_eq!(self.store.text(&name).await.unwrap(), "not a claim");
        self.store.remove(&name).await.unwrap();
        assert_eq!(self.store.text(&name).await.unwrap(), "");
    }

    async fn events_and_rejects_are_kept_as_they_first_came(&self) {
        self.store.keep_event("e1", &json!({"n": 1})).await.unwrap();
        self.store.keep_event("e1", &json!({"n": 2})).await.unwrap();
        let held = self.store.event::<Value>("e1").await.unwrap().expect("it was kept");
        assert_eq!(held.document, json!({"n": 1}));
        assert!(self.store.event::<Value>("e2").await.unwrap().is_none());
        self.store.reject("r1", &json!({"body": "\u{fffd}"})).await.unwrap();
        self.store.reject("r1", &json!({"body": "other"})).await.unwrap();
        assert_eq!(self.text("rejected/r1.json").await, json!({"body": "\u{fffd}"}).to_string());
        self.created("events/broken.json", "{").await;
        let told = self.store.event::<Value>("broken").await.map(|_| ()).unwrap_err();
        assert!(matches!(told, StoreError::Unreadable { ref name, .. } if name == "events/broken.json"), "{told}");
    }

    async fn an_audit_record_is_written_once_and_unsent_until_its_receipt(&self) {
        let (one, other) = (vm("web-1"), vm("web-2"));
        let audit = |vm: &VmId, attempt: u32, why: &str| AuditRecord {
            id: AuditRecord::effect_id(vm, 3389, attempt),
            at: "2026-01-15T09:00:00Z".parse().unwrap(),
            kind: AuditKind::Close,
            vm: Some(vm.clone()),
            port: Some(3389),
            sources: None,
            about: None,
            code: "any-source".to_owned(),
            severity: Severity::High,
            what: "deletes".to_owned(),
            why: why.to_owned(),
            attempt: Some(attempt),
            grant: None,
            rule: None,
            person: None,
            person_id: None,
            decision: None,
            behind: Behind::default(),
        };
        let all = [audit(&one, 2, "second"), audit(&one, 1, "first"), audit(&other, 1, "other")];
        for audit in &all {
            self.store.write_audit(audit).await.unwrap();
        }
        assert_eq!(self.store.write_audit(&audit(&one, 1, "rewritten")).await.unwrap(), None);
        for audit in &all {
            assert_eq!(self.store.audit(&audit.id).await.unwrap().as_ref(), Some(audit), "what is written stays");
        }
        assert_eq!(self.store.audit("none").await.unwrap(), None);
        let again = AuditRecord { at: all[1].at + TimeDelta::minutes(1), ..audit(&one, 1, "counted before its record was lost") };
        for _ in 0..2 {
            let apart = self.store.write_audit(&again).await.unwrap().unwrap();
            assert_eq!((apart.id.strip_prefix(&*again.id).map(str::len), &apart.why), (Some(9), &again.why));
            assert_eq!(self.store.audit(&apart.id).await.unwrap(), Some(apart.clone()));
            assert!(self.store.is_unsent(&apart.id).await.unwrap());
        }
        let apart = again.apart();
        assert_eq!(self.store.list_audits(&AuditRecord::prefix(&one), 10).await.unwrap(), [&*apart.id, &*all[1].id, &*all[0].id]);
        assert_eq!(self.store.list_audits("", 10).await.unwrap().len(), 4);
        assert_eq!(self.store.list_audits("", 2).await.unwrap().len(), 2);

        let mut unsent: Vec<String> = all.iter().chain([&apart]).map(|audit| audit.id.clone()).collect();
        unsent.sort();
        assert_eq!(self.store.list_unsent(10).await.unwrap(), unsent);
        assert_eq!(self.store.list_unsent(1).await.unwrap(), unsent[..1]);
        assert!(self.store.is_unsent(&unsent[0]).await.unwrap());
        for _ in 0..2 {
            self.store.mark_sent(&unsent[0]).await.unwrap();
        }
        assert!(!self.store.is_unsent(&unsent[0]).await.unwrap());
        assert_eq!(self.store.list_unsent(10).await.unwrap(), unsent[1..]);
        self.store.write_audit(all.iter().find(|audit| audit.id == unsent[0]).unwrap()).await.unwrap();
        assert_eq!(
            self.store.list_unsent(10).await.unwrap(),
            unsent,
            "a run that is repeated owes the row again: a row may come twice, never not at all"
        );
    }

    async fn an_entry_without_its_audit_record_is_forgotten_only_when_it_is_old(&self) {
        let now = self.store.check().await.unwrap();
        for (id, age, is_forgotten) in [("new", TimeDelta::zero(), false), ("old", TimeDelta::hours(1), true)] {
            self.created(&format!("unsent/{id}"), &json!({"at": now - age}).to_string()).await;
            assert_eq!(self.store.forget_unwritten(id).await.unwrap(), is_forgotten, "{id}");
            assert_eq!(self.read(&format!("unsent/{id}")).await.is_none(), is_forgotten, "{id}");
        }
        assert!(self.store.forget_unwritten("never").await.unwrap());
    }

    async fn vms_are_looked_through_a_few_at_a_time(&self) {
        let vms = ["walk-1", "walk-10", "walk-2", "walk", "walk.3"].map(vm);
        for vm in &vms {
            self.store.save_vm(&VmRecord::new(vm.clone()), None).await.unwrap();
            self.store.put_open(vm, "f1", "a").await.unwrap();
            self.store.put_open(vm, "f2", "a").await.unwrap();
        }
        for index in [VmIndex::Remembered, VmIndex::Unresting] {
            let all = self.store.vms_after(index, None, None, 100).await.unwrap();
            assert!(vms.iter().all(|vm| all.contains(vm)), "{all:?}");
            assert_eq!(all.iter().map(VmId::key).collect::<BTreeSet<_>>().len(), all.len(), "each once: {all:?}");
            assert_eq!(self.store.vms_after(index, Some(&vms[0].subscription()), None, 100).await.unwrap(), all);
            assert_eq!(self.store.vms_after(index, Some("another"), None, 100).await.unwrap(), []);
            let mut walked: Vec<VmId> = Vec::new();
            loop {
                let few = self.store.vms_after(index, None, walked.last(), 2).await.unwrap();
                assert!(few.len() <= 2);
                if few.is_empty() {
                    break;
                }
                walked.extend(few);
            }
            assert_eq!(walked, all, "{index:?}");
        }
    }

    async fn the_newest_audit_records_come_first(&self) {
        let all = self.store.list_audits("", 10).await.unwrap();
        let found = |found: AuditsFound| match found {
            AuditsFound::Newest { places, more } => (places, more),
            AuditsFound::TooMany => panic!("there are {}", all.len()),
        };
        let (places, more) = found(self.store.newest_audits("", None, 10).await.unwrap());
        assert_eq!((places.len(), more), (all.len(), false), "each has the time when it was written");
        assert!(places.is_sorted_by(|newer, older| newer > older), "{places:?}");
        let mut walked: Vec<AuditPlace> = Vec::new();
        loop {
            let (few, more) = found(self.store.newest_audits("", walked.last(), 2).await.unwrap());
            walked.extend(few);
            if !more {
                break;
            }
        }
        assert_eq!(walked, places);
    }

    async fn documents_of_the_service_are_replaced_as_read(&self) {
        assert!(self.store.service::<Value>("rows").await.unwrap().is_none());
        let Written::Done { etag, .. } = self.store.save_service("rows", &json!(1), None).await.unwrap() else {
            panic!("nobody else wrote")
        };
        assert_eq!(self.store.save_service("rows", &json!(2), None).await.unwrap(), Written::Lost);
        assert!(matches!(self.store.save_service("rows", &json!(3), Some(&etag)).await.unwrap(), Written::Done { .. }));
        assert_eq!(self.store.save_service("rows", &json!(4), Some(&etag)).await.unwrap(), Written::Lost);
        let held = self.store.service::<Value>("rows").await.unwrap().expect("it was saved");
        assert_eq!(held.document, json!(3));
        assert_ne!(held.etag, Some(etag));
    }
}

/// Adds one to the counter, however often it takes, and gives the version that this made.
async fn increment(blobs: &Blobs, container: &str) -> String {
    const PATIENCE: usize = 1000;
    for _ in 0..PATIENCE {
        let Read::Found { body, etag, .. } = blobs.get(container, "race").await.unwrap() else { panic!("the counter is gone") };
        let count: u32 = std::str::from_utf8(&body).unwrap().parse().unwrap();
        let next = Bytes::from((count + 1).to_string());
        if let Replace::Replaced { etag, .. } = blobs.replace(container, "race", next, &etag).await.unwrap() {
            return etag;
        }
    }
    panic!("{PATIENCE} others were always faster");
}

fn vm(name: &str) -> VmId {
    let group = "Rg-(Prod)_1";
    let id = estate::resource_id(estate::SUBSCRIPTION, group, "Microsoft.Compute/virtualMachines", name);
    VmId::parse(&id).unwrap()
}
