//! What Azure refuses, with its status and code, one row each: in process, and once more over https.

use bytes::Bytes;
use chrono::TimeDelta;
use serde_json::{Value, json};

use portcullis_sandbox::state::{Assignment, Denial, Lock, LockLevel, Principal};
use portcullis_sandbox::switches::{NsgIfMatch, PlanOffRefuses};
use portcullis_sandbox::{entra, estate};

use crate::support::{ARM, Desk, Seen, a_rule, after, in_group, in_subscription, nsg, policy, versioned, vm};

/// What stands between a caller and the policy `default`: a name, a body and what it is answered.
struct Row {
    name: &'static str,
    method: &'static str,
    path: String,
    body: Value,
    status: u16,
    code: &'static str,
}

fn row(name: &'static str, method: &'static str, path: String, body: Value, status: u16, code: &'static str) -> Row {
    Row { name, method, path, body, status, code }
}

fn check(desk: &mut Desk, rows: Vec<Row>) {
    for Row { name, method, path, body, status, code } in rows {
        let before = desk.state.resources.clone();
        let body = match &body {
            Value::Null => Bytes::new(),
            Value::String(raw) => Bytes::from(raw.clone()),
            other => Bytes::from(other.to_string()),
        };
        let bearer = desk.bearer();
        for seen in desk.refusals(method, &versioned(&path), &body, bearer) {
            is_refusal(&seen, name, status, code);
        }
        let (before, now): (Vec<Value>, Vec<Value>) = (before.into(), desk.state.resources.clone().into());
        assert!(before == now, "{name} changed the world");
    }
}

fn is_refusal(seen: &Seen, name: &str, status: u16, code: &str) {
    assert_eq!((seen.status, seen.code()), (status, code), "{name}: {}", seen.body);
    assert!(!seen.body["error"]["message"].as_str().unwrap_or_default().is_empty(), "{name}");
    assert!(seen.header("x-ms-failure-cause").is_some(), "{name}");
    assert_eq!(seen.header("content-type"), Some("application/json; charset=utf-8"), "{name}");
    let challenge = seen.header("www-authenticate");
    assert_eq!(challenge.is_some_and(|it| it.starts_with("Bearer authorization_uri=\"")), status == 401, "{name}: {challenge:?}");
}

/// A story that ends in refusals.
type Scenario = fn(&mut Desk);

/// Every test of this file, for the one that tells them over https.
const SCENARIOS: [Scenario; 8] = [
    requests_that_arm_itself_refuses,
    calls_without_a_good_token,
    callers_without_the_right,
    locks_and_policies,
    rules_that_the_network_provider_refuses,
    conditions_that_do_not_hold,
    requests_that_jit_refuses,
    policies_that_jit_refuses,
];

#[test]
fn every_refusal_has_azures_status_and_code() {
    for scenario in SCENARIOS {
        scenario(&mut Desk::small());
    }
}

#[test]
fn every_refusal_is_the_same_over_https() {
    let mut desk = Desk::small_over_https();
    for scenario in SCENARIOS {
        desk = desk.renewed();
        scenario(&mut desk);
    }
    assert!(desk.sent() >= 80, "{} requests were sent", desk.sent());
}

