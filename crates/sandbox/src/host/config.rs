//! What the app says of itself: `host.json` and one `function.json` a function, read and checked as the host does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::answer::OutputStrings;
use super::cron::{Schedule, time_span};
use super::encode::ManyAs;
use super::retry::RetryPolicy;

/// The files of an app, wherever they come from.
#[derive(Clone, Debug, Default)]
pub struct HostFiles {
    /// The script root, which the handler is told of and relative paths are under.
    pub root: PathBuf,
    /// `host.json`.
    pub host_json: String,
    /// Each function's name, which is its folder's, with its `function.json`.
    pub functions: Vec<(String, String)>,
}

impl HostFiles {
    /// Reads an app's folder: `NAME/function.json` beside `host.json`, as the real host wants a staged app, or
    /// `functions/NAME/function.json`, as a source tree has it.
    pub fn read(root: &Path) -> Result<HostFiles, Mistakes> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| Mistakes(vec![format!("{} cannot be read: {error}", path.display())]))
        };
        let mut files = HostFiles { root: root.to_owned(), host_json: read(&root.join("host.json"))?, functions: Vec::new() };
        for folder in [root.join("functions"), root.to_owned()] {
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = entry.path().join("function.json");
                if path.is_file() {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    files.functions.push((name, read(&path)?));
                }
            }
            if !files.functions.is_empty() {
                break;
            }
        }
        files.functions.sort();
        Ok(files)
    }
}

/// All that is wrong with an app's files, each with what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

/// An app that the host can run.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// The script root.
    pub root: PathBuf,
    /// `customHandler.description.defaultExecutablePath`.
    pub executable: String,
    /// `customHandler.description.arguments`.
    pub arguments: Vec<String>,
    /// How long the handler may take until it answers its port.
    pub initialization_timeout: Duration,
    /// How long an invocation may take until the handler is killed.
    pub function_timeout: Duration,
    /// What becomes of HTTP requests.
    pub http: HttpMode,
    /// The first segment of every HTTP route.
    pub route_prefix: String,
    /// How many messages of a queue are under way at once.
    pub max_concurrent_calls: usize,
    /// How long the receiver renews a message's lock.
    pub lock_renewal: Duration,
    /// How long Event Grid waits for the answer to a delivery (documentation: 30 seconds).
    pub event_response_limit: Duration,
    /// The functions, by name.
    pub functions: Vec<Function>,
}

/// How an HTTP request reaches the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMode {
    /// As the body of an invocation.
    Invocation,
    /// `enableForwardingHttpRequest`: built anew; a body without `Content-Length` is lost.
    Forwarding,
    /// `enableProxyingHttpRequest`: streamed through.
    Proxying,
}

/// A function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The name of its trigger's binding.
    pub binding: String,
    /// What triggers it.
    pub trigger: TriggerKind,
    /// Where its outputs go.
    pub outputs: Vec<OutputBinding>,
    /// How a failed run of a timer is tried again.
    pub retry: Option<RetryPolicy>,
}

/// A function's trigger.
#[derive(Clone, Debug)]
pub enum TriggerKind {
    /// Messages of a queue.
    ServiceBus {
        /// The queue.
        queue: String,
        /// One message an invocation, or a batch.
        cardinality: Cardinality,
    },
    /// Events.
    EventGrid {
        /// One event an invocation, or a batch.
        cardinality: Cardinality,
    },
    /// Time.
    Timer {
        /// When.
        schedule: Schedule,
        /// Whether the host remembers the last run.
        monitor: Monitor,
        /// Whether it runs when the host starts, too.
        on_start: OnStart,
    },
    /// HTTP requests.
    Http {
        /// The route under the prefix.
        route: String,
        /// The methods, in upper case; empty is all.
        methods: Vec<String>,
    },
}

/// How many trigger values an invocation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    /// One.
    One,
    /// A batch.
    Many(ManyAs),
}

/// `useMonitor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Monitor {
    /// The host remembers the last run.
    On,
    /// It does not.
    Off,
}

/// `runOnStartup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStart {
    /// It runs when the host starts.
    Runs,
    /// It waits for its first occurrence.
    Waits,
}

/// An output binding.
#[derive(Clone, Debug)]
pub struct OutputBinding {
    /// Its name in `Outputs`.
    pub name: String,
    /// Where it leads.
    pub target: OutputTarget,
    /// What becomes of its strings.
    pub strings: OutputStrings,
}

/// Where an output leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputTarget {
    /// The answer to an HTTP request.
    Http,
    /// A Service Bus queue.
    Queue(String),
}

