//! The server behind every face: TLS, HTTP/1.1 with keep-alive, faults, the world's `Date`.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::{Answer, Bases, Call, Face, http_date, packing, query_pairs};
use crate::faults::{self, Met};
use crate::tls::Tls;
use crate::world::World;

/// The largest body that a face reads. Azure's own limits are below it and are each face's to check.
const LARGEST_BODY: usize = 64 << 20;

/// How often a face that had nothing to give is asked again while its caller waits.
const ASKED_AGAIN: Duration = Duration::from_millis(20);

/// How long a caller is willing to wait where the face has nothing to give yet, which is 204.
pub type Patience = fn(&Call) -> Duration;

/// How a face is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// With the leaf of the sandbox's own authority.
    Https,
    /// In the clear, as the managed-identity endpoint of a real host is.
    Http,
}

/// Starts faces of one world, and lets each know where the others are.
#[derive(Clone)]
pub struct Faces {
    world: World,
    tls: Tls,
    bases: Arc<RwLock<Arc<Bases>>>,
}

/// A face that listens until this is dropped, which also cuts its connections.
pub struct Served {
    /// The base URL.
    pub url: String,
    /// The port on 127.0.0.1.
    pub port: u16,
    task: JoinHandle<()>,
}

impl Served {
    /// Stops listening and cuts every connection.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a connection does with a request.
enum Reply {
    Answered(Answer),
    Cut,
}

type Replying = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Handler = Arc<dyn Fn(Call) -> Replying + Send + Sync>;

impl Faces {
    /// Faces of this world. None listens yet.
    pub fn new(world: World, tls: Tls) -> Self {
        Faces { world, tls, bases: Arc::default() }
    }

    /// Where the faces are that listen so far.
    pub fn bases(&self) -> Arc<Bases> {
        Arc::clone(&self.bases.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets a service of Azure listen on `port` of 127.0.0.1, 0 being a free one. Its calls are counted, have the
    /// world's latency and meet the faults.
    pub async fn serve(&self, name: &'static str, face: Face, over: Over, port: u16) -> io::Result<Served> {
        self.serve_patiently(name, face, |_| Duration::ZERO, over, port).await
    }

    /// The same for a service whose callers may wait until there is something for them. The wait is by the machine's
    /// clock, whatever the world's does meanwhile: it is the client that waits.
    pub async fn serve_patiently(&self, name: &'static str, face: Face, patience: Patience, over: Over, port: u16) -> io::Result<Served> {
        let world = self.world.clone();
        let handler: Handler = Arc::new(move |call| Box::pin(service(world.clone(), name, face, patience, call)));
        self.listen(name, handler, over, port).await
    }

    /// Lets something listen that is no service of Azure and must be free to wait: no latency, no faults, and its
    /// calls are not counted.
    pub async fn serve_with<H, F>(&self, name: &'static str, handler: H, over: Over, port: u16) -> io::Result<Served>
    where
        H: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |call| {
            let answering = handler(call);
            Box::pin(async { Reply::Answered(answering.await) })
        });
        self.listen(name, handler, over, port).await
    }

    async fn listen(&self, name: &'static str, handler: Handler, over: Over, port: u16) -> io::Result<Served> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        let (scheme, acceptor) = match over {
            Over::Https => ("https", Some(TlsAcceptor::from(self.tls.server()))),
            Over::Http => ("http", None),
        };
        let url = format!("{scheme}://127.0.0.1:{port}");
        self.add_base(name, &url);
        let connection =
            Connection { world: self.world.clone(), bases: Arc::clone(&self.bases), name, base: url.clone(), handler, acceptor };
        let task = tokio::spawn(accept(listener, connection));
        Ok(Served { url, port, task })
    }

    fn add_base(&self, name: &str, url: &str) {
        let mut bases = self.bases.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut bases).urls.insert(name.to_owned(), url.to_owned());
    }
}

async fn accept(listener: TcpListener, connection: Connection) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection.clone().run(stream, peer));
                }
                // Out of file descriptors, most likely: the next try needs some connection to end first.
                Err(error) => {
                    tracing::warn!(%error, "a face could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

#[derive(Clone)]
struct Connection {
    world: World,
    bases: Arc<RwLock<Arc<Bases>>>,
    name: &'static str,
    base: String,
    handler: Handler,
    acceptor: Option<TlsAcceptor>,
}

/// Makes hyper drop the connection without an answer.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is cut")
    }
}

impl std::error::Error for Cut {}

impl Connection {
    async fn run(self, stream: TcpStream, peer: SocketAddr) {
        // Answers are small and waited for; Nagle's algorithm would hold them back.
        let _ = stream.set_nodelay(true);
        match self.acceptor.clone() {
            None => self.speak(stream, peer).await,
            Some(acceptor) => match acceptor.accept(stream).await {
                Ok(stream) => self.speak(stream, peer).await,
                Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
            },
        }
    }

