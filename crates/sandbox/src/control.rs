//! The control API: how a person or a test looks into the world and changes it from outside.
//!
//! Every request needs the control token as its bearer and a Host header that names this very server, so that no
//! page in a browser can talk to it by a name that it made resolve to loopback.

use chrono::{DateTime, Utc};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bounds;
use crate::engine::Engine;
use crate::entra;
use crate::estate;
use crate::eventgrid;
use crate::face::{Answer, Call};
use crate::faults::Fault;
use crate::host::Host;
use crate::iso_duration;
use crate::state::{Caller, State};
use crate::switches::Switches;
use crate::world::World;

/// What the control API works on.
#[derive(Clone)]
pub struct Control {
    /// The world.
    pub world: World,
    /// Its clock.
    pub engine: Engine,
    /// The host, if there is one.
    pub host: Option<Host>,
    /// The bearer token that every request needs.
    pub token: String,
}

/// A refusal: its status and one sentence.
type Refused = (StatusCode, String);

impl Control {
    /// Answers one request.
    pub async fn answer(self, call: Call) -> Answer {
        match self.answered(&call).await {
            Ok(body) => {
                self.log_change(&call);
                Answer::json(StatusCode::OK, &body)
            }
            Err((status, message)) => Answer::json(status, &json!({ "error": message })),
        }
    }

    /// What was changed from outside stands in the world's log beside everything else that changed it.
    fn log_change(&self, call: &Call) {
        let path = call.path.trim_end_matches('/');
        if call.method != Method::GET && ["/state", "/faults", "/switches", "/events", "/events/take", "/kill"].contains(&path) {
            let caller = Caller::world("control API");
            self.world.lock().record(&caller, "control", &call.method.as_str().to_ascii_lowercase(), path, 200);
        }
    }

    async fn answered(&self, call: &Call) -> Result<Value, Refused> {
        self.check_caller(call)?;
        let path = call.path.trim_end_matches('/');
        match (&call.method, path) {
            (&Method::GET, "/state") => self.state(),
            (&Method::PATCH, "/state") => self.set_members(&parsed(call)?),
            (&Method::GET, "/log") => Ok(self.log(call.param("function"))),
            (&Method::GET, "/host") => Ok(self.host_view()),
            (&Method::GET, "/faults") => Ok(json!(self.world.lock().faults)),
            (&Method::GET, "/faults/met") => Ok(json!(self.world.lock().met)),
            (&Method::POST, "/faults") => self.add_faults(&parsed(call)?),
            (&Method::DELETE, "/faults") => {
                self.world.lock().faults.clear();
                Ok(json!([]))
            }
            (&Method::GET, "/switches") => Ok(json!(self.world.lock().switches)),
            (&Method::POST, "/switches") => self.set_switches(&parsed(call)?),
            (&Method::POST, "/events") => self.add_events(parsed(call)?),
            (&Method::POST, "/events/take") => self.take_events(),
            (&Method::POST, "/clock") => self.move_clock(call).await,
            (&Method::POST, "/kill") => self.kill(),
            (&Method::POST, "/token") => self.token(parsed(call)?),
            (&Method::POST, "/traces") => self.name_trace(&parsed(call)?),
            (
                _,
                "/state" | "/log" | "/host" | "/faults" | "/faults/met" | "/switches" | "/events" | "/events/take" | "/clock" | "/kill"
                | "/token" | "/traces",
            ) => {
                Err((StatusCode::METHOD_NOT_ALLOWED, format!("{} is not allowed here", call.method)))
            }
            _ => Err((
                StatusCode::NOT_FOUND,
                "there is nothing here: GET /state, /log, /host, /faults, /faults/met, /switches; POST /events, /events/take, /faults, /switches, /clock, /kill, /token, /traces; DELETE /faults; PATCH /state".to_owned(),
            )),
        }
    }

