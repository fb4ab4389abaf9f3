//! Microsoft Graph: users, and which of some groups somebody is in.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::entra::{self, NotAuthenticated};
use crate::face::{Answer, Call};
use crate::machine;
use crate::state::{Principal, State};

const AUDIENCES: &[&str] = &["https://graph.microsoft.com", "00000003-0000-0000-c000-000000000000"];
/// Groups that one `checkMemberGroups` may ask for (documentation).
const MOST_GROUPS: usize = 20;

/// Answers one request to Microsoft Graph.
pub fn answer(state: &mut State, call: &Call) -> Answer {
    match answered(state, call) {
        Ok(answer) | Err(answer) => answer,
    }
}

fn answered(state: &State, call: &Call) -> Result<Answer, Answer> {
    entra::authenticate(state, call, AUDIENCES).map_err(|why| {
        let message = match why {
            NotAuthenticated::Missing => "Access token is empty.".to_owned(),
            NotAuthenticated::Expired => "Lifetime validation failed, the token is expired.".to_owned(),
            NotAuthenticated::Invalid(why) => why,
        };
        error(state, call, StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", &message)
    })?;
    let segments = call.segments();
    match (&call.method, segments.iter().map(String::as_str).collect::<Vec<_>>().as_slice()) {
        (&Method::GET, ["v1.0", "users", name]) => {
            let user = user(state, call, name)?;
            Ok(Answer::json(StatusCode::OK, &shown(call, user)))
        }
        (&Method::POST, ["v1.0", "users", name, "checkMemberGroups"]) => check_member_groups(state, call, user(state, call, name)?),
        (&Method::POST, ["v1.0", "directoryObjects", id, "checkMemberGroups"]) => {
            let object = state.principals.iter().find(|one| one.object_id.eq_ignore_ascii_case(id));
            check_member_groups(state, call, object.ok_or_else(|| not_found(state, call, id))?)
        }
        (_, segments) => {
            let message = format!("Resource not found for the segment '{}'.", segments.last().unwrap_or(&""));
            Err(error(state, call, StatusCode::BAD_REQUEST, "BadRequest", &message))
        }
    }
}

/// Users are people only, by object id or user principal name.
fn user<'a>(state: &'a State, call: &Call, name: &str) -> Result<&'a Principal, Answer> {
    let is = |one: &&Principal| !one.upn.is_empty() && (one.object_id.eq_ignore_ascii_case(name) || one.upn.eq_ignore_ascii_case(name));
    state.principals.iter().find(is).ok_or_else(|| not_found(state, call, name))
}

fn shown(call: &Call, user: &Principal) -> Value {
    let context = format!("{}/v1.0/$metadata#users/$entity", call.base);
    let whole = json!({
        "businessPhones": [],
        "displayName": user.name,
        "givenName": null,
        "id": user.object_id,
        "jobTitle": null,
        "mail": null,
        "mobilePhone": null,
        "officeLocation": null,
        "preferredLanguage": null,
        "surname": null,
        "userPrincipalName": user.upn,
    });
    let mut shown = match (call.param("$select"), whole) {
        (Some(select), Value::Object(fields)) => {
            let names: Vec<&str> = select.split(',').map(str::trim).collect();
            let chosen = |field: &String| names.iter().any(|name| name.eq_ignore_ascii_case(field));
            Value::Object(fields.into_iter().filter(|(field, _)| chosen(field)).collect())
        }
        (_, whole) => whole,
    };
    shown["@odata.context"] = json!(context);
    shown
}

fn check_member_groups(state: &State, call: &Call, object: &Principal) -> Result<Answer, Answer> {
    let wrong = |message: &str| error(state, call, StatusCode::BAD_REQUEST, "Request_BadRequest", message);
    let body: Value =
        serde_json::from_slice(&call.body).map_err(|error| wrong(&format!("Unable to read JSON request payload: {error}.")))?;
    let asked = body
        .get("groupIds")
        .and_then(Value::as_array)
        .ok_or_else(|| wrong("A value is required for parameter 'groupIds' of type 'Collection(Edm.String)'."))?;
    if asked.len() > MOST_GROUPS {
        return Err(wrong(&format!("The number of included identifiers cannot exceed '{MOST_GROUPS}'.")));
    }
    let ids: Option<Vec<&str>> = asked.iter().map(Value::as_str).collect();
    let ids = ids.ok_or_else(|| wrong("'groupIds' must hold strings only."))?;
    let of: Vec<&str> = ids.into_iter().filter(|id| object.groups.iter().any(|group| group.eq_ignore_ascii_case(id))).collect();
    let context = format!("{}/v1.0/$metadata#Collection(Edm.String)", call.base);
    Ok(Answer::json(StatusCode::OK, &json!({ "@odata.context": context, "value": of })))
}

