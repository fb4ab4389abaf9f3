//! Service Bus: queues, and their REST face (send, peek-lock, receive-and-delete, renew, unlock, complete).
//!
//! A receive that finds nothing waits for its `timeout` where the world's clock runs. Where it stands still, the
//! answer is 204 at once: nothing could become due during the wait, and whoever moves the clock would wait for it.

mod line;
mod properties;
mod queue;
mod receive;
mod send;

use std::time::Duration;

use http::{Method, StatusCode};

pub use line::Line;
pub use queue::{LockLost, abandon, complete, enqueue, expire_locks, next_due, renew, take, visible};

use crate::entra::{self, NotAuthenticated};
use crate::face::{Answer, Call, xml_escaped};
use crate::state::{Caller, Deed, State};

const AUDIENCES: &[&str] = &["https://servicebus.azure.net"];
const SEND: &str = "Microsoft.ServiceBus/namespaces/messages/send/action";
const RECEIVE: &str = "Microsoft.ServiceBus/namespaces/messages/receive/action";

/// An error as the service writes it: XML with the status once more and a sentence.
pub fn error(status: StatusCode, detail: &str) -> Answer {
    let body = format!("<Error><Code>{}</Code><Detail>{}</Detail></Error>", status.as_u16(), xml_escaped(detail));
    Answer::xml(status, body)
}

/// Which messages of a queue a path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shelf {
    /// Those to be delivered.
    Active,
    /// The dead letters, `/{queue}/$DeadLetterQueue/…`.
    DeadLetter,
}

/// What a path names.
enum Target {
    Messages,
    Head,
    /// A locked message: its id or sequence number, and the lock's token.
    Locked(String, String),
}

/// How long a receive may wait for a message; no other request finds nothing.
pub fn patience(call: &Call) -> Duration {
    receive::timeout(call).unwrap_or_default()
}

/// Answers one request to the namespace.
pub fn answer(state: &mut State, call: &Call) -> Answer {
    match answered(state, call) {
        Ok(answer) | Err(answer) => answer,
    }
}