impl HostConfig {
    /// Reads and checks the app's files against its settings; tells every mistake at once.
    pub fn read(files: &HostFiles, settings: &BTreeMap<String, String>) -> Result<HostConfig, Mistakes> {
        let mut mistakes = Vec::new();
        let host = Host::parse(&files.host_json, &mut mistakes);
        let mut functions = Vec::new();
        for (name, text) in &files.functions {
            match function(name, text, settings) {
                Ok(function) => functions.push(function),
                Err(mistake) => mistakes.push(format!("{name}/function.json: {mistake}")),
            }
        }
        if functions.is_empty() && mistakes.is_empty() {
            mistakes.push(format!("{} has no functions: add NAME/function.json", files.root.display()));
        }
        let config = HostConfig {
            root: files.root.clone(),
            executable: host.executable(&mut mistakes),
            arguments: host.texts("/customHandler/description/arguments").iter().map(|text| expanded(text, settings)).collect(),
            initialization_timeout: host.span("/customHandler/initializationTimeout", 30, &mut mistakes),
            function_timeout: host.span("/functionTimeout", 30 * 60, &mut mistakes),
            http: host.http_mode(),
            route_prefix: host.text("/extensions/http/routePrefix").unwrap_or_else(|| "api".to_owned()),
            max_concurrent_calls: host.max_concurrent_calls(&mut mistakes),
            lock_renewal: host.span("/extensions/serviceBus/maxAutoLockRenewalDuration", 5 * 60, &mut mistakes),
            event_response_limit: Duration::from_secs(30),
            functions,
        };
        if host.is_false("/extensions/serviceBus/autoCompleteMessages") {
            mistakes.push(
                "host.json: autoCompleteMessages false leaves messages locked, since a custom handler cannot settle them: take it out"
                    .to_owned(),
            );
        }
        if mistakes.is_empty() { Ok(config) } else { Err(Mistakes(mistakes)) }
    }

    /// The handler program: under the root if it lies there, else left to be found in `PATH`.
    pub fn executable_path(&self) -> PathBuf {
        let under_root = self.root.join(&self.executable);
        if under_root.is_file() { under_root } else { PathBuf::from(&self.executable) }
    }

    /// The function of this name, letter case aside.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name.eq_ignore_ascii_case(name))
    }
}

/// `host.json`.
struct Host(Value);

impl Host {
    fn parse(text: &str, mistakes: &mut Vec<String>) -> Host {
        match serde_json::from_str::<Value>(text) {
            Ok(value) => {
                if value.get("version").and_then(Value::as_str) != Some("2.0") {
                    mistakes.push("host.json: \"version\" must be \"2.0\"".to_owned());
                }
                Host(value)
            }
            Err(error) => {
                mistakes.push(format!("host.json is no JSON: {error}"));
                Host(Value::Null)
            }
        }
    }

    fn text(&self, pointer: &str) -> Option<String> {
        self.0.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
    }

