//! Blob storage: the calls of a block-blob store, path style, with Azure's conditions and its XML.
//!
//! The account is `portcullisstate`; a blob's address is `/portcullisstate/{container}/{blob}`. Local
//! authorization is off, as it is for the product: shared keys and SAS are refused.

mod conditions;
mod list;
mod properties;
mod request;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};

use crate::face::{Answer, Call, http_date, xml_escaped};
use crate::state::{Blob, Caller, Container, Deed, State};
use conditions::{Access, Refusal};
use properties::Said;
use request::{Target, authorized, may};

/// The storage account's name, the first segment of every path.
pub const ACCOUNT: &str = "portcullisstate";
/// Before the content of a blob whose bytes are kept as base64.
const BASE64: &str = "base64:";
/// The longest name of a blob (documentation: 1,024 characters).
const LONGEST_NAME: usize = 1_024;

const READ: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read";
const WRITE: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write";
const ADD: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action";
const DELETE: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete";
const READ_CONTAINER: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/read";
const WRITE_CONTAINER: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/write";

/// An error as the Blob service writes it: XML, and the code once more in `x-ms-error-code`.
pub fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    detailed_error(status, code, message, &[])
}

fn detailed_error(status: StatusCode, code: &str, message: &str, details: &[(&str, &str)]) -> Answer {
    let mut body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{}</Code><Message>{}</Message>",
        xml_escaped(code),
        xml_escaped(message)
    );
    for (name, value) in details {
        body.push_str(&format!("<{name}>{}</{name}>", xml_escaped(value)));
    }
    body.push_str("</Error>");
    Answer::xml(status, body).with("x-ms-error-code", code)
}

/// Answers one request to the storage account.
pub fn answer(state: &mut State, call: &Call) -> Answer {
    let answer = match answered(state, call) {
        Ok(answer) | Err(answer) => answer,
    };
    let answer = match call.header("x-ms-version") {
        Some(version) => answer.with("x-ms-version", version),
        None => answer,
    };
    let answer = match call.header("x-ms-client-request-id") {
        Some(id) => answer.with("x-ms-client-request-id", id),
        None => answer,
    };
    answer.with("Server", "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0")
}

fn answered(state: &mut State, call: &Call) -> Result<Answer, Answer> {
    let caller = authorized(state, call)?;
    match Target::of(call)? {
        Target::Container(container) => on_container(state, call, &caller, &container),
        Target::Blob(container, name) => on_blob(state, call, &caller, &container, &name),
    }
}

fn on_container(state: &mut State, call: &Call, caller: &Caller, container: &str) -> Result<Answer, Answer> {
    match (&call.method, call.param("comp")) {
        (&Method::PUT, None) => {
            let create = || properties::refuse_undone(call).and_then(|()| properties::refuse_metadata(call));
            let answer = match create().and_then(|()| create_container(state, caller, container)) {
                Ok(answer) | Err(answer) => answer,
            };
            state.record(caller, "blob", "put", container, answer.status.as_u16());
            Ok(answer)
        }
        (&Method::GET | &Method::HEAD, None) => {
            may(state, caller, READ_CONTAINER)?;
            find(state, container)?;
            Ok(Answer::empty(StatusCode::OK).with("x-ms-lease-status", "unlocked").with("x-ms-lease-state", "available"))
        }
        (&Method::GET, Some("list")) => {
            may(state, caller, READ)?;
            list::answer(find(state, container)?, call, container, state.switches.page_size)
        }
        _ => Err(unsupported(call)),
    }
}

fn create_container(state: &mut State, caller: &Caller, container: &str) -> Result<Answer, Answer> {
    may(state, caller, WRITE_CONTAINER)?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = container.starts_with('-') || container.ends_with('-') || container.contains("--");
    if !(3..=63).contains(&container.len()) || !container.chars().all(allowed) || edge {
        let message = "The specified resource name contains invalid characters.";
        return Err(error(StatusCode::BAD_REQUEST, "InvalidResourceName", message));
    }
    if state.containers.contains_key(container) {
        return Err(error(StatusCode::CONFLICT, "ContainerAlreadyExists", "The specified container already exists."));
    }
    state.containers.insert(container.to_owned(), Container::default());
    let etag = next_etag(state);
    Ok(Answer::empty(StatusCode::CREATED).with("ETag", &etag).with("Last-Modified", &http_date(state.now)))
}