fn requests_that_arm_itself_refuses(desk: &mut Desk) {
    let unknown = "5a4db0c5-ffff-4000-8000-000000000001";
    let missing = |rest: &str| in_group(rest);
    let long_group = "g".repeat(91);
    let long_name = "n".repeat(2100);
    check(
        desk,
        vec![
            row("api-version malformed", "GET", format!("{}?api-version=latest", policy()), Value::Null, 400, "InvalidApiVersionParameter"),
            row("api-version empty", "GET", format!("{}?api-version=", policy()), Value::Null, 400, "MissingApiVersionParameter"),
            row(
                "api-version too old for a type",
                "GET",
                format!("{}?api-version=1999-01-01", vm("web-1")),
                Value::Null,
                400,
                "InvalidResourceType",
            ),
            row(
                "api-version of the future",
                "DELETE",
                format!("{}/securityRules/x?api-version=2099-01-01", nsg("nsg-web-1")),
                Value::Null,
                400,
                "InvalidResourceType",
            ),
            row(
                "api-version unknown where a location is named",
                "GET",
                format!("{}?api-version=2099-01-01", policy()),
                Value::Null,
                400,
                "NoRegisteredProviderFound",
            ),
            row(
                "api-version unknown to ARM itself",
                "GET",
                "/subscriptions?api-version=2099-01-01".to_owned(),
                Value::Null,
                400,
                "InvalidApiVersionParameter",
            ),
            row(
                "subscription unknown",
                "GET",
                format!("/subscriptions/{unknown}/providers/Microsoft.Compute/virtualMachines"),
                Value::Null,
                404,
                "SubscriptionNotFound",
            ),
            row(
                "subscription malformed",
                "GET",
                "/subscriptions/mine/providers/Microsoft.Compute/virtualMachines".to_owned(),
                Value::Null,
                400,
                "InvalidSubscriptionId",
            ),
            row(
                "group unknown",
                "GET",
                format!("/subscriptions/{}/resourceGroups/none/providers/Microsoft.Compute/virtualMachines/x", estate::SUBSCRIPTION),
                Value::Null,
                404,
                "ResourceGroupNotFound",
            ),
            row(
                "group too long",
                "GET",
                format!("/subscriptions/{}/resourceGroups/{long_group}", estate::SUBSCRIPTION),
                Value::Null,
                400,
                "InvalidResourceGroupName",
            ),
            row("id too long", "GET", vm(&long_name), Value::Null, 400, "InvalidResourceId"),
            row("namespace unknown", "GET", missing("Microsoft.Nothing/things/x"), Value::Null, 404, "InvalidResourceNamespace"),
            row("type unknown", "GET", missing("Microsoft.Network/things/x"), Value::Null, 404, "InvalidResourceType"),
            row(
                "region without JIT",
                "GET",
                missing("Microsoft.Security/locations/atlantis/jitNetworkAccessPolicies/default"),
                Value::Null,
                400,
                "NoRegisteredProviderFound",
            ),
            row("path of nothing", "GET", "/nothing/here".to_owned(), Value::Null, 404, "InvalidRequestUri"),
            row("VM unknown", "GET", vm("none"), Value::Null, 404, "ResourceNotFound"),
            row("NIC unknown", "GET", missing("Microsoft.Network/networkInterfaces/none"), Value::Null, 404, "ResourceNotFound"),
            row("NSG unknown", "GET", nsg("none"), Value::Null, 404, "ResourceNotFound"),
            row("rule of an unknown NSG", "DELETE", format!("{}/securityRules/x", nsg("none")), Value::Null, 404, "ResourceNotFound"),
            row("rule unknown", "GET", format!("{}/securityRules/none", nsg("nsg-web-1")), Value::Null, 404, "NotFound"),
            row("policy unknown", "GET", format!("{}x", policy()), Value::Null, 404, "PolicyNotFound"),
            row("policy in another region", "GET", policy().replace("westeurope", "northeurope"), Value::Null, 404, "PolicyNotFound"),
            row("initiate on an unknown policy", "POST", format!("{}x/initiate", policy()), json!({}), 404, "PolicyNotFound"),
            row("an action that is none", "POST", format!("{}/revoke", policy()), json!({}), 404, "InvalidResourceType"),
            row("method that a VM does not have", "DELETE", vm("web-1"), Value::Null, 405, "HttpMethodNotSupported"),
            row(
                "method that a list does not have",
                "POST",
                in_subscription("Microsoft.Network/networkSecurityGroups"),
                Value::Null,
                405,
                "HttpMethodNotSupported",
            ),
            row(
                "default rules stay",
                "DELETE",
                format!("{}/defaultSecurityRules/DenyAllInBound", nsg("nsg-web-1")),
                Value::Null,
                405,
                "HttpMethodNotSupported",
            ),
            row("body is no JSON", "POST", format!("{}/initiate", policy()), json!("{"), 400, "InvalidRequestContent"),
            row(
                "rule body is no JSON",
                "PUT",
                format!("{}/securityRules/x", nsg("nsg-web-1")),
                json!("nope"),
                400,
                "InvalidRequestContent",
            ),
            row(
                "operation unknown",
                "GET",
                in_subscription(&format!("Microsoft.Network/locations/westeurope/operations/{unknown}")),
                Value::Null,
                404,
                "NotFound",
            ),
            row(
                "skip token made up",
                "GET",
                format!("{}?$skiptoken=2x", in_subscription("Microsoft.Compute/virtualMachines")),
                Value::Null,
                400,
                "InvalidSkipToken",
            ),
            row(
                "skip token of the right length made up",
                "GET",
                format!("{}?$skiptoken=9e3779b89e3779b97f4a7c15", in_subscription("Microsoft.Compute/virtualMachines")),
                Value::Null,
                400,
                "InvalidSkipToken",
            ),
            row(
                "skip token of letters that are more than one byte",
                "GET",
                format!("{}?$skiptoken=€€€€€€€€", in_subscription("Microsoft.Compute/virtualMachines")),
                Value::Null,
                400,
                "InvalidSkipToken",
            ),
            row("expansion unknown", "GET", format!("{}?$expand=everything", vm("web-1")), Value::Null, 400, "InvalidParameter"),
            row(
                "expansion of a list",
                "GET",
                format!("{}?$expand=instanceView", in_subscription("Microsoft.Compute/virtualMachines")),
                Value::Null,
                400,
                "InvalidParameter",
            ),
        ],
    );
}