    fn texts(&self, pointer: &str) -> Vec<String> {
        let items = self.0.pointer(pointer).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn is_true(&self, pointer: &str) -> bool {
        self.0.pointer(pointer).and_then(Value::as_bool) == Some(true)
    }

    fn is_false(&self, pointer: &str) -> bool {
        self.0.pointer(pointer).and_then(Value::as_bool) == Some(false)
    }

    fn span(&self, pointer: &str, default_seconds: u64, mistakes: &mut Vec<String>) -> Duration {
        let default = Duration::from_secs(default_seconds);
        let Some(text) = self.text(pointer) else {
            return default;
        };
        match time_span(&text).and_then(|span| span.to_std().ok()).filter(|span| !span.is_zero()) {
            Some(span) => span,
            None => {
                mistakes.push(format!("host.json: {pointer} is '{text}', which is no positive time span such as 00:02:00"));
                default
            }
        }
    }

    fn executable(&self, mistakes: &mut Vec<String>) -> String {
        let path = self.text("/customHandler/description/defaultExecutablePath").unwrap_or_default();
        if path.trim().is_empty() && !self.0.is_null() {
            mistakes.push("host.json: customHandler.description.defaultExecutablePath is missing: name the handler program".to_owned());
        }
        path
    }

    fn http_mode(&self) -> HttpMode {
        if self.is_true("/customHandler/enableProxyingHttpRequest") {
            HttpMode::Proxying
        } else if self.is_true("/customHandler/enableForwardingHttpRequest") {
            HttpMode::Forwarding
        } else {
            HttpMode::Invocation
        }
    }

    fn max_concurrent_calls(&self, mistakes: &mut Vec<String>) -> usize {
        match self.0.pointer("/extensions/serviceBus/maxConcurrentCalls") {
            None => 16,
            Some(value) => match value.as_u64().and_then(|calls| usize::try_from(calls).ok()).filter(|calls| *calls > 0) {
                Some(calls) => calls,
                None => {
                    mistakes.push(format!("host.json: maxConcurrentCalls is {value}, which is no positive number"));
                    16
                }
            },
        }
    }
}

fn function(name: &str, text: &str, settings: &BTreeMap<String, String>) -> Result<Function, String> {
    if !is_function_name(name) {
        return Err("the folder's name is no name for a function: letters, digits, _ and -, a letter first".to_owned());
    }
    let file: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    let bindings = file.get("bindings").and_then(Value::as_array).ok_or("it has no list of bindings")?;
    let is_trigger = |binding: &Value| member(binding, "type").to_ascii_lowercase().ends_with("trigger");
    let triggers: Vec<&Value> = bindings.iter().filter(|binding| is_trigger(binding)).collect();
    let [trigger] = triggers.as_slice() else {
        return Err(format!("it has {} triggers: a function has exactly one", triggers.len()));
    };
    let mut names = BTreeSet::new();
    for binding in bindings {
        let name = member(binding, "name");
        if name.is_empty() || !names.insert(name.to_ascii_lowercase()) {
            return Err(format!("a binding's name is missing or used twice: '{name}'"));
        }
    }
    let outputs = bindings.iter().filter(|binding| !is_trigger(binding));
    let retry = file.get("retry").filter(|retry| !retry.is_null()).map(RetryPolicy::parse).transpose()?;
    if retry.is_some() && !member(trigger, "type").eq_ignore_ascii_case("timerTrigger") {
        return Err("it has a retry policy, which is supported for timers, not for this trigger: take it out".to_owned());
    }
    Ok(Function {
        name: name.to_owned(),
        binding: member(trigger, "name").to_owned(),
        trigger: trigger_kind(trigger, settings)?,
        outputs: outputs.map(|binding| output_binding(binding, settings)).collect::<Result<_, _>>()?,
        retry,
    })
}

fn is_function_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn member<'a>(binding: &'a Value, key: &str) -> &'a str {
    binding.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn trigger_kind(binding: &Value, settings: &BTreeMap<String, String>) -> Result<TriggerKind, String> {
    match member(binding, "type").to_ascii_lowercase().as_str() {
        "servicebustrigger" => {
            check_connection(binding, settings)?;
            let queue = resolved(member(binding, "queueName"), settings)?;
            if queue.is_empty() {
                return Err("its trigger has no queueName".to_owned());
            }
            Ok(TriggerKind::ServiceBus { queue, cardinality: cardinality(binding)? })
        }
        "eventgridtrigger" => Ok(TriggerKind::EventGrid { cardinality: cardinality(binding)? }),
        "timertrigger" => timer(binding, settings),
        "httptrigger" => http(binding),
        other => Err(format!("the stand-in knows no trigger '{other}'")),
    }
}

/// An identity-based connection `X` is the setting `X__fullyQualifiedNamespace`.
fn check_connection(binding: &Value, settings: &BTreeMap<String, String>) -> Result<(), String> {
    let connection = member(binding, "connection");
    let setting = format!("{connection}__fullyQualifiedNamespace");
    if settings.keys().any(|key| key.eq_ignore_ascii_case(&setting)) {
        return Ok(());
    }
    Err(format!("its connection '{connection}' needs the setting {setting}"))
}

fn cardinality(binding: &Value) -> Result<Cardinality, String> {
    let parsed = match member(binding, "dataType").to_ascii_lowercase().as_str() {
        "" => ManyAs::Parsed,
        "string" => ManyAs::Strings,
        other => return Err(format!("the stand-in delivers no dataType '{other}'")),
    };
    match member(binding, "cardinality").to_ascii_lowercase().as_str() {
        "" | "one" => Ok(Cardinality::One),
        "many" => Ok(Cardinality::Many(parsed)),
        other => Err(format!("its cardinality '{other}' is neither one nor many")),
    }
}