fn answered(state: &mut State, call: &Call) -> Result<Answer, Answer> {
    let (queue, shelf, target) = target(call)?;
    let caller = authenticated(state, call)?;
    match (&call.method, &target, shelf) {
        (&Method::POST, Target::Messages, Shelf::Active) => {
            let answer = match may(state, &caller, SEND, "Send", call)
                .and_then(|()| exists(state, &queue))
                .and_then(|()| send::answer(state, call, &queue))
            {
                Ok(answer) | Err(answer) => answer,
            };
            state.record(&caller, "servicebus", "send", &queue, answer.status.as_u16());
            Ok(answer)
        }
        (&Method::POST | &Method::DELETE, Target::Head, _) | (&Method::POST | &Method::PUT | &Method::DELETE, Target::Locked(..), _) => {
            may(state, &caller, RECEIVE, "Listen", call)?;
            exists(state, &queue)?;
            receive::answer(state, call, &queue, shelf, &target)
        }
        _ => Err(error(StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed here.")),
    }
}

/// What a send would do, whether it may or not; none for everything else, which the log does not have either.
pub(crate) fn deed(state: &State, call: &Call) -> Option<Deed> {
    match (&call.method, target(call).ok()?) {
        (&Method::POST, (queue, Shelf::Active, Target::Messages)) => {
            let caller = authenticated(state, call).unwrap_or_else(|_| Caller::anonymous(&call.ip));
            Some(Deed { caller, what: "send".to_owned(), target: queue })
        }
        _ => None,
    }
}

/// Queue names may hold slashes, so what follows `messages` decides. Paths are compared without case: Microsoft's REST
/// client asks for `/{queue}/Messages/Head`.
fn target(call: &Call) -> Result<(String, Shelf, Target), Answer> {
    let segments = call.segments();
    let nowhere = || error(StatusCode::NOT_FOUND, "40400: Endpoint not found.");
    let place = segments.iter().position(|segment| segment.eq_ignore_ascii_case("messages")).ok_or_else(nowhere)?;
    let (before, after) = segments.split_at(place);
    let (name, shelf) = match before {
        [name @ .., last] if last.eq_ignore_ascii_case("$deadletterqueue") => (name, Shelf::DeadLetter),
        name => (name, Shelf::Active),
    };
    if name.is_empty() {
        return Err(nowhere());
    }
    let target = match after {
        [_] => Target::Messages,
        [_, head] if head.eq_ignore_ascii_case("head") => Target::Head,
        [_, message, lock] => Target::Locked(message.clone(), lock.clone()),
        _ => return Err(nowhere()),
    };
    // Entity names are compared without case; the product's are written in lower case.
    Ok((name.join("/").to_ascii_lowercase(), shelf, target))
}

fn authenticated(state: &State, call: &Call) -> Result<Caller, Answer> {
    let refuse = |detail: &str| Err(error(StatusCode::UNAUTHORIZED, detail));
    if call.header("authorization").is_some_and(|value| value.starts_with("SharedAccessSignature")) {
        return refuse("LocalAuthDisabled: Authorization failed because SAS authentication has been disabled for the namespace.");
    }
    match entra::authenticate(state, call, AUDIENCES) {
        Ok(caller) => Ok(caller),
        Err(NotAuthenticated::Missing) => refuse("MissingToken: The authorization header was not found."),
        Err(NotAuthenticated::Expired) => refuse("ExpiredToken: The token is expired."),
        Err(NotAuthenticated::Invalid(why)) => refuse(&format!("InvalidToken: {why}")),
    }
}

/// A missing right is answered with 401, not 403, here.
fn may(state: &State, caller: &Caller, action: &str, claim: &str, call: &Call) -> Result<(), Answer> {
    if entra::may_anywhere(state, caller, action) {
        return Ok(());
    }
    let detail = format!(
        "Unauthorized access. '{claim}' claim(s) are required to perform this operation. Resource: 'sb://portcullis.servicebus.windows.net{}'.",
        call.path
    );
    Err(error(StatusCode::UNAUTHORIZED, &detail))
}

fn exists(state: &State, queue: &str) -> Result<(), Answer> {
    if state.queues.contains_key(queue) {
        return Ok(());
    }
    let detail = format!("The messaging entity 'sb://portcullis.servicebus.windows.net/{queue}' could not be found.");
    Err(error(StatusCode::GONE, &detail))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::state::Queue;
    use crate::state::testing::one_application;

    pub(crate) fn namespace(actions: &[&str]) -> State {
        let mut state = one_application(actions);
        state.queues.insert("approval".to_owned(), Queue::default());
        state
    }

    pub(crate) fn call(state: &State, method: &str, target: &str) -> Call {
        let token = entra::mint(state, "oid", "https://servicebus.azure.net").unwrap();
        Call::new(method, target).with_bearer(&token)
    }

    #[test]
    fn each_refusal_has_azures_status() {
        let mut state = namespace(&["Microsoft.ServiceBus/*/send/action"]);
        let send = "/approval/messages";
        let wrong = entra::mint(&state, "oid", "https://storage.azure.com").unwrap();
        let table = [
            (Call::new("POST", send), 401, "MissingToken"),
            (Call::new("POST", send).with_bearer(&wrong), 401, "InvalidToken"),
            (Call::new("POST", send).with_header("authorization", "SharedAccessSignature sr=x"), 401, "LocalAuthDisabled"),
            (call(&state, "POST", "/approval/messages/head"), 401, "'Listen' claim"),
            (call(&state, "POST", "/none/messages"), 410, "could not be found"),
            (call(&state, "GET", send), 405, "not allowed"),
            (call(&state, "POST", "/approval/$DeadLetterQueue/messages"), 405, "not allowed"),
            (call(&state, "POST", "/approval"), 404, "40400"),
            (call(&state, "POST", "/approval/messages/a/b/c"), 404, "40400"),
        ];
        for (call, status, part) in table {
            let answered = answer(&mut state, &call);
            let body = String::from_utf8_lossy(&answered.body).into_owned();
            assert_eq!(answered.status.as_u16(), status, "{} {}", call.method, call.path);
            assert!(body.starts_with(&format!("<Error><Code>{status}</Code><Detail>")), "{body}");
            assert!(body.contains(&part.replace('\'', "&apos;")), "{body}");
        }
        let mut receiver = namespace(&["Microsoft.ServiceBus/*/receive/action"]);
        let refused = call(&receiver, "POST", send);
        assert_eq!(answer(&mut receiver, &refused).status, 401);
        assert_eq!(receiver.log[0].status, 401);
    }
}