fn calls_without_a_good_token(desk: &mut Desk) {
    let admin = estate::ADMIN_OBJECT_ID;
    let bearer = |token: Option<String>| token.map(|token| format!("Bearer {token}"));
    let good = entra::mint(&desk.state, admin, ARM);
    let foreign = entra::mint(&desk.state, admin, "https://storage.azure.com");
    let old = entra::mint_aged(&desk.state, admin, ARM, TimeDelta::days(2));
    let broken = good.clone().map(|token| format!("{token}x"));
    let path = format!("{}?api-version=2020-01-01", policy());
    for (name, authorization, code) in [
        ("none", None, "AuthenticationFailed"),
        ("of another audience", bearer(foreign), "InvalidAuthenticationToken"),
        ("not ours", Some("Bearer abc.def.ghi".to_owned()), "InvalidAuthenticationToken"),
        ("altered", bearer(broken), "InvalidAuthenticationToken"),
        ("expired", bearer(old), "ExpiredAuthenticationToken"),
    ] {
        for seen in desk.refusals("GET", &path, &Bytes::new(), authorization) {
            is_refusal(&seen, name, 401, code);
        }
    }
    for seen in desk.refusals("GET", &policy(), &Bytes::new(), bearer(good)) {
        is_refusal(&seen, "no api-version", 400, "MissingApiVersionParameter");
    }
}