fn timer(binding: &Value, settings: &BTreeMap<String, String>) -> Result<TriggerKind, String> {
    let schedule = resolved(member(binding, "schedule"), settings)?;
    let schedule = Schedule::parse(&schedule).map_err(|why| format!("its schedule: {why}"))?;
    let flag = |key: &str| binding.get(key).and_then(Value::as_bool);
    Ok(TriggerKind::Timer {
        schedule,
        monitor: if flag("useMonitor") == Some(false) { Monitor::Off } else { Monitor::On },
        on_start: if flag("runOnStartup") == Some(true) { OnStart::Runs } else { OnStart::Waits },
    })
}

fn http(binding: &Value) -> Result<TriggerKind, String> {
    if !member(binding, "authLevel").eq_ignore_ascii_case("anonymous") {
        return Err("its authLevel must be anonymous: the stand-in has no function keys".to_owned());
    }
    let methods = binding.get("methods").and_then(Value::as_array);
    Ok(TriggerKind::Http {
        route: member(binding, "route").to_owned(),
        methods: methods.into_iter().flatten().filter_map(Value::as_str).map(str::to_ascii_uppercase).collect(),
    })
}

fn output_binding(binding: &Value, settings: &BTreeMap<String, String>) -> Result<OutputBinding, String> {
    let name = member(binding, "name").to_owned();
    if !member(binding, "direction").eq_ignore_ascii_case("out") {
        return Err(format!("binding '{name}' is neither a trigger nor an output; the stand-in knows no other input"));
    }
    let target = match member(binding, "type").to_ascii_lowercase().as_str() {
        "http" => OutputTarget::Http,
        "servicebus" => {
            check_connection(binding, settings)?;
            OutputTarget::Queue(resolved(member(binding, "queueName"), settings)?)
        }
        other => return Err(format!("the stand-in knows no output '{other}'")),
    };
    let strings = match member(binding, "dataType").to_ascii_lowercase().as_str() {
        "binary" => OutputStrings::Kept,
        _ => OutputStrings::Guessed,
    };
    Ok(OutputBinding { name, target, strings })
}

/// Puts settings in place of `%NAME%` in an argument, where one that is not set becomes nothing.
fn expanded(argument: &str, settings: &BTreeMap<String, String>) -> String {
    let mut parts = argument.split('%');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    while let Some(name) = parts.next() {
        match parts.next() {
            Some(rest) if !name.is_empty() => {
                let setting = settings.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                whole.push_str(setting.map_or("", |(_, value)| value));
                whole.push_str(rest);
            }
            rest => {
                whole.push('%');
                whole.push_str(name);
                if let Some(rest) = rest {
                    whole.push('%');
                    whole.push_str(rest);
                }
            }
        }
    }
    whole
}