fn on_blob(state: &mut State, call: &Call, caller: &Caller, container: &str, name: &str) -> Result<Answer, Answer> {
    if call.param("comp").is_some() {
        return Err(unsupported(call));
    }
    let (what, done) = match call.method {
        Method::GET | Method::HEAD => return read(state, call, caller, container, name),
        Method::PUT => ("put", write(state, call, caller, container, name)),
        Method::DELETE => ("delete", remove(state, call, caller, container, name)),
        _ => return Err(unsupported(call)),
    };
    let answer = match done {
        Ok(answer) | Err(answer) => answer,
    };
    state.record(caller, "blob", what, &format!("{container}/{name}"), answer.status.as_u16()).condition = call.condition();
    Ok(answer)
}

/// What a write would do, whether it may or not; none for a read and for what names nothing.
pub(crate) fn deed(state: &State, call: &Call) -> Option<Deed> {
    let what = match call.method {
        Method::PUT => "put",
        Method::DELETE => "delete",
        _ => return None,
    };
    let target = match Target::of(call).ok()? {
        Target::Container(container) => container,
        Target::Blob(container, name) => format!("{container}/{name}"),
    };
    let caller = authorized(state, call).unwrap_or_else(|_| Caller::anonymous(&call.ip));
    Some(Deed { caller, what: what.to_owned(), target })
}

fn read(state: &State, call: &Call, caller: &Caller, container: &str, name: &str) -> Result<Answer, Answer> {
    may(state, caller, READ)?;
    let blob = find(state, container)?.blobs.get(name).ok_or_else(blob_not_found)?;
    conditions::check(call, Some(blob), Access::Read).map_err(refused)?;
    let bytes = content_bytes(&blob.content);
    let mut answer = properties::given_back(blob, &bytes, ranged(call, &bytes)?)
        .with("Content-Type", &blob.content_type)
        .with("Accept-Ranges", "bytes")
        .with("ETag", &blob.etag)
        .with("Last-Modified", &http_date(blob.last_modified))
        .with("x-ms-blob-type", "BlockBlob")
        .with("x-ms-lease-status", "unlocked")
        .with("x-ms-lease-state", "available")
        .with("x-ms-server-encrypted", "true");
    if call.method == Method::HEAD {
        // Get Blob Properties knows no ranges, and its length is that of the body that a GET would have.
        answer.status = StatusCode::OK;
    }
    Ok(answer)
}

/// The whole body, or the part that `x-ms-range` or `Range` names.
fn ranged(call: &Call, bytes: &[u8]) -> Result<Answer, Answer> {
    let whole = |bytes: &[u8]| Answer { body: bytes.to_vec().into(), ..Answer::empty(StatusCode::OK) };
    let header = call.header("x-ms-range").or_else(|| call.header("range"));
    // A range that HTTP does not know is ignored, as RFC 9110 has it.
    let Some((first, last)) = header.and_then(parse_range).filter(|_| call.method == Method::GET) else {
        return Ok(whole(bytes));
    };
    if first >= bytes.len() {
        let message = "The range specified is invalid for the current size of the resource.";
        return Err(
            error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", message).with("Content-Range", &format!("bytes */{}", bytes.len()))
        );
    }
    let last = last.min(bytes.len() - 1);
    let content_range = format!("bytes {first}-{last}/{}", bytes.len());
    let part = Answer { body: bytes[first..=last].to_vec().into(), ..Answer::empty(StatusCode::PARTIAL_CONTENT) };
    Ok(part.with("Content-Range", &content_range))
}

fn parse_range(header: &str) -> Option<(usize, usize)> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let last = if last.is_empty() { usize::MAX } else { last.parse().ok()? };
    (first <= last).then_some((first, last))
}

