//! Reads that show what was, and answers that come after everybody stopped waiting: nothing is proved by either.

use chrono::TimeDelta;
use portcullis_sandbox::estate;
use portcullis_sandbox::faults::Effect;
use portcullis_trials::story::{DELETE, Setting, Story, each_row, vm};

const MINUTE: i64 = 60;

async fn any_source() -> Story {
    let story = Setting::default().begin().await;
    story.opens(estate::ADMIN_OBJECT_ID, &vm("web-1"), 3389, &["*"], TimeDelta::hours(2)).await;
    story
}

/// Lets time pass and watches that nothing is called proved while a rule is there.
async fn watch(story: &Story, seconds: i64) {
    let until = story.now() + TimeDelta::seconds(seconds);
    while story.now() < until {
        story.pass(1).await;
        let proofs = story.audits_of("proved-shut");
        let rules = story.rules_of(&vm("web-1"), 3389);
        assert!(proofs.is_empty() || rules.is_empty(), "proved and there is {rules:?}:\n{}", story.told());
    }
}

/// Less than from the start of a record to the earliest proof.
const BRIEFLY: i64 = 50;

async fn reads_the_past(path: &'static str, from: i64) {
    let story = any_source().await;
    watch(&story, from).await;
    story.fault("arm", "GET", path, Effect::Stale, None);
    watch(&story, BRIEFLY).await;
    story.heal();
    watch(&story, 9 * MINUTE).await;
    assert!(story.ours(DELETE).len() >= 2, "{}", story.told());
    story.is_proved_shut("web-1", 3389);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_show_the_past_for_a_while_prove_nothing() {
    let paths = [
        "/networkSecurityGroups/nsg-web-1?",
        "/networkSecurityGroups/nsg-servers?",
        "/resourceGroups/rg-workload/providers/Microsoft.Security/jitNetworkAccessPolicies",
        "/virtualMachines/web-1",
        "/securityRules/",
    ];
    // Before the rules are there, when they are there, between the two deletes, and when they are gone.
    let times = [0, 12, 15, 25];
    let rows = paths.into_iter().flat_map(|path| times.map(|from| (format!("{path} from second {from}"), reads_the_past(path, from))));
    each_row(rows).await;
}

#[tokio::test]
async fn a_group_that_shows_the_past_for_longer_than_a_proof_takes_is_shut_once_it_shows_the_present() {
    let story = any_source().await;
    story.fault("arm", "GET", "/networkSecurityGroups/nsg-web-1?", Effect::Stale, None);
    story.pass(2 * MINUTE).await;
    assert_eq!(story.rules_of(&vm("web-1"), 3389).len(), 1);
    story.heal();
    story.pass(8 * MINUTE).await;
    assert_eq!(story.ours(DELETE).len(), 2);
    story.is_proved_shut("web-1", 3389);
}

/// Longer than any call is waited for.
const TOO_LATE: Effect = Effect::Delay { milliseconds: 11_000 };

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_too_late_is_found_out_by_reading() {
    let calls = [("arm", "DELETE", "/securityRules/"), ("blob", "PUT", "/state/vm/"), ("blob", "PUT", "/audit/")];
    let rows = calls.map(|(face, method, path)| {
        let story = async move {
            let story = any_source().await;
            story.pass(11).await;
            story.fault(face, method, path, TOO_LATE, Some(1));
            watch(&story, 5 * MINUTE).await;
            assert!(story.world(|state| state.faults.is_empty()), "no call met the fault");
            assert_eq!(story.ours(DELETE).len(), 2, "{}", story.told());
            story.is_proved_shut("web-1", 3389);
        };
        (format!("{face} {method} {path}"), story)
    });
    each_row(rows).await;
}
