//! The HTTP trigger: what the app's site answers to the world outside, with the host's routing and the two ways
//! in which it hands a request to the handler.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value};

use super::answer::HandlerResult;
use super::config::{Function, HttpMode, OutputBinding, OutputTarget, TriggerKind};
use super::deliver::{Host, traceparent};
use super::encode::{HttpBody, HttpRequest, Trigger};
use super::record::{Invocation, Outcome};
use crate::face::{Answer, Call, percent_decoded};

/// Headers that belong to one connection and are not passed on (RFC 9110), with those that the client sets itself.
const NOT_PASSED_ON: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "traceparent",
];

/// Answers a request to the site. Without a host every one is answered 503, as a stopped app does.
pub async fn answer(host: Option<Host>, call: Call) -> Answer {
    let Some(host) = host else {
        return Answer::text(StatusCode::SERVICE_UNAVAILABLE, "The app is stopped (--no-host).");
    };
    if host.has_ended() {
        return Answer::text(StatusCode::SERVICE_UNAVAILABLE, "The host has shut down.");
    }
    let segments = normal_segments(&call.path);
    let first = segments.first().map(|segment| segment.to_ascii_lowercase()).unwrap_or_default();
    if first == "admin" || first == "runtime" {
        // Both need a key of the host, which the stand-in gives to nobody.
        return Answer::empty(StatusCode::UNAUTHORIZED);
    }
    let Some((function, params)) = matched(&host, call.method.as_str(), &segments) else {
        return Answer::empty(StatusCode::NOT_FOUND);
    };
    let _under_way = host.under_way();
    match host.config().http {
        HttpMode::Proxying | HttpMode::Forwarding if is_plain_http(&function) => host.forward(&function, &segments, call).await,
        HttpMode::Proxying | HttpMode::Forwarding | HttpMode::Invocation => host.invoke_http(&function, params, call).await,
    }
}

/// The path as the server of the host sees it: percent-decoded but for slashes, dot segments gone.
fn normal_segments(path: &str) -> Vec<String> {
    let mut segments: Vec<String> = Vec::new();
    for raw in path.split('/').skip(1) {
        let kept = raw.replace("%2F", "%252F").replace("%2f", "%252f");
        match percent_decoded(&kept).as_str() {
            "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment.to_owned()),
        }
    }
    segments
}

type Params = Vec<(String, String)>;

fn matched(host: &Host, method: &str, segments: &[String]) -> Option<(Function, Params)> {
    let config = host.config();
    let prefix: Vec<&str> = config.route_prefix.split('/').filter(|part| !part.is_empty()).collect();
    let (head, rest) = segments.split_at_checked(prefix.len())?;
    if !head.iter().zip(&prefix).all(|(segment, part)| segment.eq_ignore_ascii_case(part)) {
        return None;
    }
    // Literal routes come before those with parameters, and a catch-all last.
    let mut candidates: Vec<(usize, &Function, Params)> = config
        .functions
        .iter()
        .filter_map(|function| match &function.trigger {
            TriggerKind::Http { route, methods } if methods.is_empty() || methods.iter().any(|m| m == method) => {
                let template = if route.is_empty() { &function.name } else { route };
                let params = template_params(template, rest)?;
                Some((template.matches('{').count() + 2 * template.matches("{*").count(), function, params))
            }
            _ => None,
        })
        .collect();
    candidates.sort_by_key(|(generality, _, _)| *generality);
    candidates.into_iter().next().map(|(_, function, params)| (function.clone(), params))
}

/// The values of a route's parameters, if the segments match it. A constraint after `:` is not checked.
fn template_params(template: &str, segments: &[String]) -> Option<Params> {
    let mut params = Vec::new();
    let mut rest = segments;
    for part in template.split('/').filter(|part| !part.is_empty()) {
        let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
            let (segment, others) = rest.split_first()?;
            if !segment.eq_ignore_ascii_case(part) {
                return None;
            }
            rest = others;
            continue;
        };
        let (name, optional) = match name.strip_suffix('?') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let plain = name.split(':').next().unwrap_or_default();
        if let Some(plain) = plain.strip_prefix('*') {
            if !rest.is_empty() {
                params.push((plain.trim_start_matches('*').to_owned(), rest.join("/")));
            }
            return Some(params);
        }
        match rest.split_first() {
            Some((segment, others)) if !segment.is_empty() => {
                params.push((plain.to_owned(), segment.clone()));
                rest = others;
            }
            _ if optional => {}
            _ => return None,
        }
    }
    rest.iter().all(String::is_empty).then_some(params)
}