/// Puts settings in place of `%NAME%`.
fn resolved(text: &str, settings: &BTreeMap<String, String>) -> Result<String, String> {
    let mut parts = text.split('%');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    while let Some(name) = parts.next() {
        let Some(rest) = parts.next() else {
            whole.push('%');
            whole.push_str(name);
            break;
        };
        let setting = settings.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        let (_, value) = setting.ok_or_else(|| format!("'%{name}%' does not resolve: there is no setting {name}"))?;
        whole.push_str(value);
        whole.push_str(rest);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = r#"{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"handler"}}}"#;

    fn settings() -> BTreeMap<String, String> {
        BTreeMap::from([
            ("ServiceBus__fullyQualifiedNamespace".to_owned(), "ns".to_owned()),
            ("SWEEP".to_owned(), "0 */5 * * * *".to_owned()),
            ("QUEUE".to_owned(), "approval".to_owned()),
        ])
    }

    fn files(host: &str, functions: &[(&str, &str)]) -> HostFiles {
        HostFiles {
            root: PathBuf::from("/app"),
            host_json: host.to_owned(),
            functions: functions.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect(),
        }
    }

    fn bindings(bindings: &str) -> String {
        format!(r#"{{"bindings":[{bindings}]}}"#)
    }

    const TIMER: &str = r#"{"type":"timerTrigger","direction":"in","name":"timer","schedule":"%SWEEP%"}"#;
    const QUEUE: &str = r#"{"type":"serviceBusTrigger","direction":"in","name":"msg","queueName":"%queue%-1","connection":"ServiceBus"}"#;

    const QUEUE_WITH_RETRY: &str =
        r#"{"retry":{"strategy":"fixedDelay","maxRetryCount":2,"delayInterval":"00:00:10"},"bindings":[BINDING]}"#;

    #[test]
    fn an_app_is_read_with_the_hosts_defaults() {
        let config = HostConfig::read(&files(HOST, &[("sweep", &bindings(TIMER)), ("approval", &bindings(QUEUE))]), &settings()).unwrap();
        assert_eq!(config.executable, "handler");
        assert_eq!(config.initialization_timeout, Duration::from_secs(30));
        assert_eq!(config.max_concurrent_calls, 16);
        assert_eq!(config.route_prefix, "api");
        assert_eq!(config.http, HttpMode::Invocation);
        assert!(matches!(
            &config.function("APPROVAL").unwrap().trigger,
            TriggerKind::ServiceBus { queue, cardinality: Cardinality::One } if queue == "approval-1"
        ));
    }

    #[test]
    fn what_host_json_says_is_used() {
        let host = r#"{"version":"2.0","functionTimeout":"00:02:00",
            "customHandler":{"description":{"defaultExecutablePath":"h","arguments":["-v","--queue=%queue%","--none=%NOT_SET%","100%","%%"]},
                "enableForwardingHttpRequest":true,"enableProxyingHttpRequest":true,"initializationTimeout":"00:00:05"},
            "extensions":{"http":{"routePrefix":""},"serviceBus":{"maxConcurrentCalls":3,"maxAutoLockRenewalDuration":"00:10:00"}}}"#;
        let config = HostConfig::read(&files(host, &[("sweep", &bindings(TIMER))]), &settings()).unwrap();
        assert_eq!(config.function_timeout, Duration::from_secs(120));
        assert_eq!(config.initialization_timeout, Duration::from_secs(5));
        assert_eq!(config.http, HttpMode::Proxying);
        assert_eq!(config.max_concurrent_calls, 3);
        assert_eq!(config.route_prefix, "");
        assert_eq!(config.arguments, ["-v", "--queue=approval", "--none=", "100%", "%%"]);
        assert_eq!(config.lock_renewal, Duration::from_secs(600));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let host = r#"{"version":"1.0","functionTimeout":"soon","extensions":{"serviceBus":{"maxConcurrentCalls":0,"autoCompleteMessages":false}}}"#;
        let two = bindings(&format!("{TIMER},{}", QUEUE.replace("msg", "other")));
        let unknown = QUEUE.replace("%queue%", "%nowhere%");
        let elsewhere = QUEUE.replace("\"ServiceBus\"", "\"Other\"");
        let mistakes = HostConfig::read(
            &files(
                host,
                &[
                    ("1st", &bindings(TIMER)),
                    ("two", &two),
                    ("none", &bindings("")),
                    ("broken", "{"),
                    ("unknown", &bindings(&unknown)),
                    ("elsewhere", &bindings(&elsewhere)),
                    ("cron", &bindings(&TIMER.replace("%SWEEP%", "every minute"))),
                    ("kind", &bindings(&TIMER.replace("timerTrigger", "blobTrigger"))),
                    ("key", &bindings(r#"{"type":"httpTrigger","name":"req","direction":"in"}"#)),
                    ("again", &QUEUE_WITH_RETRY.replace("BINDING", QUEUE)),
                    ("never", &format!(r#"{{"retry":{{"strategy":"never","maxRetryCount":1}},"bindings":[{TIMER}]}}"#)),
                    ("twice", &bindings(&format!(r#"{TIMER},{{"type":"http","direction":"out","name":"TIMER"}}"#))),
                ],
            ),
            &settings(),
        )
        .unwrap_err();
        let text = mistakes.to_string();
        for expected in [
            "version",
            "soon",
            "maxConcurrentCalls",
            "autoCompleteMessages",
            "defaultExecutablePath",
            "1st/",
            "two/",
            "none/",
            "broken/",
            "%nowhere%",
            "Other__fullyQualifiedNamespace",
            "cron/",
            "blobtrigger",
            "anonymous",
            "again/function.json: it has a retry policy",
            "never/function.json: its retry strategy",
            "twice/",
        ] {
            assert!(text.contains(expected), "{expected} is not in:\n{text}");
        }
    }

    #[test]
    fn functions_are_found_in_a_source_tree_and_in_a_package() {
        for nested in ["functions", "."] {
            let root = std::env::temp_dir().join(format!("portcullis-config-{}", crate::machine::uuid()));
            let folder = root.join(nested).join("sweep");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(root.join("host.json"), HOST).unwrap();
            std::fs::write(folder.join("function.json"), bindings(TIMER)).unwrap();
            let files = HostFiles::read(&root).unwrap();
            std::fs::remove_dir_all(&root).unwrap();
            assert_eq!(files.functions.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["sweep"]);
        }
        assert!(HostFiles::read(Path::new("/nowhere")).is_err());
    }
}