fn write(state: &mut State, call: &Call, caller: &Caller, container: &str, name: &str) -> Result<Answer, Answer> {
    let existing = state.containers.get(container).and_then(|container| container.blobs.get(name));
    // `add/action` creates and never replaces.
    may(state, caller, WRITE).or_else(|refused| match existing {
        None => may(state, caller, ADD),
        Some(_) => Err(refused),
    })?;
    match call.header("x-ms-blob-type") {
        Some("BlockBlob") => {}
        Some(other) => return Err(invalid_header("x-ms-blob-type", other)),
        None => {
            let message = "An HTTP header that's mandatory for this request is not specified.";
            let details = [("HeaderName", "x-ms-blob-type")];
            return Err(detailed_error(StatusCode::BAD_REQUEST, "MissingRequiredHeader", message, &details));
        }
    }
    if name.chars().count() > LONGEST_NAME {
        return Err(error(StatusCode::BAD_REQUEST, "InvalidInput", "One of the request inputs is not valid."));
    }
    find(state, container)?;
    conditions::check(call, existing, Access::Write).map_err(refused)?;
    let content_type = call.header("x-ms-blob-content-type").or_else(|| call.header("content-type")).unwrap_or("application/octet-stream");
    let said = Said::of(call)?;
    let content_md5 = said.content_md5.clone();
    let etag = put(state, container, name, &call.body, content_type);
    if let Some(blob) = state.containers.get_mut(container).and_then(|container| container.blobs.get_mut(name)) {
        said.give_to(blob);
    }
    Ok(Answer::empty(StatusCode::CREATED)
        .with("ETag", &etag)
        .with("Content-MD5", &content_md5)
        .with("Last-Modified", &http_date(state.now))
        .with("x-ms-request-server-encrypted", "true"))
}

fn remove(state: &mut State, call: &Call, caller: &Caller, container: &str, name: &str) -> Result<Answer, Answer> {
    may(state, caller, DELETE)?;
    let blob = find(state, container)?.blobs.get(name).ok_or_else(blob_not_found)?;
    conditions::check(call, Some(blob), Access::Write).map_err(refused)?;
    if let Some(container) = state.containers.get_mut(container) {
        container.blobs.remove(name);
    }
    Ok(Answer::empty(StatusCode::ACCEPTED).with("x-ms-delete-type-permanent", "true"))
}

/// Writes a block blob past every check, into a container that is made if need be. Gives the new ETag.
pub fn put(state: &mut State, container: &str, name: &str, bytes: &[u8], content_type: &str) -> String {
    let etag = next_etag(state);
    let blob = Blob {
        content: content_of(bytes),
        content_type: content_type.to_owned(),
        headers: BTreeMap::new(),
        metadata: BTreeMap::new(),
        etag: etag.clone(),
        last_modified: state.now,
    };
    let container = state.containers.entry(container.to_owned()).or_default();
    container.blobs.insert(name.to_owned(), blob);
    etag
}

/// The bytes of a blob's content as the state keeps it.
pub fn content_bytes(content: &str) -> Vec<u8> {
    content.strip_prefix(BASE64).and_then(|encoded| STANDARD.decode(encoded).ok()).unwrap_or_else(|| content.as_bytes().to_vec())
}

/// Bytes as the state keeps them: text as it is, everything else as base64.
pub fn content_of(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with(BASE64) => text.to_owned(),
        _ => format!("{BASE64}{}", STANDARD.encode(bytes)),
    }
}

fn next_etag(state: &mut State) -> String {
    format!("\"0x8DE5A4D{:08X}\"", state.take_id())
}

fn find<'a>(state: &'a State, container: &str) -> Result<&'a Container, Answer> {
    state
        .containers
        .get(container)
        .ok_or_else(|| error(StatusCode::NOT_FOUND, "ContainerNotFound", "The specified container does not exist."))
}

fn blob_not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "BlobNotFound", "The specified blob does not exist.")
}

fn invalid_header(name: &str, value: &str) -> Answer {
    let message = "The value for one of the HTTP headers is not in the correct format.";
    let details = [("HeaderName", name), ("HeaderValue", value)];
    detailed_error(StatusCode::BAD_REQUEST, "InvalidHeaderValue", message, &details)
}