fn not_found(state: &State, call: &Call, name: &str) -> Answer {
    let message = format!("Resource '{name}' does not exist or one of its queried reference-property objects are not present.");
    error(state, call, StatusCode::NOT_FOUND, "Request_ResourceNotFound", &message)
}

fn error(state: &State, call: &Call, status: StatusCode, code: &str, message: &str) -> Answer {
    let request = machine::uuid();
    let client = call.header("client-request-id").unwrap_or(&request);
    Answer::json(
        status,
        &json!({
            "error": {
                "code": code,
                "message": message,
                "innerError": {
                    "date": state.now.format("%Y-%m-%dT%H:%M:%S").to_string(),
                    "request-id": request,
                    "client-request-id": client,
                },
            },
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> State {
        let person = Principal {
            object_id: "oid-ada".to_owned(),
            upn: "ada@example.org".to_owned(),
            name: "Ada".to_owned(),
            groups: vec!["g-1".to_owned(), "g-2".to_owned()],
            ..Principal::default()
        };
        let application =
            Principal { object_id: "oid-app".to_owned(), app_id: "app".to_owned(), groups: vec!["g-1".to_owned()], ..Principal::default() };
        State { principals: vec![person, application], ..State::default() }
    }

    fn asked(method: &str, target: &str, body: &str) -> (u16, Value) {
        let mut state = directory();
        let token = entra::mint(&state, "oid-app", "https://graph.microsoft.com").unwrap();
        let call = Call::new(method, target).with_bearer(&token).with_body(body.to_owned());
        let answer = answer(&mut state, &call);
        (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap())
    }

    #[test]
    fn a_person_is_found_by_either_name() {
        for name in ["oid-ada", "ADA@example.org", "ada%40example.org"] {
            let (status, body) = asked("GET", &format!("/v1.0/users/{name}"), "");
            assert_eq!((status, body["id"].as_str()), (200, Some("oid-ada")), "{name}");
            assert_eq!(body["userPrincipalName"], "ada@example.org");
        }
        let (_, body) = asked("GET", "/v1.0/users/oid-ada?$select=id", "");
        assert!(body.get("displayName").is_none() && body["id"] == "oid-ada");
        let (status, body) = asked("GET", "/v1.0/users/oid-app", "");
        assert_eq!((status, body["error"]["code"].as_str()), (404, Some("Request_ResourceNotFound")));
    }

    #[test]
    fn of_some_groups_those_are_told_that_somebody_is_in() {
        let groups = r#"{"groupIds":["G-2","g-3"]}"#;
        let (status, body) = asked("POST", "/v1.0/users/ada@example.org/checkMemberGroups", groups);
        assert_eq!((status, &body["value"]), (200, &json!(["G-2"])));
        let (_, body) = asked("POST", "/v1.0/directoryObjects/oid-app/checkMemberGroups", groups);
        assert_eq!(body["value"], json!([]));
    }

    #[test]
    fn each_refusal_has_graphs_status_and_code() {
        let check = "/v1.0/users/oid-ada/checkMemberGroups";
        let many = json!({ "groupIds": vec!["g"; 21] }).to_string();
        let table = [
            ("POST", "/v1.0/users/nobody/checkMemberGroups", "{}", 404, "Request_ResourceNotFound"),
            ("POST", "/v1.0/directoryObjects/nobody/checkMemberGroups", "{}", 404, "Request_ResourceNotFound"),
            ("POST", check, "{", 400, "Request_BadRequest"),
            ("POST", check, "{}", 400, "Request_BadRequest"),
            ("POST", check, r#"{"groupIds":[1]}"#, 400, "Request_BadRequest"),
            ("POST", check, &many, 400, "Request_BadRequest"),
            ("GET", "/v1.0/planets", "", 400, "BadRequest"),
        ];
        for (method, target, body, status, code) in table {
            let (answered, answer) = asked(method, target, body);
            assert_eq!((answered, answer["error"]["code"].as_str()), (status, Some(code)), "{target} {body}");
        }
        let mut state = directory();
        let bare = answer(&mut state, &Call::new("GET", "/v1.0/users/oid-ada"));
        assert_eq!(bare.status, 401);
        let wrong = entra::mint(&state, "oid-app", "https://management.azure.com").unwrap();
        let wrong = Call::new("GET", "/v1.0/users/oid-ada").with_bearer(&wrong);
        assert_eq!(answer(&mut state, &wrong).status, 401);
    }
}