/// Only a function with nothing but an HTTP trigger and an HTTP output is forwarded to.
fn is_plain_http(function: &Function) -> bool {
    matches!(function.outputs.as_slice(), [output] if output.target == OutputTarget::Http)
}

impl Host {
    async fn forward(&self, function: &Function, segments: &[String], call: Call) -> Answer {
        let (id, at) = self.new_invocation(&function.name);
        let began = std::time::Instant::now();
        let what = format!("{} {}", call.method, call.path);
        let ended = self.exchange(&id, segments, call).await;
        let outcome = match &ended {
            // Any status of the handler is a success of the function.
            Ok(_) => Outcome::Succeeded,
            Err(reason) => Outcome::Failed { reason: reason.clone() },
        };
        self.record().add(Invocation {
            function: function.name.clone(),
            id,
            trigger: what,
            at,
            outcome,
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            logs: Vec::new(),
        });
        ended.unwrap_or_else(|_| Answer::empty(StatusCode::INTERNAL_SERVER_ERROR))
    }

    async fn exchange(&self, id: &str, segments: &[String], call: Call) -> Result<Answer, String> {
        let base = self.base().await?;
        let generation = self.generation();
        let mut url = url::Url::parse(&base).map_err(|error| error.to_string())?;
        url.set_path(&segments.iter().map(|segment| encoded(segment)).collect::<Vec<_>>().join("/"));
        if !call.raw_query.is_empty() {
            url.set_query(Some(&call.raw_query));
        }
        let mut request = self.client().request(call.method.clone(), url);
        for (name, value) in &call.headers {
            let is_ours = name.as_str().starts_with("x-azure-functions-");
            if !is_ours && name != "x-forwarded-for" && !NOT_PASSED_ON.contains(&name.as_str()) {
                request = request.header(name, value);
            }
        }
        request = request
            .header("X-Forwarded-For", forwarded_for(&call))
            .header("X-Forwarded-Proto", "https")
            .header("X-Azure-Functions-InvocationId", id)
            .header("traceparent", traceparent(id))
            .body(self.passed_body(&call));
        let limit = self.config().function_timeout;
        let exchange = async {
            let response = request.send().await?;
            let mut answer = Answer::empty(response.status());
            for (name, value) in response.headers() {
                if let (false, Ok(value)) = (NOT_PASSED_ON.contains(&name.as_str()), value.to_str()) {
                    answer = answer.with(name.as_str(), value);
                }
            }
            answer.body = response.bytes().await?;
            Ok::<_, reqwest::Error>(answer)
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.connection_broke(generation).await;
                Err(format!("the connection to the handler failed: {error}"))
            }
            Err(_) => {
                self.kill();
                Err(format!("no answer within the function's timeout of {limit:?}: the handler was killed"))
            }
        }
    }

    /// Plain forwarding copies a body only if the request says how long it is; proxying copies any.
    fn passed_body(&self, call: &Call) -> Bytes {
        let said = call.header("content-length").is_some_and(|length| length != "0");
        match self.config().http {
            HttpMode::Proxying => call.body.clone(),
            HttpMode::Forwarding if said => call.body.clone(),
            HttpMode::Forwarding | HttpMode::Invocation => Bytes::new(),
        }
    }

    async fn invoke_http(&self, function: &Function, params: Params, call: Call) -> Answer {
        let what = format!("{} {}", call.method, call.path);
        let trigger = Trigger::Http(Box::new(invocation_request(params, &call)));
        let (outcome, result) = self.invoke_for_result(function, &trigger, what).await;
        match outcome {
            Outcome::Failed { .. } => Answer::empty(StatusCode::INTERNAL_SERVER_ERROR),
            Outcome::Succeeded => {
                let output = function.outputs.iter().find(|output| output.target == OutputTarget::Http);
                match output.map(|output| (output.name.as_str(), result.outputs.get(&output.name))) {
                    Some(("$return", _)) => http_output(&result.return_value),
                    Some((_, Some(value))) => response_object(value).map_or_else(|| Answer::empty(StatusCode::OK), |it| response(&it)),
                    Some((_, None)) | None => Answer::empty(StatusCode::OK),
                }
            }
        }
    }
}