fn unsupported(call: &Call) -> Answer {
    match call.param("comp") {
        Some(comp) => detailed_error(
            StatusCode::BAD_REQUEST,
            "UnsupportedQueryParameter",
            "One of the query parameters specified in the request URI is not supported by the sandbox.",
            &[("QueryParameterName", "comp"), ("QueryParameterValue", comp)],
        ),
        None => error(StatusCode::METHOD_NOT_ALLOWED, "UnsupportedHttpVerb", "The resource doesn't support specified Http Verb."),
    }
}

fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::AlreadyExists => error(StatusCode::CONFLICT, "BlobAlreadyExists", "The specified blob already exists."),
        Refusal::NotMet => error(
            StatusCode::PRECONDITION_FAILED,
            "ConditionNotMet",
            "The condition specified using HTTP conditional header(s) is not met.",
        ),
        Refusal::NotModified => Answer::empty(StatusCode::NOT_MODIFIED).with("x-ms-error-code", "ConditionNotMet"),
        Refusal::Malformed(name, value) => invalid_header(name, &value),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::entra;
    use crate::state::Condition;
    use crate::state::testing::one_application;

    pub(crate) fn account(actions: &[&str]) -> State {
        let mut state = one_application(actions);
        state.containers.insert("state".to_owned(), Container::default());
        state
    }

    pub(crate) fn call(state: &State, method: &str, target: &str) -> Call {
        let token = entra::mint(state, "oid", "https://storage.azure.com").unwrap();
        Call::new(method, target).with_bearer(&token).with_header("x-ms-version", "2026-04-06")
    }

    pub(crate) fn asked(state: &mut State, method: &str, target: &str) -> Answer {
        let call = call(state, method, target);
        answer(state, &call)
    }

    fn put_call(state: &State, name: &str, body: &str) -> Call {
        call(state, "PUT", &format!("/portcullisstate/state/{name}"))
            .with_header("x-ms-blob-type", "BlockBlob")
            .with_header("x-ms-blob-content-type", "application/json")
            .with_body(body.to_owned())
    }

    fn outcome(answer: &Answer) -> (u16, &str) {
        (answer.status.as_u16(), answer.header("x-ms-error-code").unwrap_or(""))
    }

    #[test]
    fn a_blob_is_created_once_and_replaced_only_as_read() {
        let mut state = account(&["*"]);
        let create = put_call(&state, "a/b", "1").with_header("if-none-match", "*");
        let created = answer(&mut state, &create);
        assert_eq!(outcome(&created), (201, ""));
        assert_eq!(outcome(&answer(&mut state, &create)), (409, "BlobAlreadyExists"));

        let etag = created.header("etag").unwrap().to_owned();
        let replace = put_call(&state, "a/b", "2").with_header("if-match", &etag);
        let replaced = answer(&mut state, &replace);
        assert_eq!(outcome(&replaced), (201, ""));
        assert_ne!(replaced.header("etag"), Some(etag.as_str()));
        assert_eq!(outcome(&answer(&mut state, &replace)), (412, "ConditionNotMet"));
        let absent = put_call(&state, "other", "2").with_header("if-match", &etag);
        assert_eq!(outcome(&answer(&mut state, &absent)), (412, "ConditionNotMet"));
    }

    #[test]
    fn a_blob_is_read_whole_and_in_part() {
        let mut state = account(&["*"]);
        let created = put_call(&state, "a%20b/c", "0123456789");
        answer(&mut state, &created);
        let whole = asked(&mut state, "GET", "/portcullisstate/state/a%20b%2Fc");
        assert_eq!(whole.status, 200);
        assert_eq!(whole.body, "0123456789");
        assert_eq!(whole.header("content-type"), Some("application/json"));
        assert_eq!(whole.header("x-ms-blob-type"), Some("BlockBlob"));
        assert_eq!(whole.header("last-modified"), Some("Thu, 15 Jan 2026 09:00:00 GMT"));

        let part = call(&state, "GET", "/portcullisstate/state/a%20b/c").with_header("range", "bytes=2-4194303");
        let part = answer(&mut state, &part);
        assert_eq!((part.status.as_u16(), &part.body[..]), (206, &b"23456789"[..]));
        assert_eq!(part.header("content-range"), Some("bytes 2-9/10"));
        let head = asked(&mut state, "HEAD", "/portcullisstate/state/a%20b/c");
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 10));

        put(&mut state, "state", "empty", b"", "text/plain");
        let none = call(&state, "GET", "/portcullisstate/state/empty").with_header("range", "bytes=0-9");
        let none = answer(&mut state, &none);
        assert_eq!(outcome(&none), (416, "InvalidRange"));
        assert_eq!(none.header("content-range"), Some("bytes */0"));
    }

    #[test]
    fn bytes_that_are_no_text_survive() {
        let mut state = account(&["*"]);
        for bytes in [&[0xff, 0x00, 0x80][..], b"base64:AAAA", b"plain"] {
            put(&mut state, "state", "x", bytes, "application/octet-stream");
            let read = asked(&mut state, "GET", "/portcullisstate/state/x");
            assert_eq!(&read.body[..], bytes);
        }
    }

    #[test]
    fn a_blob_is_deleted_only_as_read() {
        let mut state = account(&["*"]);
        let etag = put(&mut state, "state", "x", b"1", "text/plain");
        let stale = call(&state, "DELETE", "/portcullisstate/state/x").with_header("if-match", "\"0x1\"");
        assert_eq!(outcome(&answer(&mut state, &stale)), (412, "ConditionNotMet"));
        let fresh = call(&state, "DELETE", "/portcullisstate/state/x").with_header("if-match", &etag);
        assert_eq!(outcome(&answer(&mut state, &fresh)), (202, ""));
        assert_eq!(outcome(&answer(&mut state, &fresh)), (404, "BlobNotFound"));
        let written: Vec<(&str, u16)> = state.log.iter().map(|entry| (entry.what.as_str(), entry.status)).collect();
        assert_eq!(written, [("delete", 412), ("delete", 202), ("delete", 404)]);
        assert_eq!(state.log[0].target, "state/x");
    }

    #[test]
    fn the_log_says_under_which_condition_a_blob_was_written() {
        let mut state = account(&["*"]);
        let (none, new) = (put_call(&state, "x", "1"), put_call(&state, "y", "1").with_header("if-none-match", "*"));
        let delete = call(&state, "DELETE", "/portcullisstate/state/x").with_header("if-match", "\"stale\"");
        for call in [none, new, delete] {
            answer(&mut state, &call);
        }
        let conditions: Vec<_> = state.log.iter().map(|entry| (entry.status, entry.condition)).collect();
        assert_eq!(conditions, [(201, None), (201, Some(Condition::IfNoneMatch)), (412, Some(Condition::IfMatch))]);
        let shown = serde_json::to_value(&state.log).unwrap();
        assert_eq!((&shown[1]["condition"], shown[0].get("condition")), (&serde_json::json!("if-none-match"), None));
    }

    #[test]
    fn a_read_meets_its_conditions() {
        let mut state = account(&["*"]);
        let etag = put(&mut state, "state", "x", b"1", "text/plain");
        let get = || call(&account(&["*"]), "GET", "/portcullisstate/state/x");
        assert_eq!(answer(&mut state, &get().with_header("if-none-match", &etag)).status, 304);
        assert_eq!(outcome(&answer(&mut state, &get().with_header("if-match", "\"0x1\""))), (412, "ConditionNotMet"));
        assert_eq!(answer(&mut state, &get().with_header("if-match", &etag)).status, 200);
    }

    #[test]
    fn containers_are_made_once_and_looked_at() {
        let mut state = account(&["*"]);
        let make = call(&state, "PUT", "/portcullisstate/audit?restype=container");
        assert_eq!(outcome(&answer(&mut state, &make)), (201, ""));
        assert_eq!(outcome(&answer(&mut state, &make)), (409, "ContainerAlreadyExists"));
        for method in ["GET", "HEAD"] {
            let look = call(&state, method, "/portcullisstate/audit?restype=container");
            assert_eq!(outcome(&answer(&mut state, &look)), (200, ""));
            let miss = call(&state, method, "/portcullisstate/none?restype=container");
            assert_eq!(outcome(&answer(&mut state, &miss)), (404, "ContainerNotFound"));
        }
        let bad = call(&state, "PUT", "/portcullisstate/A_b?restype=container");
        assert_eq!(outcome(&answer(&mut state, &bad)), (400, "InvalidResourceName"));
    }

    #[test]
    fn each_refusal_has_azures_status_and_code() {
        let mut state = account(&["*"]);
        let target = "/portcullisstate/state/x";
        let put = |state: &State| put_call(state, "x", "1");
        let token = |audience| entra::mint(&account(&[]), "oid", audience).unwrap();
        let bare = |version: &str| Call::new("GET", target).with_header("x-ms-version", version);
        let table = [
            (bare("2026-04-06"), 401, "NoAuthenticationInformation"),
            (bare("2026-04-06").with_bearer("nonsense"), 401, "InvalidAuthenticationInfo"),
            (bare("2026-04-06").with_bearer(&token("https://management.azure.com")), 401, "InvalidAuthenticationInfo"),
            (bare("2026-04-06").with_header("authorization", "SharedKey portcullisstate:AAAA"), 403, "KeyBasedAuthenticationNotPermitted"),
            (Call::new("GET", target).with_bearer(&token("https://storage.azure.com")), 403, "AuthenticationFailed"),
            (bare("2015-02-21").with_bearer(&token("https://storage.azure.com")), 403, "AuthenticationFailed"),
            (bare("newest").with_bearer(&token("https://storage.azure.com")), 400, "InvalidHeaderValue"),
            (call(&state, "GET", target), 404, "BlobNotFound"),
            (call(&state, "GET", "/portcullisstate/none/x"), 404, "ContainerNotFound"),
            (call(&state, "GET", "/another/state/x"), 404, "ResourceNotFound"),
            (call(&state, "GET", "/portcullisstate"), 400, "InvalidUri"),
            (call(&state, "PUT", target), 400, "MissingRequiredHeader"),
            (call(&state, "PUT", target).with_header("x-ms-blob-type", "PageBlob"), 400, "InvalidHeaderValue"),
            (put_call(&state, &"n".repeat(1_025), "1"), 400, "InvalidInput"),
            (put(&state).with_header("if-unmodified-since", "yesterday"), 400, "InvalidHeaderValue"),
            (call(&state, "PUT", "/portcullisstate/state/x?comp=block"), 400, "UnsupportedQueryParameter"),
            (call(&state, "POST", target), 405, "UnsupportedHttpVerb"),
        ];
        for (call, status, code) in table {
            let answered = answer(&mut state, &call);
            assert_eq!(outcome(&answered), (status, code), "{} {}", call.method, call.path);
            let body = String::from_utf8_lossy(&answered.body).into_owned();
            assert!(body.contains(&format!("<Code>{code}</Code>")), "{body}");
        }
    }

    #[test]
    fn each_call_needs_its_own_right() {
        let target = "/portcullisstate/state/x";
        let denied = (403, "AuthorizationPermissionMismatch");
        let with = |actions: &[&str], method: &str, target: &str| {
            let mut state = account(actions);
            put(&mut state, "state", "x", b"1", "text/plain");
            let call = call(&state, method, target).with_header("x-ms-blob-type", "BlockBlob");
            let answered = answer(&mut state, &call);
            (answered.status.as_u16(), answered.header("x-ms-error-code").unwrap_or("").to_owned())
        };
        let denied_as = (denied.0, denied.1.to_owned());
        assert_eq!(with(&[WRITE, ADD, DELETE], "GET", target), denied_as);
        assert_eq!(with(&[WRITE, ADD, DELETE], "GET", "/portcullisstate/state?restype=container&comp=list"), denied_as);
        assert_eq!(with(&[READ, ADD, DELETE], "PUT", target), denied_as);
        assert_eq!(with(&[READ, ADD, WRITE], "DELETE", target), denied_as);
        assert_eq!(with(&[READ, ADD, WRITE], "PUT", "/portcullisstate/new?restype=container"), denied_as);
        // Adding is creating; the append-only audit container lives by that.
        assert_eq!(with(&[ADD], "PUT", "/portcullisstate/state/new").0, 201);
        assert_eq!(with(&[READ], "GET", target).0, 200);
        assert_eq!(with(&[WRITE], "PUT", target).0, 201);
        assert_eq!(with(&[DELETE], "DELETE", target).0, 202);
    }
}
