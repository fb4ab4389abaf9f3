//! Paths of ARM requests: which scope, which provider, which resource.

use http::Method;

use super::envelope::Refusal;

/// ARM refuses ids beyond this (documentation of resource naming rules).
const LONGEST_ID: usize = 2048;
/// The longest name of a resource group (REST specification).
const LONGEST_GROUP: usize = 90;

/// What a path points at.
pub(super) enum Target {
    Metadata,
    Tenants,
    Subscriptions,
    Subscription,
    Entities,
    Groups,
    Group,
    Resource(Resource),
}

/// A path, taken apart.
pub(super) struct Path {
    /// The path, decoded, without a slash at its end.
    pub whole: String,
    /// The subscription, as given.
    pub subscription: Option<String>,
    /// The resource group, as given.
    pub group: Option<String>,
    pub target: Target,
}

/// A provider's resource, collection or action.
#[derive(Clone)]
pub(super) struct Resource {
    pub kind: Kind,
    /// The names along the path; for a collection without its own last.
    pub names: Vec<String>,
    /// Everything before the last `/providers/`.
    pub scope: String,
    pub form: Form,
}

/// In which form a path names a resource type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All of them under a scope.
    Collection,
    /// One.
    Item,
    /// Something to be done with one.
    Action(String),
}

macro_rules! kinds {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// The resource types that this Azure knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Kind { $($variant),+ }

        impl Kind {
            /// The type, as ARM writes it.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name),+ }
            }

            const ALL: &'static [Kind] = &[$(Kind::$variant),+];
        }
    };
}

kinds! {
    VirtualMachine = "Microsoft.Compute/virtualMachines",
    NetworkInterface = "Microsoft.Network/networkInterfaces",
    VirtualNetwork = "Microsoft.Network/virtualNetworks",
    Subnet = "Microsoft.Network/virtualNetworks/subnets",
    PublicAddress = "Microsoft.Network/publicIPAddresses",
    SecurityGroup = "Microsoft.Network/networkSecurityGroups",
    SecurityRule = "Microsoft.Network/networkSecurityGroups/securityRules",
    DefaultRule = "Microsoft.Network/networkSecurityGroups/defaultSecurityRules",
    Operation = "Microsoft.Network/locations/operations",
    OperationResult = "Microsoft.Network/locations/operationResults",
    JitPolicies = "Microsoft.Security/jitNetworkAccessPolicies",
    JitPolicy = "Microsoft.Security/locations/jitNetworkAccessPolicies",
    Pricing = "Microsoft.Security/pricings",
    ActivityLog = "Microsoft.Insights/eventtypes/values",
    Lock = "Microsoft.Authorization/locks",
    Permission = "Microsoft.Authorization/permissions",
    RoleAssignment = "Microsoft.Authorization/roleAssignments",
    RoleDefinition = "Microsoft.Authorization/roleDefinitions",
    SystemTopic = "Microsoft.EventGrid/systemTopics",
    EventSubscription = "Microsoft.EventGrid/systemTopics/eventSubscriptions",
    ScopedEventSubscription = "Microsoft.EventGrid/eventSubscriptions",
    Incident = "Microsoft.SecurityInsights/incidents",
}

impl Kind {
    fn named(namespace: &str, types: &[&str]) -> Option<Kind> {
        let name = format!("{namespace}/{}", types.join("/"));
        Kind::ALL.iter().copied().find(|kind| kind.name().eq_ignore_ascii_case(&name))
    }

    fn knows_namespace(namespace: &str) -> bool {
        Kind::ALL.iter().any(|kind| kind.name().split('/').next().is_some_and(|known| known.eq_ignore_ascii_case(namespace)))
    }

    /// The ARM action of a request. The list of all JIT policies is governed by the action of a single one: the
    /// provider's operations know no other (documentation).
    pub fn action(self, method: &Method, form: &Form) -> String {
        let name = match self {
            Kind::JitPolicies => Kind::JitPolicy.name(),
            other => other.name(),
        };
        match (form, method.as_str()) {
            (Form::Action(action), "GET") => format!("{name}/{action}/read"),
            (Form::Action(action), _) => format!("{name}/{action}/action"),
            (_, "PUT" | "PATCH") => format!("{name}/write"),
            (_, "DELETE") => format!("{name}/delete"),
            _ => format!("{name}/read"),
        }
    }
}

impl Resource {
    /// The id of the item, with the type written as ARM does.
    pub fn id(&self) -> String {
        let mut parts = self.kind.name().split('/');
        let mut id = format!("{}/providers/{}", self.scope, parts.next().unwrap_or_default());
        for (part, name) in parts.zip(&self.names) {
            id.push('/');
            id.push_str(part);
            id.push('/');
            id.push_str(name);
        }
        id
    }

