//! Receiving: peek-lock and what settles it, and receive-and-delete.

use std::time::Duration;

use chrono::TimeDelta;
use http::{Method, StatusCode};

use super::queue::{self, LockLost};
use super::{Shelf, Target, error, properties};
use crate::face::{Answer, Call};
use crate::state::{Message, State};

/// How long a receive waits unless it says otherwise (documentation).
const USUAL_WAIT: Duration = Duration::from_secs(60);
/// The longest wait: load balancers of Azure cut a connection that is idle for four minutes (documentation).
const LONGEST_WAIT: Duration = Duration::from_secs(240);

/// The `timeout` of a receive, in whole seconds.
pub(super) fn timeout(call: &Call) -> Result<Duration, Answer> {
    let Some(given) = call.param("timeout") else {
        return Ok(USUAL_WAIT);
    };
    // `parse` would take a plus sign, too.
    let digits = !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        let detail = format!("40000: The query parameter 'timeout' must be a whole number of seconds, not '{given}'.");
        return Err(error(StatusCode::BAD_REQUEST, &detail));
    }
    // More digits than a number holds are more than the longest wait, too.
    Ok(given.parse().map_or(LONGEST_WAIT, |seconds| Duration::from_secs(seconds).min(LONGEST_WAIT)))
}

/// Answers a request of a receiver. The queue exists.
pub(super) fn answer(state: &mut State, call: &Call, queue: &str, shelf: Shelf, target: &Target) -> Result<Answer, Answer> {
    let lock_for = TimeDelta::seconds(state.queues.get(queue).map_or(0, |queue| queue.lock_seconds));
    if matches!(target, Target::Head) {
        timeout(call)?;
    }
    match (target, &call.method) {
        (Target::Head, &Method::POST) => Ok(match queue::take_from(state, queue, shelf, lock_for) {
            Some(message) => {
                let token = message.lock.as_ref().map_or("", |(token, _)| token.as_str());
                let (messages, _head) = call.path.trim_end_matches('/').rsplit_once('/').unwrap_or_default();
                let location = format!("{}{messages}/{}/{token}", call.base, message.sequence);
                given(&message, StatusCode::CREATED).with("Location", &location)
            }
            None => Answer::empty(StatusCode::NO_CONTENT),
        }),
        (Target::Head, _) => Ok(match queue::take_away(state, queue, shelf) {
            Some(message) => given(&message, StatusCode::OK),
            None => Answer::empty(StatusCode::NO_CONTENT),
        }),
        (Target::Locked(message, lock), method) => {
            names(state, queue, shelf, message, lock)
                .and_then(|()| match *method {
                    Method::POST => queue::renew_in(state, queue, shelf, lock, lock_for),
                    Method::PUT => queue::abandon_in(state, queue, shelf, lock),
                    _ => queue::complete_in(state, queue, shelf, lock),
                })
                .map_err(|LockLost| {
                    error(
                        StatusCode::NOT_FOUND,
                        "The lock supplied is invalid. Either the lock expired, or the message has already been \
                         removed from the queue.",
                    )
                })?;
            Ok(Answer::empty(StatusCode::OK))
        }
        (Target::Messages, _) => Err(error(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed here.")),
    }
}

/// Whether the path's message, by id or sequence number, is the one that the lock is of.
fn names(state: &State, queue: &str, shelf: Shelf, name: &str, lock: &str) -> Result<(), LockLost> {
    let queue = state.queues.get(queue).ok_or(LockLost)?;
    let line = match shelf {
        Shelf::Active => &queue.messages,
        Shelf::DeadLetter => &queue.dead_letters,
    };
    let message = line.locked(lock, state.now).and_then(|place| line.at(place)).ok_or(LockLost)?;
    let id = message.properties.get("MessageId").and_then(|id| id.as_str());
    if id == Some(name) || message.sequence.to_string() == name { Ok(()) } else { Err(LockLost) }
}

fn given(message: &Message, status: StatusCode) -> Answer {
    let mut answer =
        Answer { body: message.body.clone().into(), ..Answer::empty(status) }.with("BrokerProperties", &properties::written(message));
    if let Some(content_type) = &message.content_type {
        answer = answer.with("Content-Type", content_type);
    }
    if let Some(reason) = &message.dead_letter_reason {
        answer = answer.with("DeadLetterReason", &format!("\"{reason}\""));
    }
    for (name, value) in &message.user_properties {
        answer = answer.with(name, &properties::header(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::Value;

    use crate::face::{Answer, Call};
    use crate::servicebus::tests::{call, namespace};
    use crate::servicebus::{abandon, answer, take};
    use crate::state::State;

    const HEAD: &str = "/approval/messages/head?timeout=60";

    fn with_message() -> State {
        let mut state = namespace(&["*"]);
        let send = call(&state, "POST", "/approval/messages")
            .with_header("content-type", "application/json")
            .with_header("brokerproperties", r#"{"MessageId":"m-1","Label":"l"}"#)
            .with_header("attempt", "3")
            .with_body("{}");
        assert_eq!(answer(&mut state, &send).status, 201);
        state
    }

    fn asked(state: &mut State, method: &str, target: &str) -> Answer {
        let call: Call = call(state, method, target);
        answer(state, &call)
    }

    fn locked(state: &mut State) -> String {
        let answer = asked(state, "POST", HEAD);
        answer.header("location").unwrap().strip_prefix("https://127.0.0.1:1").unwrap().to_owned()
    }

    #[test]
    fn a_peeked_message_shows_its_lock_and_where_to_settle_it() {
        let mut state = with_message();
        let peeked = asked(&mut state, "POST", HEAD);
        assert_eq!((peeked.status.as_u16(), &peeked.body[..]), (201, &b"{}"[..]));
        let properties: Value = serde_json::from_str(peeked.header("brokerproperties").unwrap()).unwrap();
        assert_eq!(properties["MessageId"], "m-1");
        assert_eq!(properties["Label"], "l");
        assert_eq!(properties["DeliveryCount"], 1);
        assert_eq!(properties["SequenceNumber"], 1);
        assert_eq!(properties["State"], "Active");
        assert_eq!(properties["EnqueuedTimeUtc"], "Thu, 15 Jan 2026 09:00:00 GMT");
        assert_eq!(properties["LockedUntilUtc"], "Thu, 15 Jan 2026 09:01:00 GMT");
        let lock = properties["LockToken"].as_str().unwrap();
        assert_eq!(peeked.header("location"), Some(format!("https://127.0.0.1:1/approval/messages/1/{lock}").as_str()));
        assert_eq!(peeked.header("attempt"), Some("3"));
        assert_eq!(asked(&mut state, "POST", HEAD).status, 204);
    }

    #[test]
    fn a_path_is_the_same_in_another_letter_case() {
        let mut state = with_message();
        let peeked = asked(&mut state, "POST", "/Approval/Messages/Head?timeout=1");
        assert_eq!(peeked.status, 201);
        let location = peeked.header("location").unwrap().strip_prefix("https://127.0.0.1:1").unwrap().to_owned();
        assert!(location.starts_with("/Approval/Messages/1/"), "{location}");
        assert_eq!(asked(&mut state, "PUT", &location.replace("/Messages/", "/messages/")).status, 200);
        assert_eq!(asked(&mut state, "DELETE", "/approval/MESSAGES/HEAD").status, 200);
    }

    #[test]
    fn a_lock_is_renewed_given_back_and_completed() {
        let mut state = with_message();
        let location = locked(&mut state);
        state.now += TimeDelta::seconds(40);
        assert_eq!(asked(&mut state, "POST", &location).status, 200);
        state.now += TimeDelta::seconds(40);
        assert_eq!(asked(&mut state, "PUT", &location).status, 200);
        assert_eq!(asked(&mut state, "DELETE", &location).status, 404);
        let location = locked(&mut state);
        assert_eq!(state.queues["approval"].messages[0].delivery_count, 2);
        let by_id = location.replace("/messages/1/", "/messages/m-1/");
        assert_eq!(asked(&mut state, "DELETE", &location.replace("/1/", "/2/")).status, 404);
        assert_eq!(asked(&mut state, "DELETE", &by_id).status, 200);
        assert!(state.queues["approval"].messages.is_empty());
    }

    #[test]
    fn a_lock_that_ended_is_lost() {
        let mut state = with_message();
        let location = locked(&mut state);
        state.now += TimeDelta::seconds(60);
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(asked(&mut state, method, &location).status, 404);
        }
        assert_eq!(asked(&mut state, "POST", HEAD).status, 201);
    }

    #[test]
    fn a_timeout_is_whole_seconds_up_to_four_minutes() {
        let mut state = with_message();
        let head = |timeout: &str| format!("/approval/messages/head?timeout={timeout}");
        for wrong in ["abc", "-1", "%2B1", "1.5", ""] {
            for method in ["POST", "DELETE"] {
                let refused = asked(&mut state, method, &head(wrong));
                assert_eq!(refused.status, 400, "{wrong}");
                assert!(String::from_utf8_lossy(&refused.body).contains("timeout"), "{wrong}");
            }
        }
        assert_eq!(state.queues["approval"].messages[0].delivery_count, 0);
        let waits = |target: &str| crate::servicebus::patience(&Call::new("POST", target)).as_secs();
        assert_eq!(waits("/approval/messages/head"), 60);
        for (given, seconds) in [("0", 0), ("7", 7), ("300", 240), ("99999999999999999999", 240)] {
            assert_eq!(waits(&head(given)), seconds, "{given}");
        }
    }

    #[test]
    fn receive_and_delete_takes_the_message_away() {
        let mut state = with_message();
        let received = asked(&mut state, "DELETE", "/approval/messages/head");
        assert_eq!((received.status.as_u16(), &received.body[..]), (200, &b"{}"[..]));
        assert!(!received.header("brokerproperties").unwrap().contains("LockToken"));
        assert_eq!(asked(&mut state, "DELETE", "/approval/messages/head").status, 204);
    }

    #[test]
    fn dead_letters_have_a_queue_of_their_own() {
        let mut state = with_message();
        for _ in 0..10 {
            let message = take(&mut state, "approval", TimeDelta::seconds(1)).unwrap();
            abandon(&mut state, "approval", &message.lock.unwrap().0).unwrap();
        }
        assert_eq!(asked(&mut state, "POST", HEAD).status, 204);
        let dead = asked(&mut state, "POST", "/approval/$deadletterqueue/messages/head");
        assert_eq!(dead.status, 201);
        assert_eq!(dead.header("deadletterreason"), Some("\"MaxDeliveryCountExceeded\""));
        let location = dead.header("location").unwrap().strip_prefix("https://127.0.0.1:1").unwrap().to_owned();
        assert_eq!(asked(&mut state, "PUT", &location).status, 200);
        assert_eq!(asked(&mut state, "DELETE", "/approval/$DeadLetterQueue/messages/head").status, 200);
        assert!(state.queues["approval"].dead_letters.is_empty());
    }
}
