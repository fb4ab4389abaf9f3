//! The HTTP API: health for everybody, what is remembered for who may read it, and what operators ask for. Nothing here
//! changes anything but by leaving a wish for the next look at a VM.
//!
//! Paths come without the prefix `/api`, which the host's router takes away.

mod answer;
pub mod asks;
mod dead_letters;
mod doctor;
mod health;
mod keys;
mod named;
pub mod page;
pub mod question;
pub mod token;
mod views;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use axum::{Json, Router};
use portcullis_domain::arm_id::VmId;
use portcullis_domain::record::VmRecord;
use tracing::info;
use uuid::Uuid;

use self::answer::Refusal;
use self::page::{Keyed, Page};
use self::question::{OF_AUDITS, OF_THINGS, OF_VMS, Parameter, Question};
use self::token::{Role, Tokens};
use crate::functions::App;
use crate::settings::Settings;
use crate::store::VmIndex;

/// What the API works with. Cheap to clone.
#[derive(Clone, Debug)]
struct Console {
    app: App,
    tokens: Arc<Tokens>,
    loopback: bool,
}

/// The API's routes; calls nothing until it is asked.
pub fn api(app: App, settings: &Settings) -> Router {
    let tokens = Arc::new(Tokens::new(app.azure.entra.clone(), &settings.api_audiences));
    routes(Console { app, tokens, loopback: settings.loopback() })
}