fn callers_without_the_right(desk: &mut Desk) {
    let who = "5a4db0c5-00b0-4000-8000-00000000ffff";
    let rule = format!("{}/securityRules/x", nsg("nsg-web-1"));
    desk.state.principals.push(Principal {
        object_id: who.to_owned(),
        upn: "nina@sandbox.example".to_owned(),
        assignments: vec![
            Assignment {
                scope: format!("/SUBSCRIPTIONS/{}/resourcegroups/RG-workload", estate::SUBSCRIPTION),
                actions: vec!["*/READ".to_owned()],
            },
            Assignment { scope: policy(), actions: vec!["microsoft.security/locations/jitnetworkaccesspolicies/*".to_owned()] },
        ],
        ..Principal::default()
    });
    desk.as_(who);
    assert_eq!(desk.get(&vm("web-1")).status, 200, "a right on the group is one on all in it");
    let vms = in_subscription("Microsoft.Compute/virtualMachines");
    check(
        desk,
        vec![
            row("no right on the subscription", "GET", vms, Value::Null, 403, "AuthorizationFailed"),
            row("no right to delete a rule", "DELETE", rule.clone(), Value::Null, 403, "AuthorizationFailed"),
            row("no right to write a rule", "PUT", rule, a_rule(200), 403, "AuthorizationFailed"),
            row(
                "no right on a linked VM",
                "PUT",
                policy(),
                json!({"properties": {"virtualMachines": [
                    {"id": vm("web-1"), "ports": [{"number": 22, "protocol": "TCP", "maxRequestAccessDuration": "PT1H"}]}
                ]}}),
                403,
                "LinkedAuthorizationFailed",
            ),
        ],
    );
    let seen = desk.get(&in_subscription("Microsoft.Network/networkInterfaces"));
    let message = seen.body["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("'Microsoft.Network/networkInterfaces/read'"), "{message}");
    assert!(message.contains(&format!("over scope '/subscriptions/{}'", estate::SUBSCRIPTION)), "{message}");

    desk.as_(estate::AUDITOR_OBJECT_ID);
    assert_eq!(desk.get("/subscriptions").body["value"], json!([]), "who has no right sees no subscription");
    assert_eq!(desk.get(&format!("/subscriptions/{}", estate::SUBSCRIPTION)).code(), "AuthorizationFailed");
}

fn locks_and_policies(desk: &mut Desk) {
    let rule = format!("{}/securityRules/x", nsg("nsg-web-1"));
    assert_eq!(desk.put(&rule, &a_rule(200)).status, 201);
    desk.advance(60);
    desk.state.locks.push(Lock::new(nsg("NSG-web-1"), LockLevel::CanNotDelete));
    check(desk, vec![row("delete under a delete lock", "DELETE", rule.clone(), Value::Null, 409, "ScopeLocked")]);
    assert_eq!(desk.put(&rule, &a_rule(201)).status, 200, "a delete lock stops no write");
    desk.advance(60);
    let without = json!({"location": "westeurope", "properties": {"securityRules": []}});
    assert_eq!(desk.put(&nsg("nsg-web-1"), &without).status, 200, "a full write drops the rule under a delete lock");
    desk.advance(60);
    assert_eq!(desk.get(&rule).status, 404);

    desk.state.locks = vec![Lock::new(format!("/subscriptions/{}", estate::SUBSCRIPTION), LockLevel::ReadOnly)];
    check(
        desk,
        vec![
            row("write under a lock of the subscription", "PUT", rule.clone(), a_rule(202), 409, "ScopeLocked"),
            row("action under a lock", "POST", format!("{}/initiate", policy()), json!({}), 409, "ScopeLocked"),
        ],
    );
    let locks = desk.get(&format!("{}/providers/Microsoft.Authorization/locks", nsg("nsg-web-1")));
    assert_eq!(locks.body["value"][0]["properties"]["level"], "ReadOnly");

    desk.state.locks.clear();
    desk.state.denials.push(Denial {
        scope: format!("/subscriptions/{}", estate::SUBSCRIPTION),
        action: "Microsoft.Network/networkSecurityGroups/securityRules/*".to_owned(),
    });
    check(
        desk,
        vec![
            row("write that a policy denies", "PUT", rule.clone(), a_rule(203), 403, "RequestDisallowedByPolicy"),
            row("delete that a policy denies", "DELETE", rule, Value::Null, 403, "RequestDisallowedByPolicy"),
        ],
    );
}

fn rules_that_the_network_provider_refuses(desk: &mut Desk) {
    let at = |name: &str| format!("{}/securityRules/{name}", nsg("nsg-web-1"));
    assert_eq!(desk.put(&at("first"), &a_rule(200)).status, 201);
    desk.advance(60);
    let change = |field: &str, value: Value| {
        let mut rule = a_rule(300);
        rule["properties"][field] = value;
        rule
    };
    let mut both = change("destinationPortRanges", json!(["80"]));
    both["properties"]["destinationPortRange"] = json!("443");
    let mut cases = vec![
        row("priority taken", "PUT", at("x"), a_rule(200), 400, "SecurityRuleConflict"),
        row("singular and plural", "PUT", at("x"), both, 400, "SecurityRuleInvalidParameters"),
        row("name", "PUT", at("_x-"), a_rule(300), 400, "InvalidResourceName"),
        row("no properties", "PUT", at("x"), json!({}), 400, "InvalidRequestFormat"),
    ];
    for (field, value, code) in [
        ("priority", json!(99), "SecurityRuleInvalidPriority"),
        ("priority", json!(4097), "SecurityRuleInvalidPriority"),
        ("priority", Value::Null, "InvalidRequestFormat"),
        ("protocol", json!("HTTP"), "InvalidRequestFormat"),
        ("access", Value::Null, "InvalidRequestFormat"),
        ("direction", json!("Up"), "InvalidRequestFormat"),
        ("destinationPortRange", json!("65536"), "SecurityRuleInvalidPortRange"),
        ("destinationPortRange", json!("90-80"), "SecurityRuleInvalidPortRange"),
        ("destinationPortRange", Value::Null, "InvalidRequestFormat"),
        ("sourceAddressPrefix", json!("50.206.209.68/33"), "SecurityRuleInvalidAddressPrefix"),
        ("sourceAddressPrefix", json!(7), "InvalidRequestFormat"),
        ("description", json!("d".repeat(141)), "SecurityRuleInvalidDescription"),
    ] {
        cases.push(row(field, "PUT", at("x"), change(field, value), 400, code));
    }
    cases.push(row("NSG without a location", "PUT", nsg("other"), json!({"properties": {}}), 400, "LocationRequired"));
    cases.push(row("NSG moved", "PUT", nsg("nsg-web-1"), json!({"location": "eastus"}), 409, "InvalidResourceLocation"));
    cases.push(row("NSG in use", "DELETE", nsg("nsg-web-1"), Value::Null, 400, "InUseNetworkSecurityGroupCannotBeDeleted"));
    check(desk, cases);
}

fn conditions_that_do_not_hold(desk: &mut Desk) {
    let at = |name: &str| format!("{}/securityRules/{name}", nsg("nsg-web-1"));
    assert_eq!(desk.put(&at("first"), &a_rule(200)).status, 201);
    desk.advance(60);
    desk.with("if-match", "W/\"stale\"");
    let seen = desk.put(&at("first"), &a_rule(201));
    assert_eq!((seen.status, seen.code()), (412, "PreconditionFailed"));
    assert_eq!(seen.body["error"]["details"][0]["code"], "PreconditionFailedEtagMismatch");
    desk.state.switches.nsg_if_match = NsgIfMatch::Ignored;
    desk.with("if-match", "W/\"stale\"");
    assert_eq!(desk.put(&at("first"), &a_rule(202)).status, 200, "where the provider ignores conditions");
    desk.advance(60);
    desk.with("if-match", "W/\"stale\"");
    assert_eq!(desk.delete(&at("none-such")).status, 204);
    desk.with("if-match", "W/\"stale\"");
    assert_eq!(desk.delete(&at("first")).status, 202);
    desk.advance(60);
    assert_eq!(desk.put(&at("first"), &a_rule(200)).status, 201);
    desk.advance(60);
    desk.state.switches.nsg_if_match = NsgIfMatch::Honoured;
    desk.with("if-match", "W/\"stale\"");
    assert_eq!(desk.delete(&at("first")).status, 412);
    let etag = desk.get(&nsg("nsg-web-1")).body["etag"].as_str().unwrap_or_default().to_owned();
    desk.with("if-match", &etag);
    assert_eq!(desk.put(&at("first"), &a_rule(201)).status, 200);
}

fn requests_that_jit_refuses(desk: &mut Desk) {
    let soon = after(desk, 3600);
    let initiate = format!("{}/initiate", policy());
    let ask = |id: String, port: Value| json!({"virtualMachines": [{"id": id, "ports": [port]}]});
    let web = |port: Value| ask(vm("web-1"), port);
    let ending = |end: &str| web(json!({"number": 22, "endTimeUtc": end, "allowedSourceAddressPrefix": "10.0.0.1"}));
    let from = |source: &str| web(json!({"number": 22, "endTimeUtc": soon, "allowedSourceAddressPrefix": source}));
    let bad = |name, body| row(name, "POST", initiate.clone(), body, 400, "BadRequest");
    let (past, now, too_far) = (after(desk, -1), after(desk, 0), after(desk, 86_401));
    check(
        desk,
        vec![
            bad("no VMs", json!({"virtualMachines": []})),
            bad("VMs are no list", json!({})),
            bad("no ports", json!({"virtualMachines": [{"id": vm("web-1"), "ports": []}]})),
            bad("port not in the policy", web(json!({"number": 5985, "endTimeUtc": soon}))),
            bad("port out of range", web(json!({"number": 65536, "endTimeUtc": soon}))),
            bad("VM not in the policy", ask(vm("web-9"), json!({"number": 22, "endTimeUtc": soon}))),
            bad("IPv6 source", from("2001:db8::1")),
            bad("source that is none", from("Internet")),
            bad("no end", web(json!({"number": 22}))),
            bad("end and duration", web(json!({"number": 22, "endTimeUtc": soon, "duration": "PT1H"}))),
            bad("duration malformed", web(json!({"number": 22, "duration": "1h"}))),
            bad("end in the past", ending(&past)),
            bad("end now", ending(&now)),
            bad("longer than the policy's maximum", ending(&too_far)),
            bad("end that is no instant", ending("soon")),
            bad(
                "singular and plural sources",
                web(
                    json!({"number": 22, "endTimeUtc": soon, "allowedSourceAddressPrefix": "10.0.0.1", "allowedSourceAddressPrefixes": ["10.0.0.2"]}),
                ),
            ),
            row(
                "VM id malformed",
                "POST",
                initiate.clone(),
                ask("web-1".to_owned(), json!({"number": 22, "endTimeUtc": soon})),
                403,
                "LinkedAuthorizationFailed",
            ),
        ],
    );
    let seen = desk.post(&initiate, &web(json!({"number": 5985, "endTimeUtc": soon})));
    let message = seen.body["error"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("The given access request is not a subset of policy '/subscriptions/"), "{message}");

    desk.state.subscriptions[0].jit_plan = false;
    let write = || row("plan off", "POST", initiate.clone(), web(json!({"number": 22, "endTimeUtc": soon})), 403, "Forbidden");
    check(desk, vec![row("plan off", "GET", policy(), Value::Null, 403, "Forbidden"), write()]);
    desk.state.switches.plan_off_refuses = PlanOffRefuses::Writes;
    assert_eq!(desk.get(&policy()).status, 200);
    check(desk, vec![write()]);
}

fn policies_that_jit_refuses(desk: &mut Desk) {
    let subscription = estate::numbered_subscription(2);
    estate::add_subscription(&mut desk.state, &subscription, "Other");
    let foreign = estate::add_vm(&mut desk.state, &estate::Vm::new(&subscription, estate::GROUP, "far"));
    let long = estate::add_vm(&mut desk.state, &estate::Vm::new(estate::SUBSCRIPTION, estate::GROUP, &"v".repeat(50)));
    let mut moved = estate::Vm::new(estate::SUBSCRIPTION, estate::GROUP, "north");
    moved.location = "northeurope".to_owned();
    let moved = estate::add_vm(&mut desk.state, &moved);
    let port = json!({"number": 22, "protocol": "TCP", "allowedSourceAddressPrefix": "*", "maxRequestAccessDuration": "PT3H"});
    let with = |id: &str, port: &Value| json!({"kind": "Basic", "properties": {"virtualMachines": [{"id": id, "ports": [port]}]}});
    let change = |field: &str, value: Value| {
        let mut port = port.clone();
        port[field] = value;
        with(&vm("web-1"), &port)
    };
    let bad = |name, body| row(name, "PUT", policy(), body, 400, "BadRequest");
    check(
        desk,
        vec![
            bad("no properties", json!({})),
            bad("VM of another subscription", with(&foreign, &port)),
            bad("VM of another region", with(&moved, &port)),
            bad("VM that does not exist", with(&vm("gone"), &port)),
            bad("names too long together", with(&long, &port)),
            bad(
                "VM twice",
                json!({"properties": {"virtualMachines": [{"id": vm("web-1"), "ports": [port]}, {"id": vm("WEB-1"), "ports": [port]}]}}),
            ),
            bad("port twice", json!({"properties": {"virtualMachines": [{"id": vm("web-1"), "ports": [port, port]}]}})),
            bad("protocol unknown", change("protocol", json!("ICMP"))),
            bad("port out of range", change("number", json!(-1))),
            bad("maximum too short", change("maxRequestAccessDuration", json!("PT4M59S"))),
            bad("maximum too long", change("maxRequestAccessDuration", json!("P1DT1S"))),
            bad("maximum missing", change("maxRequestAccessDuration", Value::Null)),
            bad("both prefix fields", change("allowedSourceAddressPrefixes", json!(["10.0.0.0/8"]))),
            bad("prefix that is none", change("allowedSourceAddressPrefix", json!("10.0.0.0/40"))),
            row("protocol empty", "PUT", policy(), change("protocol", json!("")), 500, "InternalServerError"),
        ],
    );
}
