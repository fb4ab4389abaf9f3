//! A part of the matrix that is always the same: `make matrix` plays all of it.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use portcullis_trials::disturbance::{Call, Disturbance, Wrong};
use portcullis_trials::matrix::{Cell, Unusual, at_once, disturbed, run, shipped_stories};
use portcullis_trials::play::can_begin;
use portcullis_trials::script::Script;
use portcullis_trials::walk::Walk;

const AT_ONCE: NonZeroUsize = NonZeroUsize::new(12).unwrap();

fn stories() -> Vec<(String, Script)> {
    Script::read_all(&shipped_stories()).unwrap()
}

async fn all_hold(cells: Vec<Cell>) -> usize {
    let outcomes = run(AT_ONCE, &cells, |_, _| {}).await;
    let failed = cells.iter().zip(&outcomes).filter(|(_, outcome)| !outcome.wrong.is_empty());
    let failed: Vec<String> = failed.map(|(cell, outcome)| format!("{cell}\n{}", outcome.wrong.join("\n"))).collect();
    assert!(failed.is_empty(), "{} of {} cells do not hold:\n{}", failed.len(), cells.len(), failed.join("\n"));
    outcomes.iter().filter(|outcome| outcome.is_met).count()
}

/// Kills before and after each `every`-th call of a story.
async fn killed(story: &str, every: usize) {
    let stories = stories();
    let story = stories.iter().find(|(name, _)| name == story).unwrap();
    let undisturbed = Cell::undisturbed(story, &Unusual::default());
    let calls = undisturbed.calls().await.unwrap();
    let cells = disturbed(&undisturbed, &calls, &[Wrong::KillBefore, Wrong::KillAfter], NonZeroUsize::new(every).unwrap());
    let all = cells.len();
    let met = all_hold(cells).await;
    // A call or two fewer may be made than were counted; a story whose kills are not met is not disturbed.
    assert!(calls.len() > 100 && met * 10 > all * 9, "{met} of {all} kills at {} calls", calls.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_call_an_opening_to_everybody_is_proved_shut() {
    killed("any-source", 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_call_a_grant_is_opened_and_ended() {
    killed("granted", 9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_call_an_extended_grant_is_opened_and_ended() {
    killed("extended", 19).await;
}

/// JIT wants no calls for twenty minutes, and the run that it told so is killed before its record says it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_forgets_may_be_done_and_nothing_else() {
    let stories = stories();
    let story = stories.iter().find(|(name, _)| name == "told-to-wait").unwrap();
    let undisturbed = Cell::undisturbed(story, &Unusual::default());
    let calls = undisturbed.calls().await.unwrap();
    let is_of_a_record = |call: &Call| matches!(call, Call::Alike { shape, after } if shape.starts_with("approval:blob:PUT:") && shape.contains("/state/vm/") && (34..48).contains(after));
    let calls: Vec<Call> = calls.into_iter().filter(is_of_a_record).collect();
    let cells = disturbed(&undisturbed, &calls, &[Wrong::KillBefore], NonZeroUsize::MIN);
    let outcomes = run(AT_ONCE, &cells, |_, _| {}).await;
    let wrong: Vec<_> = cells
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| !outcome.wrong.is_empty())
        .map(|(cell, outcome)| (cell.to_string(), &outcome.wrong))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let ends: BTreeSet<&str> =
        outcomes.iter().flat_map(|outcome| &outcome.told).filter_map(|told| told.strip_prefix("web-1 3389: ")?.split(',').next()).collect();
    assert!(ends.contains("never open") && ends.contains("proved shut"), "{ends:?}");
}

#[test]
fn two_stories_of_one_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let story = std::fs::read_to_string(shipped_stories().join("any-source.yaml")).unwrap();
    for name in ["one.yaml", "two.yaml", "one.yml"] {
        std::fs::write(folder.path().join(name), &story).unwrap();
    }
    let why = Script::read_all(folder.path()).unwrap_err();
    assert!(why.contains("two stories are called 'one'"), "{why}");
}

/// What the story itself lets go wrong is of the same kind.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_story_never_makes_is_not_taken_for_a_disturbed_one() {
    let stories = stories();
    let cells = ["graph-down/usual/503@0", "graph-down/usual/503@1000000"].map(|name| Cell::read(name, &stories).unwrap());
    let outcomes = run(AT_ONCE, &cells, |_, _| {}).await;
    assert_eq!(outcomes.iter().map(|outcome| outcome.is_met).collect::<Vec<_>>(), [true, false]);
}

/// In the usual world, in that in which everything comes twice, and with numbers that no setting of the matrix has.
#[tokio::test(flavor = "multi_thread")]
async fn every_story_ends_as_it_must_where_nothing_goes_wrong() {
    let odd = Unusual::read("initiatingSeconds=33,operationSeconds=7,expiryDelaySeconds=65,activityLogSeconds=133,pageSize=3").unwrap();
    let worlds = [Unusual::default(), Unusual::twice(), odd];
    let of = |story: &(String, Script)| worlds.each_ref().map(|world| Cell::undisturbed(story, world));
    all_hold(stories().iter().flat_map(of).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_story_is_not_played_in_a_world_that_it_sets_otherwise() {
    let why = Cell::read("nameless/requestor=filled/undisturbed", &stories()).unwrap_err();
    assert!(why.contains("'nameless' sets a switch itself that 'requestor=filled' sets otherwise"), "{why}");
    assert!(Cell::read("nameless/requestor=empty/undisturbed", &stories()).is_ok());
}

/// What is drawn is always the same: stories under settings of what nobody knows, disturbed at one of their calls.
#[tokio::test(flavor = "multi_thread")]
async fn cells_that_are_drawn_from_all_of_them_end_as_they_must() {
    let (stories, settings) = (stories(), Unusual::every());
    let mut rng = fastrand::Rng::with_seed(4);
    let drawn = (0..100).map(|_| {
        let (story, setting) = (&stories[rng.usize(..stories.len())], &settings[rng.usize(..settings.len())]);
        let undisturbed = Cell::undisturbed(story, setting);
        let undisturbed = if undisturbed.is_of_its_world() { undisturbed } else { Cell::undisturbed(story, &Unusual::default()) };
        // Fewer than any story makes.
        let disturbance = Disturbance::At(Wrong::ALL[rng.usize(..Wrong::ALL.len())], Call::After(rng.u32(..250)));
        Cell { disturbance, ..undisturbed }
    });
    let met = all_hold(drawn.collect()).await;
    assert!(met > 90, "{met} of 100 were disturbed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_with_which_the_app_cannot_start_is_told_in_its_own_words_once() {
    let (_, mut script) = stories().remove(0);
    assert_eq!(can_begin(&script).await, Ok(()));
    script.world.settings.insert("PORTCULLIS_JIT_NEWER".to_owned(), "nonsense".to_owned());
    let why = can_begin(&script).await.unwrap_err();
    assert_eq!(why.matches("PORTCULLIS_JIT_NEWER is `nonsense`: write replaces").count(), 1, "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn walks_at_random_hold_what_must_hold_always() {
    let walks = (1..=16).map(|seed| async move { (seed, Walk::of(seed).played().await.map(|(_, wrong)| wrong)) }).collect();
    for walked in at_once(AT_ONCE, walks, |_, _| {}).await {
        let (seed, wrong) = walked.unwrap();
        assert_eq!(wrong, Ok(Vec::new()), "seed {seed}");
    }
}

/// An outage of everything, as a story may have it, is what a disturbance is too, but for how often.
#[tokio::test(flavor = "multi_thread")]
async fn a_story_heals_its_own_fault_however_alike_it_is_to_what_disturbs_it() {
    let story = "
tells: Everything fails for ten minutes, in which nobody asks for anything.
steps:
  - {at: 6m, what: {fault: {path: /, by: handler, effect: {kind: status, status: 503}}}}
  - {at: 16m, what: heals}
  - {at: 30m, what: {opens: {who: ada.admin, vm: web-1, port: 3389, from: '*', for: 30m}}}
lasts: 50m
ends: [{vm: web-1, port: 3389, is: shut, letsIn: [{from: '*', since: 30m, until: 30m}]}]
";
    let story = ("all-down".to_owned(), Script::read(story).unwrap());
    let cells = ["undisturbed", "503@3", "503@100000"]
        .map(|wrong| Cell::read(&format!("all-down/usual/{wrong}"), std::slice::from_ref(&story)).unwrap());
    let outcomes = run(AT_ONCE, &cells, |_, _| {}).await;
    let are: Vec<_> = outcomes.into_iter().map(|outcome| (outcome.is_met, outcome.wrong)).collect();
    assert_eq!(are, [(true, Vec::new()), (true, Vec::new()), (false, Vec::new())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_try_and_azure_does_not_do_or_does_not_answer_is_no_mistake_of_the_story() {
    let story = "
tells: An administrator is cut off while JIT opens a port, and cannot write the policy while the plan is off.
steps:
  - {at: 0, what: {fault: {face: arm, method: POST, path: /initiate, times: 1, effect: {kind: cutAfter}}}}
  - {at: 0, what: {opens: {who: ada.admin, vm: web-1, port: 3389, from: '*', for: 30m}}}
  - {at: 15m, what: {plan: false}}
  - {at: 15m, what: {writesPolicy: {who: ada.admin}}}
  - {at: 16m, what: {plan: true}}
lasts: 42m
ends: [{vm: web-1, port: 3389, is: shut, letsIn: [{from: '*', since: 0, until: 0}]}]
";
    let cell = Cell::read("cut-off/usual/undisturbed", &[("cut-off".to_owned(), Script::read(story).unwrap())]).unwrap();
    let (played, verdict) = cell.played().await.unwrap();
    assert_eq!(verdict.wrong, Vec::<String>::new());
    let [opens, writes] = played.refused.as_slice() else { panic!("{:#?}", played.refused) };
    assert!(opens.starts_with("opens web-1 port 3389 at 0:00: 599 \"no answer: "), "{opens}");
    assert!(writes.starts_with("writesPolicy, which reads it first, at 15:00: 403 "), "{writes}");
}