/// The caller's address is appended with its port, as the platform's front end does.
fn forwarded_for(call: &Call) -> String {
    let caller = format!("{}:{}", call.ip, call.port);
    match call.header("x-forwarded-for") {
        Some(claimed) if !claimed.is_empty() => format!("{claimed}, {caller}"),
        _ => caller,
    }
}

fn encoded(segment: &str) -> String {
    let mut text = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => text.push(char::from(byte)),
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' => {
                text.push(char::from(byte))
            }
            // A slash that came escaped was kept escaped.
            b'%' if segment.contains("%2F") || segment.contains("%2f") => text.push('%'),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

fn invocation_request(params: Params, call: &Call) -> HttpRequest {
    let mut headers: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in &call.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        match headers.iter_mut().find(|(known, _)| known == name.as_str()) {
            Some((_, values)) => values.push(value),
            None => headers.push((name.as_str().to_owned(), vec![value])),
        }
    }
    let content_type = call.header("content-type").unwrap_or_default().to_ascii_lowercase();
    let binary = content_type.starts_with("application/octet-stream") || content_type.starts_with("multipart/");
    let has_length = call.header("content-length").is_some_and(|length| length != "0");
    let query = if call.raw_query.is_empty() { String::new() } else { format!("?{}", call.raw_query) };
    HttpRequest {
        url: format!("{}{}{query}", call.base, call.path),
        method: call.method.to_string(),
        query: call.query.clone(),
        headers,
        params,
        body: has_length.then(|| match binary {
            true => HttpBody::Bytes(call.body.to_vec()),
            false => HttpBody::Text(String::from_utf8_lossy(&call.body).into_owned()),
        }),
    }
}

/// The value of an HTTP output of a name must be a response, as an object or as its JSON text.
pub(super) fn check_output(binding: &OutputBinding, result: &HandlerResult) -> Result<(), String> {
    match result.outputs.get(&binding.name) {
        Some(value) if binding.name != "$return" && response_object(value).is_none() => {
            Err(format!("output binding '{}' is no HTTP response, an object with statusCode, body and headers", binding.name))
        }
        Some(_) | None => Ok(()),
    }
}