    /// What the logs call it: an item's id, or the whole path of a collection.
    pub fn named(&self, whole: &str) -> String {
        match self.form {
            Form::Item | Form::Action(_) => self.id(),
            Form::Collection => whole.to_owned(),
        }
    }

    /// The id of the resource that this one is a part of.
    pub fn parent_id(&self) -> String {
        let id = self.id();
        let types = self.kind.name().split('/').count() - 1;
        match (&self.form, self.names.len() == types) {
            (Form::Collection, _) | (_, false) => id,
            (_, true) => super::path::parent(&id).to_owned(),
        }
    }

    /// The scope over which a caller needs the right.
    pub fn authorization_scope(&self) -> String {
        match self.form {
            Form::Collection if self.names.is_empty() => self.scope.clone(),
            Form::Collection if self.kind == Kind::JitPolicy => self.scope.clone(),
            Form::Collection | Form::Item | Form::Action(_) => self.id(),
        }
    }

    /// The last name of the path.
    pub fn name(&self) -> &str {
        self.names.last().map_or("", String::as_str)
    }
}

/// Takes a request's path apart; the path may come in any letter case.
pub(super) fn parse(raw: &str, api_version: Option<&str>) -> Result<Path, Refusal> {
    let decoded = percent_decode(raw);
    let segments: Vec<&str> = decoded.split('/').filter(|s| !s.is_empty()).collect();
    let whole = format!("/{}", segments.join("/"));
    if whole.len() > LONGEST_ID {
        return Err(Refusal::gateway(
            400,
            "InvalidResourceId",
            format!("The resource id has {} characters; it must not exceed {LONGEST_ID}.", whole.len()),
        ));
    }
    let is = |at: usize, word: &str| segments.get(at).is_some_and(|s| s.eq_ignore_ascii_case(word));
    let mut path = Path { subscription: None, group: None, target: Target::Subscriptions, whole };
    if is(0, "metadata") && is(1, "endpoints") && segments.len() == 2 {
        path.target = Target::Metadata;
        return Ok(path);
    }
    if is(0, "tenants") && segments.len() == 1 {
        path.target = Target::Tenants;
        return Ok(path);
    }
    if super::management_groups::is_entities(&path.whole) {
        path.target = Target::Entities;
        return Ok(path);
    }
    if !is(0, "subscriptions") {
        return Err(no_such_path(&path.whole));
    }
    let Some(subscription) = segments.get(1) else {
        return Ok(path);
    };
    path.subscription = Some((*subscription).to_owned());
    if is(2, "resourceGroups") {
        match segments.get(3) {
            Some(group) => path.group = Some(valid_group(group)?),
            None => {
                path.target = Target::Groups;
                return Ok(path);
            }
        }
    }
    let scope_end = if path.group.is_some() { 4 } else { 2 };
    path.target = match segments.iter().rposition(|s| s.eq_ignore_ascii_case("providers")) {
        Some(at) if at >= scope_end => Target::Resource(resource(&segments, at, api_version)?),
        _ if segments.len() == 2 => Target::Subscription,
        _ if segments.len() == 4 && path.group.is_some() => Target::Group,
        _ => return Err(no_such_path(&path.whole)),
    };
    Ok(path)
}

fn resource(segments: &[&str], providers: usize, api_version: Option<&str>) -> Result<Resource, Refusal> {
    let scope = format!("/{}", segments[..providers].join("/"));
    let rest = &segments[providers + 1..];
    let Some((namespace, rest)) = rest.split_first() else {
        return Err(no_such_path(&format!("{scope}/providers")));
    };
    let types: Vec<&str> = rest.iter().step_by(2).copied().collect();
    let names: Vec<String> = rest.iter().skip(1).step_by(2).map(|s| (*s).to_owned()).collect();
    let ends_in_type = rest.len() % 2 == 1;
    if let Some(kind) = Kind::named(namespace, &types) {
        let form = if ends_in_type { Form::Collection } else { Form::Item };
        return Ok(Resource { kind, names, scope, form });
    }
    if ends_in_type
        && let Some((action, owner)) = types.split_last()
        && let Some(kind) = Kind::named(namespace, owner)
    {
        let form = Form::Action((*action).to_owned());
        return Ok(Resource { kind, names, scope, form });
    }
    if !Kind::knows_namespace(namespace) {
        return Err(Refusal::gateway(404, "InvalidResourceNamespace", format!("The resource namespace '{namespace}' is invalid.")));
    }
    Err(Refusal::gateway(
        404,
        "InvalidResourceType",
        format!(
            "The resource type '{}' could not be found in the namespace '{namespace}' for api version '{}'.",
            types.join("/"),
            api_version.unwrap_or_default()
        ),
    ))
}