/// The views, which auditors alone may read, by their path.
fn views() -> [(&'static str, MethodRouter<Console>); 8] {
    [
        ("/vms", get(vms)),
        ("/vms/{subscription}/{group}/{name}", get(vm)),
        ("/openings", get(openings)),
        ("/grants", get(grants)),
        ("/findings", get(findings)),
        ("/alarms", get(alarms)),
        ("/audit", get(audits)),
        ("/audit/{id}", get(audit)),
    ]
}

/// What operators alone may ask for, by its path. The body is small: nothing else is read.
fn asks() -> [(&'static str, MethodRouter<Console>); 3] {
    [("/grants", post(asks::open)), ("/grants/{id}/close", post(asks::close)), ("/deadletters/{id}/replay", post(dead_letters::replay))]
}

/// What auditors and operators may read, by its path.
fn answers() -> [(&'static str, MethodRouter<Console>); 4] {
    [
        ("/requests/{id}", get(asks::answer)),
        ("/deadletters", get(dead_letters::list)),
        ("/deadletters/{id}", get(dead_letters::show)),
        ("/doctor", get(doctor::get)),
    ]
}

fn routes(console: Console) -> Router {
    let views = views()
        .into_iter()
        .fold(Router::new(), |router, (path, view)| router.route(path, view))
        // On routes alone, so that a wrong path or method is told before a token is asked for.
        .route_layer(middleware::from_fn_with_state(console.clone(), auditors_only));
    let asks = asks()
        .into_iter()
        .fold(Router::new(), |router, (path, ask)| router.route(path, ask))
        .layer(DefaultBodyLimit::max(LARGEST_WISH))
        .route_layer(middleware::from_fn_with_state(console.clone(), operators_only));
    let answers = answers()
        .into_iter()
        .fold(Router::new(), |router, (path, answer)| router.route(path, answer))
        .route_layer(middleware::from_fn_with_state(console.clone(), auditors_and_operators));
    Router::new()
        .route("/health", get(health::get))
        .merge(views)
        .merge(asks)
        .merge(answers)
        .method_not_allowed_fallback(|| async { Refusal::WrongMethod })
        .route("/{*path}", any(|| async { Refusal::NotFound }))
        .layer(middleware::from_fn(answer::guarded))
        .with_state(console)
}

/// Far more than a wish needs.
const LARGEST_WISH: usize = 16 * 1024;

async fn auditors_only(State(console): State<Console>, request: Request, next: Next) -> Response {
    let_pass(&console, &[Role::Auditor], request, next).await
}

async fn operators_only(State(console): State<Console>, request: Request, next: Next) -> Response {
    let_pass(&console, &[Role::Operator], request, next).await
}

async fn auditors_and_operators(State(console): State<Console>, request: Request, next: Next) -> Response {
    let_pass(&console, &[Role::Operator, Role::Auditor], request, next).await
}

/// Lets pass who carries one of the roles. Before it nothing is read and no query is looked at, so that nobody else
/// learns what there is.
async fn let_pass(console: &Console, roles: &[Role], mut request: Request, next: Next) -> Response {
    let caller = match console.tokens.caller(request.headers()).await {
        Ok(caller) => caller,
        Err(untrusted) => return Refusal::Untrusted(untrusted).into_response(),
    };
    let path = request.uri().path().to_owned();
    let Some(role) = roles.iter().find(|role| caller.has(**role)) else {
        let lacks = roles.first().copied().unwrap_or(Role::Auditor);
        info!(caller.id = caller.object_id, caller.client, path, "refused: the caller lacks the role {}", lacks.value());
        return Refusal::NotAllowed(lacks).into_response();
    };
    if *role == Role::Operator && request.method() == Method::POST && !(caller.is_person && Uuid::parse_str(&caller.object_id).is_ok()) {
        info!(caller.id = caller.object_id, caller.client, path, "refused: an application asks for nothing");
        return Refusal::NoPerson.into_response();
    }
    info!(caller.id = caller.object_id, caller.client, path, role = role.value(), "let in");
    request.extensions_mut().insert(caller);
    next.run(request).await
}

type Listed<T> = Result<Json<Page<T>>, Refusal>;

async fn vms(State(console): State<Console>, RawQuery(query): RawQuery) -> Listed<views::VmLine> {
    list(&console, VmIndex::Remembered, query.as_deref(), &OF_VMS, views::vm_lines).await
}

async fn openings(State(console): State<Console>, RawQuery(query): RawQuery) -> Listed<views::Opening> {
    list(&console, VmIndex::Unresting, query.as_deref(), &OF_THINGS, views::openings).await
}

async fn grants(State(console): State<Console>, RawQuery(query): RawQuery) -> Listed<views::GrantView> {
    list(&console, VmIndex::Unresting, query.as_deref(), &OF_THINGS, views::grants).await
}

async fn findings(State(console): State<Console>, RawQuery(query): RawQuery) -> Listed<views::FindingView> {
    list(&console, VmIndex::Unresting, query.as_deref(), &OF_THINGS, views::findings).await
}

async fn alarms(State(console): State<Console>, RawQuery(query): RawQuery) -> Listed<views::AlarmView> {
    list(&console, VmIndex::Unresting, query.as_deref(), &OF_THINGS, views::alarms).await
}

async fn list<T>(
    console: &Console,
    index: VmIndex,
    query: Option<&str>,
    allowed: &[Parameter],
    items: impl Fn(&VmRecord) -> Vec<Keyed<T>>,
) -> Listed<T> {
    let question = Question::read(query, allowed).map_err(Refusal::BadQuestion)?;
    Ok(Json(page::of_vms(&console.app.store, index, &question, items).await?))
}

type Captured<T> = Result<Path<T>, PathRejection>;

async fn vm(
    State(console): State<Console>,
    place: Captured<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Json<views::Vm>, Refusal> {
    Question::read(query.as_deref(), &[]).map_err(Refusal::BadQuestion)?;
    let Path((subscription, group, name)) = place.map_err(|_| Refusal::NotFound)?;
    // What can be no VM's key is no VM.
    let vm = VmId::from_key(&format!("{subscription}/{group}/{name}")).map_err(|_| Refusal::NotFound)?;
    let held = console.app.store.vm(&vm).await?;
    if held.etag.is_none() {
        return Err(Refusal::NeverLookedAt);
    }
    Ok(Json(views::vm(&held.document)))
}

async fn audits(State(console): State<Console>, RawQuery(query): RawQuery) -> Listed<views::AuditView> {
    let question = Question::read(query.as_deref(), &OF_AUDITS).map_err(Refusal::BadQuestion)?;
    Ok(Json(page::of_audits(&console.app.store, &question).await?))
}

async fn audit(State(console): State<Console>, id: Captured<String>, RawQuery(query): RawQuery) -> Result<Json<views::AuditView>, Refusal> {
    Question::read(query.as_deref(), &[]).map_err(Refusal::BadQuestion)?;
    let id = plain_id(id)?;
    match console.app.store.audit(&id).await? {
        Some(audit) => Ok(Json(views::audit(&audit))),
        None => {
            console.app.store.check().await?;
            Err(Refusal::NotFound)
        }
    }
}

/// The id of an audit record, of a grant or of a wish.
fn plain_id(id: Captured<String>) -> Result<String, Refusal> {
    id.ok().map(|Path(id)| id).filter(|id| is_id(id)).ok_or(Refusal::NotFound)
}

/// Ids of ours are made of these alone, and no other text becomes a part of a blob's name.
fn is_id(text: &str) -> bool {
    (1..=200).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use axum::body::{Body, to_bytes};
    use axum::http::StatusCode;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::token::tests::{signed, tokens, v2, with};
    use super::*;
    use crate::azure::entra::tests::Reply;

    const VIEWS: [&str; 8] = ["/vms", "/vms/s/rg/vm1", "/openings", "/grants", "/findings", "/alarms", "/audit", "/audit/x"];

    const INVOCATION: &str = "8fcee9c5-3b6d-4bb5-9b8c-1c9ed5a5d3a1";

    /// A console whose store nobody serves.
    fn console() -> Console {
        let values = BTreeMap::from([
            ("PORTCULLIS_TENANT_ID", "72f988bf-86f1-41af-91ab-2d7cd011db47"),
            ("PORTCULLIS_BLOB_ENDPOINT", "https://127.0.0.1:1/secretaccount"),
            ("ServiceBus__fullyQualifiedNamespace", "portcullis.servicebus.windows.net"),
            ("PORTCULLIS_SERVICEBUS_ENDPOINT", "https://127.0.0.1:1"),
            ("PORTCULLIS_LOGS_ENDPOINT", "https://127.0.0.1:1"),
            ("PORTCULLIS_LOGS_RULE_ID", "dcr-1"),
            ("PORTCULLIS_ARM_ENDPOINT", "https://127.0.0.1:1"),
            ("PORTCULLIS_LOGIN_ENDPOINT", "https://127.0.0.1:1"),
            ("PORTCULLIS_GRAPH_ENDPOINT", "https://127.0.0.1:1"),
            ("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token"),
            ("IDENTITY_HEADER", "h"),
        ]);
        let lookup = |name: &str| values.get(name).map(|value| (*value).to_owned());
        let settings = Settings::from_lookup(lookup, values.keys().map(|name| (*name).to_owned())).unwrap();
        Console { app: App::new(&settings), tokens: Arc::new(tokens().0), loopback: settings.loopback() }
    }

    const DOCUMENT: &str = include_str!("../../docs/api.md");

    /// The names in the first column of the table of fields below a heading of the document.
    pub(super) fn documented(heading: &str) -> Vec<&'static str> {
        let below = DOCUMENT.split_once(&format!("# {heading}\n")).unwrap_or_else(|| panic!("no heading `{heading}`")).1;
        let section = below.split("\n#").next().unwrap_or_default();
        let table = section
            .split_once("| Field |")
            .or_else(|| section.split_once("| Member |"))
            .unwrap_or_else(|| panic!("no table below `{heading}`"))
            .1;
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        rows.filter_map(|row| row.split('`').nth(1)).collect()
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let headings: BTreeSet<String> =
            DOCUMENT.lines().filter_map(|line| line.strip_prefix("## ").filter(|h| h.contains(" /api/"))).map(str::to_owned).collect();
        let paths = views().map(|(path, _)| path).into_iter().chain(answers().map(|(path, _)| path));
        let reads = ["/health"].into_iter().chain(paths).map(|path| format!("GET /api{path}"));
        let routes: BTreeSet<String> = reads.chain(asks().map(|(path, _)| format!("POST /api{path}"))).collect();
        assert_eq!(headings, routes);
    }

    #[test]
    fn the_document_names_every_parameter() {
        let table = DOCUMENT.split_once("| Parameter |").unwrap().1;
        let names: Vec<&str> = table.lines().skip(2).map_while(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(names, OF_AUDITS.map(Parameter::name));
    }

    struct Answered {
        status: StatusCode,
        headers: axum::http::HeaderMap,
        body: Value,
    }

    async fn ask_of(console: Console, method: Method, path: &str, token: Option<&str>) -> Answered {
        let mut request = Request::builder().method(method.clone()).uri(path).header("x-azure-functions-invocationid", INVOCATION);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = routes(console).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        assert_eq!(headers["cache-control"], "no-store", "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["content-type"], "application/json", "{path}");
        let body = to_bytes(response.into_body(), 1_000_000).await.unwrap();
        let body = if method == Method::HEAD { Value::Null } else { serde_json::from_slice(&body).expect("always JSON") };
        Answered { status, headers, body }
    }

    async fn ask(method: Method, path: &str, token: Option<&str>) -> Answered {
        ask_of(console(), method, path, token).await
    }

    #[tokio::test]
    async fn every_view_asks_for_a_token_first() {
        for path in VIEWS {
            let path = format!("{path}?nonsense=1");
            let answered = ask(Method::GET, &path, None).await;
            assert_eq!((answered.status, &answered.headers["www-authenticate"]), (StatusCode::UNAUTHORIZED, &"Bearer".parse().unwrap()));
            assert_eq!(answered.body["error"]["code"], "Unauthorized");
            let answered = ask(Method::GET, &path, Some("x.y.z")).await;
            assert_eq!(answered.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
            let answered = ask(Method::GET, &path, Some(&signed(&with(v2(), "roles", json!(null))))).await;
            assert_eq!((answered.status, answered.body["error"]["code"].as_str()), (StatusCode::FORBIDDEN, Some("Forbidden")));
            assert_eq!(ask(Method::HEAD, &path, None).await.status, StatusCode::UNAUTHORIZED);
        }
    }

    #[tokio::test]
    async fn a_query_that_cannot_be_meant_is_a_400() {
        let token = signed(&v2());
        for path in [
            "/vms?color=red",
            "/openings?limit=0",
            "/audit?vm=x",
            "/audit?after=eA",
            "/vms/s/rg/vm1?limit=1",
            "/audit/x?vm=s/rg/a",
            "/alarms?after=eA",
            "/alarms?vm=x",
            "/vms?vm=s/rg/a",
            "/findings?kind=close",
        ] {
            let answered = ask(Method::GET, path, Some(&token)).await;
            assert_eq!((answered.status, answered.body["error"]["code"].as_str()), (StatusCode::BAD_REQUEST, Some("BadRequest")), "{path}");
        }
    }

    #[tokio::test]
    async fn what_is_no_vm_and_no_record_is_not_found() {
        let token = signed(&v2());
        for path in
            ["/vms/s/rg/a%3Fb", "/vms/s/rg/%FF", "/vms/s/rg/a%23", "/audit/a.b", "/audit/%FF", &format!("/audit/{}", "a".repeat(201))]
        {
            let answered = ask(Method::GET, path, Some(&token)).await;
            assert_eq!((answered.status, answered.body["error"]["code"].as_str()), (StatusCode::NOT_FOUND, Some("NotFound")), "{path}");
        }
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_told_apart_without_a_token() {
        for path in ["/nothing", "/vms/s", "/vms/s/rg", "/vms/s/rg/vm1/x", "/audit/x/y", "/health/x", "/approval"] {
            for method in [Method::GET, Method::POST] {
                assert_eq!(ask(method, path, None).await.status, StatusCode::NOT_FOUND, "{path}");
            }
        }
        for path in VIEWS.iter().chain(&["/health"]) {
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
                // Operators ask at the path of the grants.
                if *path == "/grants" && method == Method::POST {
                    assert_eq!(ask(method, path, None).await.status, StatusCode::UNAUTHORIZED);
                    continue;
                }
                let answered = ask(method, path, None).await;
                assert_eq!(
                    (answered.status, answered.body["error"]["code"].as_str()),
                    (StatusCode::METHOD_NOT_ALLOWED, Some("MethodNotAllowed")),
                    "{path}"
                );
                let allowed = if *path == "/grants" { "GET,HEAD,POST" } else { "GET,HEAD" };
                assert_eq!(answered.headers["allow"], allowed, "{path}");
            }
        }
    }

    #[tokio::test]
    async fn a_store_that_fails_is_told_by_an_id_and_no_name() {
        let token = signed(&v2());
        let answered = ask(Method::GET, "/openings", Some(&token)).await;
        assert_eq!((answered.status, answered.body["error"]["code"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("StoreUnavailable")));
        assert!(answered.body["error"]["id"] == INVOCATION && answered.headers.contains_key("retry-after"));
        let health = ask(Method::GET, "/health", None).await;
        assert_eq!((health.status, &health.body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("failing")));
        for body in [answered.body, health.body] {
            let text = body.to_string();
            for name in ["127.0.0.1", "secretaccount", "state", "72f988bf"] {
                assert!(!text.contains(name), "{name} in {text}");
            }
        }
    }

    #[tokio::test]
    async fn keys_that_cannot_be_read_are_a_503_and_no_401() {
        let (tokens, _) = token::tests::over(vec![Reply::Status(404, Vec::new(), "")]);
        let console = Console { tokens: Arc::new(tokens), ..console() };
        let answered = ask_of(console, Method::GET, "/vms", Some(&signed(&v2()))).await;
        assert_eq!(
            (answered.status, answered.body["error"]["code"].as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, Some("SignInUnavailable"))
        );
        assert!(!answered.headers.contains_key("www-authenticate"));
        assert!(!answered.body.to_string().contains("microsoftonline"));
    }

    #[test]
    fn an_audit_id_is_letters_digits_and_hyphens() {
        assert!(is_id("0123456789abcdef-close-03389-000001") && is_id("service-store-5"));
        for text in ["", "a/b", "a.json", "..", "a b", "å"] {
            assert!(!is_id(text), "{text}");
        }
    }
}