    fn check_caller(&self, call: &Call) -> Result<(), Refused> {
        let port = call.base.rsplit(':').next().unwrap_or_default();
        let host = call.header("host").unwrap_or_default();
        if host != format!("127.0.0.1:{port}") && !host.eq_ignore_ascii_case(&format!("localhost:{port}")) {
            return Err((StatusCode::MISDIRECTED_REQUEST, format!("the Host header must be 127.0.0.1:{port} or localhost:{port}")));
        }
        let bearer = call.header("authorization").and_then(|value| value.split_once(' '));
        match bearer {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && token.trim() == self.token => Ok(()),
            _ => Err((StatusCode::UNAUTHORIZED, "send the control token as 'Authorization: Bearer …'".to_owned())),
        }
    }

    fn state(&self) -> Result<Value, Refused> {
        shown(&self.world.lock())
    }

    /// Puts what is given in the place of these members of the state, as they stand in `GET /state`, and gives them back.
    fn set_members(&self, body: &Value) -> Result<Value, Refused> {
        let given = body.as_object().ok_or_else(|| bad("what is to be changed is a JSON object".to_owned()))?;
        if let Some(other) = given.keys().find(|name| !SETTABLE.contains(&name.as_str())) {
            let settable = SETTABLE.join(", ");
            return Err(bad(format!(
                "'{other}' is not changed here: {settable} are; the rest has ways of its own, or changes by Azure's faces"
            )));
        }
        let mut state = self.world.lock();
        let mut whole = shown(&state)?;
        for (name, value) in given {
            whole[name] = value.clone();
        }
        *state = State::deserialize(&whole).map_err(|error| bad(error.to_string()))?;
        Ok(given.keys().map(|name| (name.clone(), whole[name].clone())).collect::<serde_json::Map<_, _>>().into())
    }

    fn log(&self, function: Option<&str>) -> Value {
        let state = self.world.lock();
        let wanted = state.log.iter().filter(|entry| match function {
            None => true,
            Some(function) => entry.function.as_deref() == Some(function),
        });
        json!(wanted.collect::<Vec<_>>())
    }

    fn host_view(&self) -> Value {
        let (pending, dead_events, dead_messages) = {
            let state = self.world.lock();
            let dead: serde_json::Map<String, Value> =
                state.queues.iter().map(|(name, queue)| (name.clone(), json!(queue.dead_letters))).collect();
            (state.event_grid.pending.len(), state.event_grid.dead_letters.clone(), dead)
        };
        let dead = json!({ "events": dead_events, "messages": dead_messages });
        let Some(host) = &self.host else {
            return json!({ "running": false, "pendingEvents": pending, "deadLetters": dead });
        };
        let (total, failed) = host.record().counts();
        json!({
            "running": true,
            "handler": host.process().map(|process| json!({
                "state": process.described(),
                "processId": process.pid(),
                "starts": process.starts(),
                "console": process.lines(),
            })),
            "busy": host.is_busy(),
            "total": total,
            "failed": failed,
            "invocations": host.record().invocations(),
            "failures": host.record().failures(),
            "pendingEvents": pending,
            "deadLetters": dead,
        })
    }

    fn add_faults(&self, body: &Value) -> Result<Value, Refused> {
        let mut faults = Vec::new();
        for fault in one_or_many(body) {
            let fault = Fault::deserialize(fault).map_err(|error| bad(format!("this is no fault: {error}")))?;
            faults.push(fault);
        }
        let mut state = self.world.lock();
        state.faults.extend(faults);
        Ok(json!(state.faults))
    }

    /// Merges the given switches into those that are set.
    fn set_switches(&self, body: &Value) -> Result<Value, Refused> {
        let given = body.as_object().ok_or_else(|| bad("switches are a JSON object".to_owned()))?;
        let mut state = self.world.lock();
        let mut merged = json!(state.switches);
        for (name, setting) in given {
            match merged.get_mut(name) {
                Some(place) => *place = setting.clone(),
                None => return Err(bad(format!("there is no switch '{name}'; GET /switches shows them all"))),
            }
        }
        let switches = Switches::deserialize(&merged).map_err(|error| bad(error.to_string()))?;
        estate::set_switches(&mut state, switches);
        Ok(json!(state.switches))
    }

    /// Puts one event, or an array of them, on its way as it is.
    fn add_events(&self, body: Value) -> Result<Value, Refused> {
        let events = one_or_many(&body);
        for event in events {
            eventgrid::check_event(event).map_err(bad)?;
        }
        {
            let mut state = self.world.lock();
            let now = state.now;
            for event in events {
                eventgrid::push(&mut state, event.clone(), now);
            }
        }
        self.world.tell_changed();
        Ok(json!({ "accepted": events.len() }))
    }