fn valid_group(group: &str) -> Result<String, Refusal> {
    let fits = group.len() <= LONGEST_GROUP;
    let written_well = group.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '(' | ')'));
    if fits && written_well {
        return Ok(group.to_owned());
    }
    Err(Refusal::gateway(
        400,
        "InvalidResourceGroupName",
        format!("The resource group name '{group}' is invalid: 1 to {LONGEST_GROUP} letters, digits, '-', '_', '.', '(' and ')'."),
    ))
}

fn no_such_path(path: &str) -> Refusal {
    Refusal::gateway(
        404,
        "InvalidRequestUri",
        format!("There is nothing at '{path}': a path names a subscription, a resource group or a provider's resource."),
    )
}

/// An api-version as ARM writes it: a date, perhaps with `-preview` or another label.
pub(super) fn is_api_version(version: &str) -> bool {
    let (date, label) = match version.char_indices().nth(10) {
        Some((at, '-')) => (&version[..at], &version[at + 1..]),
        Some(_) => return false,
        None => (version, "preview"),
    };
    let written_well = date.len() == 10
        && date.bytes().enumerate().all(|(i, b)| match i {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        });
    written_well
        && chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d").is_ok()
        && ["preview", "privatepreview", "alpha", "beta"].contains(&label)
}

/// The id one level up.
pub(super) fn parent(id: &str) -> &str {
    let mut cuts = id.rmatch_indices('/').map(|(at, _)| at);
    match (cuts.next(), cuts.next()) {
        (Some(_), Some(at)) => &id[..at],
        _ => id,
    }
}

/// The last segment of an id.
pub(super) fn last(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

/// The segment after the first segment `word`, letter case aside.
pub(super) fn segment_after<'a>(id: &'a str, word: &str) -> Option<&'a str> {
    let mut segments = id.split('/');
    segments.by_ref().find(|s| s.eq_ignore_ascii_case(word))?;
    segments.next()
}

/// Whether `id` is `scope` or below it, letter case aside.
pub(super) fn is_within(id: &str, scope: &str) -> bool {
    let scope = scope.trim_end_matches('/');
    id.get(..scope.len()).is_some_and(|head| head.eq_ignore_ascii_case(scope))
        && matches!(id.as_bytes().get(scope.len()), None | Some(b'/'))
}

fn percent_decode(raw: &str) -> String {
    let bytes = raw.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| raw.get(at + 1..at + 3)).flatten().and_then(|two| u8::from_str_radix(two, 16).ok());
        out.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A text as it may stand in a query's value.
pub(super) fn query_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$'".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(path: &str) -> (Kind, Form, String) {
        match parse(path, None).map(|p| p.target) {
            Ok(Target::Resource(r)) => (r.kind, r.form.clone(), r.id()),
            _ => panic!("no resource: {path}"),
        }
    }

    #[test]
    fn paths_are_read_in_any_letter_case() {
        let (kind, form, id) =
            kind_of("/SUBSCRIPTIONS/s/RESOURCEGROUPS/g/PROVIDERS/microsoft.network/NETWORKSECURITYGROUPS/n/securityrules/r");
        assert_eq!((kind, form), (Kind::SecurityRule, Form::Item));
        assert_eq!(id, "/SUBSCRIPTIONS/s/RESOURCEGROUPS/g/providers/Microsoft.Network/networkSecurityGroups/n/securityRules/r");
    }

    #[test]
    fn an_action_belongs_to_its_resource() {
        let (kind, form, _) =
            kind_of("/subscriptions/s/resourceGroups/g/providers/Microsoft.Security/locations/l/jitNetworkAccessPolicies/p/initiate");
        assert_eq!((kind, form), (Kind::JitPolicy, Form::Action("initiate".to_owned())));
    }

    #[test]
    fn an_encoded_slash_is_a_slash() {
        let (kind, form, _) =
            kind_of("/subscriptions/s/resourcegroups/g/providers/Microsoft.Sql%2FServers/x/providers/Microsoft.Authorization/locks");
        assert_eq!((kind, form), (Kind::Lock, Form::Collection));
    }

    #[test]
    fn api_versions_are_dates() {
        for good in ["2020-01-01", "2015-06-01-preview"] {
            assert!(is_api_version(good), "{good}");
        }
        for bad in ["", "latest", "2020-1-1", "2020-13-01", "2020-01-01-", "2020-01-01preview", "2020-01-01-foo"] {
            assert!(!is_api_version(bad), "{bad}");
        }
    }

    #[test]
    fn a_scope_ends_at_a_segment() {
        assert!(is_within("/subscriptions/S/resourceGroups/g", "/subscriptions/s"));
        assert!(is_within("/subscriptions/s", "/"));
        assert!(!is_within("/subscriptions/s2", "/subscriptions/s"));
    }
}