    async fn speak(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        let connection = Arc::new(self);
        let service = service_fn(move |request| {
            let connection = Arc::clone(&connection);
            async move { connection.answer(request, peer).await }
        });
        let served = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service).await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection ended early");
        }
    }

    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Result<Response<Body>, Cut> {
        let (parts, body) = request.into_parts();
        let reply = match to_bytes(Body::new(body), LARGEST_BODY).await {
            Ok(body) => (self.handler)(self.call(parts, body, peer)).await,
            Err(error) if too_large(&error) => Reply::Answered(faults::too_large(self.name)),
            Err(_) => Reply::Cut,
        };
        match reply {
            Reply::Answered(answer) => Ok(self.response(answer)),
            Reply::Cut => Err(Cut),
        }
    }

    fn call(&self, parts: http::request::Parts, body: bytes::Bytes, peer: SocketAddr) -> Call {
        let traceparent = parts.headers.get("traceparent").and_then(|v| v.to_str().ok());
        Call {
            trace: traceparent.and_then(|traceparent| self.world.trace(traceparent)),
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: query_pairs(parts.uri.query().unwrap_or("")),
            raw_query: parts.uri.query().unwrap_or("").to_owned(),
            headers: parts.headers,
            body,
            base: self.base.clone(),
            bases: Arc::clone(&self.bases.read().unwrap_or_else(PoisonError::into_inner)),
            ip: peer.ip().to_string(),
            port: peer.port(),
        }
    }

    /// The answer on the wire. The machine's clock must not show, so `Date` is the world's.
    fn response(&self, answer: Answer) -> Response<Body> {
        let mut response = Response::new(Body::from(answer.body));
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        for (name, value) in &answer.headers {
            match (name.parse::<HeaderName>(), HeaderValue::from_bytes(value.as_bytes())) {
                (Ok(name), Ok(value)) => {
                    headers.append(name, value);
                }
                (_, _) => tracing::warn!(header = name, "a face gave a header that HTTP does not allow"),
            }
        }
        if !headers.contains_key(http::header::DATE) {
            let date = http_date(self.world.lock().now);
            if let Ok(date) = HeaderValue::from_str(&date) {
                headers.insert(http::header::DATE, date);
            }
        }
        response
    }
}

fn too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("length limit exceeded") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The faces by which something becomes due or can be delivered.
const BRINGS_SOMETHING: [&str; 3] = ["arm", "servicebus", "eventgrid"];

/// So long a call at which the handler is to be killed is held where another host has to do that.
const HELD_FOR: Duration = Duration::from_secs(60);

/// One request to a service of Azure.
async fn service(world: World, name: &'static str, face: Face, patience: Patience, call: Call) -> Reply {
    let number = world.count_call();
    if !world.latency().is_zero() {
        tokio::time::sleep(world.latency()).await;
    }
    let done = effect(&world, name, face, &call);
    if call.method != Method::GET && call.method != Method::HEAD && BRINGS_SOMETHING.contains(&name) {
        world.tell_changed();
    }
    let answer = match done {
        Done::Nothing(answer) => awaited(&world, face, &call, patience(&call), answer).await,
        Done::Answered(answer) => answer,
        Done::Late(answer, milliseconds) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            answer
        }
        Done::Cut => return Reply::Cut,
        Done::Killed => {
            if !world.kill_handler() {
                // Whoever is the host kills it, by which the connection breaks and this is dropped.
                tokio::time::sleep(HELD_FOR).await;
            }
            return Reply::Cut;
        }
    };
    let answer = if packing::packs(name, &call) { packing::packed(answer) } else { answer };
    if answer.header("x-ms-request-id").is_some() {
        return Reply::Answered(answer);
    }
    // Numbered, not random: the same story gets the same ids when it is told again.
    Reply::Answered(answer.with("x-ms-request-id", &format!("5a4db0c5-0000-4000-9000-{number:012x}")))
}

/// What the face gives once it has something, or `nothing` when the caller's patience has come to its end.
async fn awaited(world: &World, face: Face, call: &Call, patience: Duration, nothing: Answer) -> Answer {
    let asking = async {
        loop {
            tokio::time::sleep(ASKED_AGAIN).await;
            let answer = face(&mut world.lock(), call);
            if answer.status != StatusCode::NO_CONTENT {
                return answer;
            }
        }
    };
    if patience.is_zero() {
        return nothing;
    }
    tokio::time::timeout(patience, asking).await.unwrap_or(nothing)
}