    /// Gives whoever is the host the events that are to be delivered by now, each once: what they cannot deliver they put on its way
    /// again.
    fn take_events(&self) -> Result<Value, Refused> {
        if self.host.is_some() {
            return Err((StatusCode::CONFLICT, "the host of this sandbox delivers them: start it with --no-host".to_owned()));
        }
        let mut state = self.world.lock();
        let taken = std::iter::from_fn(|| eventgrid::take_due(&mut state));
        Ok(taken.map(|event| json!({ "function": event.function, "event": event.body })).collect())
    }

    async fn move_clock(&self, call: &Call) -> Result<Value, Refused> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Move {
            advance: Option<String>,
            to: Option<DateTime<Utc>>,
        }
        let body = if call.body.is_empty() { json!({}) } else { parsed(call)? };
        let wanted = Move::deserialize(&body).map_err(|error| bad(error.to_string()))?;
        let moved = match (wanted.advance, wanted.to) {
            (Some(_), Some(_)) => return Err(bad("give either advance or to, not both".to_owned())),
            (Some(text), None) => {
                let span =
                    iso_duration::parse(&text).ok_or_else(|| bad(format!("'{text}' is no ISO 8601 duration such as PT60S or P1DT2H")))?;
                let target =
                    self.engine.now().checked_add_signed(span).ok_or_else(|| bad(format!("advance: {text} leads out of the calendar")))?;
                bounds::world_time("the end of advance", target).map_err(bad)?;
                self.engine.advance_by(span).await
            }
            (None, Some(to)) if to < self.engine.now() => {
                return Err(bad(format!("{to} lies in the past of the world, whose time is {}", self.engine.now())));
            }
            (None, Some(to)) => self.engine.advance_to(bounds::world_time("to", to).map_err(bad)?).await,
            (None, None) => self.engine.settle().await,
        };
        match moved {
            Ok(now) => Ok(json!({ "now": now })),
            Err(stuck) => Err((StatusCode::CONFLICT, stuck.to_string())),
        }
    }

    fn kill(&self) -> Result<Value, Refused> {
        match &self.host {
            None => Err((StatusCode::CONFLICT, "no handler runs here (--no-host)".to_owned())),
            Some(host) => {
                host.kill();
                Ok(json!({ "killed": true }))
            }
        }
    }

    /// Says which invocation a trace stands for that another host gave the handler.
    fn name_trace(&self, body: &Value) -> Result<Value, Refused> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Named {
            traceparent: String,
            function: String,
            invocation: String,
        }
        let named = Named::deserialize(body).map_err(|error| bad(format!("give traceparent, function and invocation: {error}")))?;
        let trace_id =
            named.traceparent.split('-').nth(1).filter(|id| id.len() == 32 && id.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')));
        let trace_id = trace_id.ok_or_else(|| bad("traceparent is 00-, 32 hex digits in lower case, -, 16 of them, -01".to_owned()))?;
        self.world.name_trace(trace_id, &named.function, &named.invocation);
        Ok(json!({ "traceId": trace_id }))
    }

    fn token(&self, body: Value) -> Result<Value, Refused> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct Wanted {
            object_id: Option<String>,
            upn: Option<String>,
            audience: String,
        }
        let wanted = Wanted::deserialize(&body).map_err(|error| bad(format!("give objectId or upn, and audience: {error}")))?;
        let state = self.world.lock();
        let principal = state.principals.iter().find(|principal| match (&wanted.object_id, &wanted.upn) {
            (Some(id), None) => principal.object_id.eq_ignore_ascii_case(id),
            (None, Some(upn)) => !upn.is_empty() && principal.upn.eq_ignore_ascii_case(upn),
            (Some(_), Some(_)) | (None, None) => false,
        });
        let principal = principal
            .ok_or_else(|| (StatusCode::NOT_FOUND, "nobody in this world has that objectId or upn (give one of the two)".to_owned()))?;
        match entra::mint(&state, &principal.object_id, &wanted.audience) {
            Some(token) => Ok(json!({ "access_token": token, "token_type": "Bearer" })),
            None => Err(bad(format!("no token is given for the audience '{}'", wanted.audience))),
        }
    }
}