fn response_object(value: &Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(members) => Some(members.clone()),
        Value::String(text) => serde_json::from_str(text).ok(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

/// A return value is a response if it is an object with a body; anything else is itself the body.
fn http_output(value: &Value) -> Answer {
    match value {
        Value::Object(members) if members.keys().any(|key| key.eq_ignore_ascii_case("body")) => response(members),
        Value::Null => Answer::empty(StatusCode::OK),
        Value::String(text) => Answer::text(StatusCode::OK, text),
        other => Answer::json(StatusCode::OK, other),
    }
}

/// Status, body and headers of a response object, whose keys compare without case.
fn response(members: &Map<String, Value>) -> Answer {
    let member = |name: &str| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v).filter(|v| !v.is_null());
    let status = match member("statusCode").or(member("status")) {
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(other) => other.as_u64().and_then(|status| u16::try_from(status).ok()),
        None => None,
    };
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
    let mut answer = match member("body") {
        Some(Value::String(text)) => Answer::text(status, text),
        Some(other) => Answer::json(status, other),
        None => Answer::empty(status),
    };
    if let Some(Value::Object(headers)) = member("headers") {
        for (name, value) in headers {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            answer.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
            answer = answer.with(name, &value);
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::answer::OutputStrings;
    use super::*;

    fn params(template: &str, path: &str) -> Option<Params> {
        template_params(template, &normal_segments(path))
    }

    fn pair(name: &str, value: &str) -> Params {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn routes_match_as_the_hosts_do() {
        assert_eq!(params("{*path}", "/"), Some(pair("path", "")));
        assert_eq!(params("{*path}", "/a/b"), Some(pair("path", "a/b")));
        assert_eq!(params("orders/{id:int}", "/ORDERS/7"), Some(pair("id", "7")));
        assert_eq!(params("orders/{id?}", "/orders"), Some(Vec::new()));
        assert_eq!(params("orders/{id}", "/orders"), None);
        assert_eq!(params("orders", "/orders/7"), None);
    }

    #[test]
    fn a_path_is_normal_before_it_is_matched() {
        assert_eq!(normal_segments("/api/../approval"), ["approval"]);
        assert_eq!(normal_segments("/%61pi/%2e%2e/x"), ["x"]);
        assert_eq!(normal_segments("/api/a%2Fb"), ["api", "a%2Fb"]);
        assert_eq!(encoded("a%2Fb"), "a%2Fb");
        assert_eq!(encoded("ü "), "%C3%BC%20");
    }

    #[test]
    fn the_callers_address_is_appended() {
        let call = Call::new("GET", "/api/x").with_header("X-Forwarded-For", "203.0.113.7:1");
        assert_eq!(forwarded_for(&call), format!("203.0.113.7:1, 127.0.0.1:{}", call.port));
    }

    fn checked(value: Value) -> Option<Answer> {
        let binding = OutputBinding { name: "res".to_owned(), target: OutputTarget::Http, strings: OutputStrings::Guessed };
        let outputs = Map::from_iter([("res".to_owned(), value.clone())]);
        check_output(&binding, &HandlerResult { outputs, ..HandlerResult::default() }).ok()?;
        response_object(&value).map(|object| response(&object))
    }

    #[test]
    fn an_http_output_is_a_response_as_an_object_or_as_its_text() {
        let full = json!({ "StatusCode": "301", "Status": "Succeeded", "Body": "foobar", "Headers": { "header1": "one", "Content-Type": "text/css" } });
        let rows = [
            (json!({ "statusCode": "204" }), (204, "", None)),
            (json!({ "body": "hello" }), (200, "hello", Some("text/plain; charset=utf-8"))),
            (json!({ "body": "hello", "statusCode": "300" }), (300, "hello", Some("text/plain; charset=utf-8"))),
            (full, (301, "foobar", Some("text/css"))),
            (json!({ "status": 418 }), (418, "", None)),
            (json!({ "status": 418, "statusCode": 409 }), (409, "", None)),
            (json!({ "status": "Succeeded", "body": "x" }), (200, "x", Some("text/plain; charset=utf-8"))),
            (json!({ "body": { "a": 1 } }), (200, "{\"a\":1}", Some("application/json; charset=utf-8"))),
            (json!({ "body": null, "headers": null }), (200, "", None)),
            (json!({}), (200, "", None)),
        ];
        for (value, (status, body, content_type)) in rows {
            for value in [value.clone(), json!(value.to_string())] {
                let answer = checked(value.clone()).unwrap();
                assert_eq!((answer.status.as_u16(), &answer.body[..]), (status, body.as_bytes()), "{value}");
                assert_eq!(answer.header("content-type"), content_type, "{value}");
                assert!(answer.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-type")).count() < 2);
            }
        }
        for value in [json!("SomeBlah"), json!("[]"), json!("null"), json!(7), json!([]), Value::Null] {
            assert!(checked(value.clone()).is_none(), "{value}");
        }
    }

    #[test]
    fn a_return_value_is_the_body_unless_it_has_one() {
        assert_eq!(http_output(&json!("text")).body, "text");
        assert_eq!(http_output(&json!({ "a": 1 })).body, "{\"a\":1}");
        assert_eq!(http_output(&json!({ "a": 1 })).status, 200);
        let answer = http_output(&json!({ "statusCode": "202", "body": "x", "headers": { "a": "b" } }));
        assert_eq!((answer.status.as_u16(), &answer.body[..], answer.header("a")), (202, &b"x"[..], Some("b")));
    }
}