/// What is left to do once the lock of the state is free again.
enum Done {
    /// The face itself said that it has nothing to give.
    Nothing(Answer),
    Answered(Answer),
    Late(Answer, u64),
    Cut,
    Killed,
}

fn effect(world: &World, name: &str, face: Face, call: &Call) -> Done {
    let mut state = world.lock();
    match faults::meet(&mut state, name, call) {
        Met::Nothing => match face(&mut state, call) {
            answer if answer.status == StatusCode::NO_CONTENT => Done::Nothing(answer),
            answer => Done::Answered(answer),
        },
        Met::Status(refusal) => {
            faults::log_refusal(&mut state, name, call, refusal.status);
            Done::Answered(faults::envelope(name, &refusal))
        }
        Met::CutBefore => Done::Cut,
        Met::CutAfter => {
            face(&mut state, call);
            Done::Cut
        }
        Met::Delay(milliseconds) => Done::Late(face(&mut state, call), milliseconds),
        Met::Stale(older) => Done::Answered(Answer::from(older)),
        Met::Remember(place) => {
            let answer = face(&mut state, call);
            faults::remember(&mut state, place, call, &answer);
            Done::Answered(answer)
        }
        Met::KillBefore => Done::Killed,
        Met::KillAfter => {
            face(&mut state, call);
            Done::Killed
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::faults::{Effect, Fault};
    use crate::state::{Obstacle, State};

    /// Answers the number of requests that it has had an effect for, and what the call looked like.
    fn counting(state: &mut State, call: &Call) -> Answer {
        let number = state.take_id();
        let body = format!("{number} {} {} {:?} {}", call.method, call.target(), call.trace, call.body.len());
        Answer::text(StatusCode::OK, &body)
    }

    #[expect(clippy::disallowed_methods, reason = "these clients trust other authorities than the sandbox's own client does")]
    fn trusting(authorities: Vec<reqwest::Certificate>) -> reqwest::Client {
        reqwest::Client::builder().tls_certs_only(authorities).build().unwrap()
    }

    struct Running {
        world: World,
        faces: Faces,
        served: Served,
        client: reqwest::Client,
    }

    async fn running() -> Running {
        let world = World::new(State::default(), Duration::ZERO);
        let tls = Tls::generate().unwrap();
        let authority = reqwest::Certificate::from_pem(tls.authority_pem().as_bytes()).unwrap();
        let client = trusting(vec![authority]);
        let faces = Faces::new(world.clone(), tls);
        let served = faces.serve("blob", counting, Over::Https, 0).await.unwrap();
        Running { world, faces, served, client }
    }

    impl Running {
        fn fault(&self, fault: Fault) {
            self.world.lock().faults.push(fault);
        }

        async fn get(&self, path: &str) -> reqwest::Result<String> {
            self.client.get(format!("{}{path}", self.served.url)).send().await?.text().await
        }

        fn effects(&self) -> u64 {
            self.world.lock().next_id - 1
        }
    }

    #[tokio::test]
    async fn a_request_over_tls_shows_the_worlds_time_only() {
        let running = running().await;
        running.world.name_trace("0af7651916cd43dd8448eb211c80319c", "approval", "i-1");
        let answer = running
            .client
            .post(format!("{}/a%20b?x=1%2B1", running.served.url))
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .body("body")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.version(), http::Version::HTTP_11);
        assert_eq!(answer.headers()["date"], "Thu, 15 Jan 2026 09:00:00 GMT");
        assert_eq!(answer.headers().get_all("date").iter().count(), 1);
        assert_eq!(answer.headers()["x-ms-request-id"], "5a4db0c5-0000-4000-9000-000000000001");
        assert_eq!(answer.text().await.unwrap(), "1 POST /a%20b?x=1+1 Some((\"approval\", \"i-1\")) 4");
        assert_eq!(running.world.calls(), 1);
    }

    #[tokio::test]
    async fn localhost_is_in_the_leaf_and_strangers_do_not_trust_it() {
        let running = running().await;
        let by_name = running.served.url.replace("127.0.0.1", "localhost");
        assert!(running.client.get(by_name).send().await.is_ok());
        let stranger = trusting(Vec::new());
        assert!(stranger.get(&running.served.url).send().await.is_err());
    }

    #[tokio::test]
    async fn a_head_has_the_length_of_the_body_and_no_body() {
        let running = running().await;
        let answer = running.client.head(format!("{}/x", running.served.url)).send().await.unwrap();
        assert_eq!(answer.headers()["content-length"], "16");
        assert_eq!(answer.bytes().await.unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_cut_before_has_no_effect_and_a_cut_after_has() {
        let running = running().await;
        running.fault(Fault::new("blob", "GET", "/x", Effect::CutBefore).times(1));
        assert!(running.get("/x").await.is_err());
        assert_eq!(running.effects(), 0);
        running.fault(Fault::new("blob", "GET", "/x", Effect::CutAfter).times(1));
        assert!(running.get("/x").await.is_err());
        assert_eq!(running.effects(), 1);
        assert!(running.get("/x").await.is_ok());
    }

    #[tokio::test]
    async fn a_kill_comes_before_or_after_the_effect() {
        let running = running().await;
        let kills = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&kills);
        running.world.on_kill(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        running.fault(Fault::new("*", "*", "", Effect::KillBefore).times(1));
        assert!(running.get("/x").await.is_err());
        assert_eq!((running.effects(), kills.load(Ordering::SeqCst)), (0, 1));
        running.fault(Fault::new("*", "*", "", Effect::KillAfter).times(1));
        assert!(running.get("/x").await.is_err());
        assert_eq!((running.effects(), kills.load(Ordering::SeqCst)), (1, 2));
    }

    #[tokio::test]
    async fn a_call_that_kills_is_held_where_the_handler_is_anothers() {
        let running = running().await;
        running.fault(Fault::new("*", "*", "", Effect::KillAfter).times(1));
        let url = format!("{}/x", running.served.url);
        let client = running.client.clone();
        let held = tokio::spawn(async move { client.get(url).send().await.is_ok() });
        while running.world.lock().met.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(!held.is_finished(), "whoever is the host has the time to kill it");
        held.abort();
        assert_eq!(running.effects(), 1);
        assert!(running.get("/x").await.is_ok());
    }

    #[tokio::test]
    async fn a_status_comes_in_the_faces_form_and_a_stale_read_repeats_the_first() {
        let running = running().await;
        let busy = Effect::status(503, Some(2));
        running.fault(Fault::new("blob", "*", "", busy).times(1));
        let answer = running.client.get(&running.served.url).send().await.unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "2");
        assert_eq!(answer.headers()["x-ms-error-code"], "ServerBusy");

        let busy = Effect::status(503, None);
        running.fault(Fault::new("blob", "PUT", "", busy).times(1));
        running.client.put(format!("{}/portcullisstate/state/x", running.served.url)).send().await.unwrap();
        let entry = running.world.lock().log[0].clone();
        assert_eq!((entry.what.as_str(), entry.status, entry.fault), ("put", 503, Some(Obstacle::Status)));

        running.fault(Fault::new("blob", "GET", "/x", Effect::Stale));
        let first = running.get("/x?a=1").await.unwrap();
        assert_eq!(running.get("/x?a=1").await.unwrap(), first);
        assert_ne!(running.get("/x?a=2").await.unwrap(), first);
        running.world.lock().faults.clear();
        assert_ne!(running.get("/x?a=1").await.unwrap(), first);
    }

    #[tokio::test]
    async fn a_call_that_is_delayed_is_answered() {
        let running = running().await;
        running.fault(Fault::new("blob", "POST", "", Effect::Delay { milliseconds: 5 }).times(1));
        let answer = running.client.post(&running.served.url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_refused_in_the_faces_form() {
        let running = running().await;
        let body = vec![b'x'; LARGEST_BODY + 1];
        let answer = running.client.put(&running.served.url).body(body).send().await;
        // The server may answer and close before the client has sent all; both tell the client that it failed.
        if let Ok(answer) = answer {
            assert_eq!(answer.status(), 413);
            assert_eq!(answer.headers()["x-ms-error-code"], "RequestBodyTooLarge");
        }
        assert_eq!(running.effects(), 0);
    }

    #[tokio::test]
    async fn a_face_that_waits_meets_no_faults_and_faces_know_each_other() {
        let running = running().await;
        running.fault(Fault::new("*", "*", "", Effect::CutBefore));
        let handler = |call: Call| async move {
            tokio::task::yield_now().await;
            Answer::text(StatusCode::OK, call.bases.url("blob"))
        };
        let served = running.faces.serve_with("control", handler, Over::Http, 0).await.unwrap();
        assert!(served.url.starts_with("http://127.0.0.1:"));
        let body = running.client.get(&served.url).send().await.unwrap().text().await.unwrap();
        assert_eq!(body, running.served.url);
        assert_eq!(running.faces.bases().url("control"), served.url);
        assert_eq!(running.world.calls(), 0);
    }

    #[tokio::test]
    async fn a_face_that_is_dropped_cuts_its_connections_and_frees_its_port() {
        let running = running().await;
        assert!(running.get("/x").await.is_ok());
        let url = running.served.url.clone();
        let client = running.client.clone();
        drop(running.served);
        tokio::task::yield_now().await;
        assert!(client.get(url).send().await.is_err());
    }
}