/// What people and pipelines change in an Azure that no face of the sandbox lets anybody change.
const SETTABLE: [&str; 5] = ["locks", "denials", "principals", "subscriptions", "workspaces"];

fn shown(state: &State) -> Result<Value, Refused> {
    serde_json::to_value(state).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn bad(message: String) -> Refused {
    (StatusCode::BAD_REQUEST, message)
}

fn parsed(call: &Call) -> Result<Value, Refused> {
    serde_json::from_slice(&call.body).map_err(|error| bad(format!("the body is no JSON: {error}")))
}

fn one_or_many(body: &Value) -> &[Value] {
    match body {
        Value::Array(items) => items,
        one => std::slice::from_ref(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Principal;

    fn a_control() -> Control {
        let mut state = State::default();
        state.principals.push(Principal { object_id: "o-1".to_owned(), upn: "barbara@contoso.com".to_owned(), ..Principal::default() });
        let world = World::new(state, std::time::Duration::ZERO);
        Control { engine: Engine::new(world.clone(), None), world, host: None, token: "secret".to_owned() }
    }

    fn a_call(method: &str, path: &str, body: &str) -> Call {
        let call = Call::new(method, path).with_bearer("secret").with_body(body.to_owned());
        let host = call.base.trim_start_matches("https://").to_owned();
        call.with_header("host", &host)
    }

    async fn answered(control: &Control, method: &str, path: &str, body: &str) -> (u16, Value) {
        let answer = control.clone().answer(a_call(method, path, body)).await;
        (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap())
    }

    #[tokio::test]
    async fn callers_without_token_or_with_another_host_are_refused() {
        let control = a_control();
        let base = Call::new("GET", "/state").base;
        let host = base.trim_start_matches("https://");
        let rows = [
            (Call::new("GET", "/state").with_header("host", host), 401),
            (Call::new("GET", "/state").with_header("host", host).with_bearer("other"), 401),
            (Call::new("GET", "/state").with_bearer("secret"), 421),
            (Call::new("GET", "/state").with_bearer("secret").with_header("host", "evil.example:1"), 421),
            (Call::new("GET", "/state").with_bearer("secret").with_header("host", "127.0.0.1:2"), 421),
            (a_call("GET", "/state", ""), 200),
        ];
        for (call, status) in rows {
            assert_eq!(control.clone().answer(call.clone()).await.status.as_u16(), status, "{call:?}");
        }
    }

    #[tokio::test]
    async fn the_state_that_is_shown_is_a_world_that_can_be_given() {
        let control = a_control();
        let (_, shown) = answered(&control, "GET", "/state", "").await;
        let again: State = serde_json::from_value(shown.clone()).unwrap();
        assert_eq!(serde_json::to_value(again).unwrap(), shown);
    }

    #[tokio::test]
    async fn locks_come_and_go_while_the_world_runs() {
        let control = a_control();
        let lock = r#"{"locks":[{"scope":"/subscriptions/s/resourceGroups/g","level":"CanNotDelete"}]}"#;
        let (status, body) = answered(&control, "PATCH", "/state", lock).await;
        assert_eq!((status, body.to_string().as_str()), (200, lock));
        assert_eq!(control.world.lock().locks.len(), 1);
        for (wrong, said) in [
            (r#"{"now":"2030-01-01T00:00:00Z"}"#, "'now' is not changed here: locks, denials, principals, subscriptions, workspaces are"),
            (r#"{"locks":[{"scope":"/","level":"Deletes"}]}"#, "unknown variant `Deletes`"),
            ("[]", "a JSON object"),
        ] {
            let (status, body) = answered(&control, "PATCH", "/state", wrong).await;
            assert!(status == 400 && body["error"].as_str().unwrap().contains(said), "{wrong}: {body}");
        }
        assert_eq!(control.world.lock().locks.len(), 1);
        let (status, _) = answered(&control, "PATCH", "/state", r#"{"locks":[]}"#).await;
        assert_eq!((status, control.world.lock().locks.len()), (200, 0));
    }

    #[tokio::test]
    async fn another_host_takes_each_event_once() {
        let control = a_control();
        let event =
            json!({"id": "e-1", "eventType": "a", "subject": "s", "eventTime": "2026-01-15T09:00:00Z", "dataVersion": "1", "data": {}});
        assert_eq!(answered(&control, "POST", "/events", &event.to_string()).await.0, 200);
        let (status, taken) = answered(&control, "POST", "/events/take", "").await;
        assert_eq!((status, &taken[0]["event"]["id"], &taken[0]["function"]), (200, &json!("e-1"), &json!("jit_activity")));
        assert_eq!(answered(&control, "POST", "/events/take", "").await, (200, json!([])));
    }

    #[tokio::test]
    async fn another_host_names_the_traces_that_it_gives() {
        let control = a_control();
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let named = json!({"traceparent": traceparent, "function": "approval", "invocation": "i-1"}).to_string();
        assert_eq!(answered(&control, "POST", "/traces", &named).await.0, 200);
        let of = control.world.trace(traceparent);
        assert_eq!(of, Some(("approval".to_owned(), "i-1".to_owned())));
        for wrong in [
            json!({"traceparent": traceparent.to_uppercase(), "function": "approval", "invocation": "i-1"}),
            json!({"function": "approval"}),
        ] {
            let (status, body) = answered(&control, "POST", "/traces", &wrong.to_string()).await;
            assert!(status == 400 && body["error"].as_str().unwrap().contains("traceparent"), "{body}");
        }
    }

    #[tokio::test]
    async fn switches_are_merged_and_unknown_ones_refused() {
        let control = a_control();
        let (status, body) = answered(&control, "POST", "/switches", r#"{"events":"never","pageSize":2}"#).await;
        assert_eq!((status, &body["events"], &body["pageSize"]), (200, &json!("never"), &json!(2)));
        let (status, body) = answered(&control, "POST", "/switches", r#"{"evnts":"late"}"#).await;
        assert_eq!(status, 400);
        assert!(body["error"].as_str().unwrap().contains("evnts"));
        let (status, _) = answered(&control, "POST", "/switches", r#"{"events":"sometimes"}"#).await;
        assert_eq!(status, 400);
        assert_eq!(control.world.lock().switches.page_size, 2);
    }

    #[tokio::test]
    async fn numbers_that_no_world_can_live_with_are_refused_by_name() {
        let control = a_control();
        let fault = |rest: &str| format!(r#"{{"effect":{{"kind":"cutBefore"}},{rest}}}"#);
        let effect = |rest: &str| format!(r#"{{"effect":{{{rest}}}}}"#);
        let mut rows = vec![
            ("/clock", r#"{"advance":"P999999999D"}"#.to_owned(), "advance"),
            ("/clock", r#"{"advance":"P99999999999D"}"#.to_owned(), "advance"),
            ("/clock", r#"{"advance":"P3000000D"}"#.to_owned(), "the end of advance must lie in the years 1970 to 9999"),
            ("/clock", r#"{"to":"+262142-01-01T00:00:00Z"}"#.to_owned(), "to must lie"),
            ("/switches", r#"{"initiatingSeconds":121}"#.to_owned(), "initiatingSeconds must be a whole number from 0 to 120, not 121"),
            ("/switches", r#"{"pageSize":-1}"#.to_owned(), "pageSize must be"),
            ("/faults", fault(r#""face":"armm""#), "face must be one of *, arm,"),
            ("/faults", fault(r#""method":"GTE""#), "method must be one of *, GET,"),
            ("/faults", fault(r#""times":0"#), "times must be"),
            ("/faults", fault(r#""skip":-1"#), "skip must be"),
            ("/faults", effect(r#""kind":"status","status":99"#), "status must be a whole number from 200 to 599, not 99"),
            ("/faults", effect(r#""kind":"status","status":600"#), "status must be"),
            ("/faults", effect(r#""kind":"status","status":503,"retryAfter":-1"#), "retryAfter must be"),
            ("/faults", effect(r#""kind":"delay","milliseconds":1e30"#), "milliseconds must be"),
        ];
        for switch in ["smallestEndSeconds", "initiatingSeconds", "expiryDelaySeconds", "operationSeconds", "activityLogSeconds"] {
            for wrong in ["-1", "9223372036854775807", "99999999999999999999", "0.5", "\"12\"", "null"] {
                rows.push(("/switches", format!(r#"{{"{switch}":{wrong}}}"#), switch));
            }
        }
        let before = control.world.lock().switches.clone();
        for (path, body, said) in rows {
            let (status, answer) = answered(&control, "POST", path, &body).await;
            assert_eq!(status, 400, "{path} {body}");
            let sentence = answer["error"].as_str().unwrap();
            assert!(sentence.contains(said) && !sentence.contains('\n'), "{body}: {sentence}");
        }
        let state = control.world.lock();
        assert_eq!((&state.switches, state.faults.len(), state.now), (&before, 0, crate::state::beginning()));
    }

    #[tokio::test]
    async fn faults_come_and_go() {
        let control = a_control();
        let fault = r#"{"face":"arm","effect":{"kind":"cutBefore"}}"#;
        assert_eq!(answered(&control, "POST", "/faults", fault).await.1.as_array().unwrap().len(), 1);
        assert_eq!(answered(&control, "POST", "/faults", "{}").await.0, 400);
        assert_eq!(answered(&control, "DELETE", "/faults", "").await, (200, json!([])));
        let (_, log) = answered(&control, "GET", "/log", "").await;
        let written: Vec<&Value> = log.as_array().unwrap().iter().map(|entry| &entry["what"]).collect();
        assert_eq!(written, ["post", "delete"]);
    }

    #[tokio::test]
    async fn the_clock_moves_as_told_and_answers_at_rest() {
        let control = a_control();
        let rows = [
            (r#"{"advance":"PT60S"}"#, 200, "2026-01-15T09:01:00Z"),
            ("{}", 200, "2026-01-15T09:01:00Z"),
            ("", 200, "2026-01-15T09:01:00Z"),
            (r#"{"to":"2026-01-15T10:00:00Z"}"#, 200, "2026-01-15T10:00:00Z"),
            (r#"{"to":"2026-01-15T09:00:00Z"}"#, 400, ""),
            (r#"{"advance":"60"}"#, 400, ""),
            (r#"{"advance":"PT1S","to":"2026-01-15T11:00:00Z"}"#, 400, ""),
            (r#"{"forward":"PT1S"}"#, 400, ""),
        ];
        for (body, status, now) in rows {
            let (answered, body) = answered(&control, "POST", "/clock", body).await;
            assert_eq!(answered, status, "{body}");
            assert_eq!(body["now"].as_str().unwrap_or_default(), now);
        }
    }

    #[tokio::test]
    async fn events_are_put_on_their_way() {
        let control = a_control();
        let event = r#"[{"id":"1","eventType":"x"},{"id":"2","type":"y"}]"#;
        assert_eq!(answered(&control, "POST", "/events", event).await, (200, json!({ "accepted": 2 })));
        for wrong in ["{}", "7", "[{\"id\":\"1\"}]", "{"] {
            assert_eq!(answered(&control, "POST", "/events", wrong).await.0, 400, "{wrong}");
        }
        assert_eq!(control.world.lock().event_grid.pending.len(), 2);
    }

    #[tokio::test]
    async fn what_does_not_exist_is_refused_with_a_sentence() {
        let control = a_control();
        for (method, path, body, status) in [
            ("GET", "/elsewhere", "", 404),
            ("PUT", "/state", "", 405),
            ("POST", "/kill", "", 409),
            ("POST", "/token", r#"{"upn":"nobody@contoso.com","audience":"https://management.azure.com"}"#, 404),
            ("POST", "/token", r#"{"audience":"https://management.azure.com"}"#, 404),
            ("POST", "/token", "{}", 400),
        ] {
            let (answered, body) = answered(&control, method, path, body).await;
            assert_eq!(answered, status, "{method} {path}");
            assert!(!body["error"].as_str().unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn a_person_gets_a_token() {
        let body = r#"{"upn":"Barbara@contoso.com","audience":"https://management.azure.com"}"#;
        let (status, body) = answered(&a_control(), "POST", "/token", body).await;
        assert_eq!(status, 200);
        assert_eq!(body["access_token"].as_str().unwrap().split('.').count(), 3);
    }
}
