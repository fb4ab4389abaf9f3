//! The activity log: what is in it, when it shows, and how it may be asked.

use serde_json::{Value, json};

use portcullis_sandbox::estate;

use crate::support::{Desk, after, in_subscription, policy, vm};

fn ask(desk: &mut Desk, more: &str) -> crate::support::Seen {
    let (from, until) = (after(desk, -86_400), after(desk, 86_400));
    let filter = format!("eventTimestamp ge '{from}' and eventTimestamp le '{until}'{more}");
    ask_raw(desk, &filter)
}

fn ask_raw(desk: &mut Desk, filter: &str) -> crate::support::Seen {
    let filter: String = url::form_urlencoded::byte_serialize(filter.as_bytes()).collect();
    let path = in_subscription("Microsoft.Insights/eventtypes/management/values");
    desk.get(&format!("{path}?api-version=2015-04-01&$filter={filter}"))
}

fn values(seen: &crate::support::Seen) -> Vec<Value> {
    assert_eq!(seen.status, 200, "{}", seen.body);
    seen.body["value"].as_array().cloned().unwrap_or_default()
}

#[test]
fn an_initiate_shows_late_and_with_one_correlation_id() {
    let mut desk = Desk::small();
    let seen = desk.as_(estate::RESPONDER_OBJECT_ID).initiate(22, &json!({"duration": "PT1H"}));
    let correlation = seen.header("x-ms-correlation-request-id").unwrap_or_default().to_owned();
    desk.as_(estate::PRODUCT_OBJECT_ID).advance(299);
    assert!(values(&ask(&mut desk, "")).is_empty(), "it lags by minutes");
    desk.advance(2);
    let more = format!(" and correlationId eq '{correlation}'");
    let entries = values(&ask(&mut desk, &more));
    let about_policy: Vec<_> =
        entries.iter().filter(|e| e["resourceId"] == policy()).map(|e| e["status"]["value"].as_str().unwrap_or_default()).collect();
    assert_eq!(about_policy, ["Succeeded", "Accepted", "Started"], "newest first");
    assert!(entries.iter().any(|e| e["resourceId"] == vm("web-1")), "one names the VM");
    let entry = &entries[0];
    assert_eq!(entry["caller"], estate::RESPONDER_UPN);
    assert_eq!(entry["operationName"]["localizedValue"], "Initiate JIT Network Access Policy");
    assert_eq!(entry["authorization"]["evidence"]["principalType"], "User");
    assert_eq!(entry["correlationId"], entry["operationId"]);
}

#[test]
fn how_far_the_log_lags_is_asked_when_it_is_read() {
    let mut desk = Desk::small();
    desk.initiate(22, &json!({"duration": "PT1H"}));
    desk.advance(60);
    assert!(values(&ask(&mut desk, "")).is_empty());
    desk.state.switches.activity_log_seconds = 60;
    let entries = values(&ask(&mut desk, " and resourceProvider eq 'Microsoft.Security'"));
    assert_eq!(entries[0]["eventTimestamp"], "2026-01-15T09:00:00.0000000Z");
    assert_eq!(entries[0]["submissionTimestamp"], "2026-01-15T09:01:00.0000000Z");
    desk.state.switches.activity_log_seconds = 600;
    assert!(values(&ask(&mut desk, "")).is_empty());
}

#[test]
fn defenders_own_writes_are_in_it_with_the_whole_rule() {
    let mut desk = Desk::small();
    desk.initiate(22, &json!({"duration": "PT1H"}));
    desk.advance(600);
    let entries = values(&ask(&mut desk, " and resourceProvider eq 'microsoft.network'"));
    assert_eq!(entries.len(), 2);
    for entry in entries {
        assert_eq!(entry["claims"]["appid"], "8edd93e1-2103-40b4-bd70-6e34e586362d");
        let body = entry["properties"]["requestbody"].as_str().unwrap_or_default();
        let rule: Value = serde_json::from_str(body).unwrap_or_default();
        assert_eq!(rule["properties"]["destinationPortRange"], "22");
    }
}

#[test]
fn a_refused_write_is_in_it_as_failed() {
    let mut desk = Desk::small();
    desk.as_(estate::RESPONDER_OBJECT_ID).delete(&policy());
    desk.as_(estate::ADMIN_OBJECT_ID).advance(600);
    let entries = values(&ask(&mut desk, &format!(" and resourceUri eq '{}'", policy().to_ascii_lowercase())));
    let statuses: Vec<_> = entries.iter().map(|e| e["status"]["value"].clone()).collect();
    assert_eq!(statuses, ["Failed", "Started"]);
    assert_eq!(entries[0]["subStatus"]["value"], "Forbidden");
}

#[test]
fn filters_are_taken_only_in_the_documented_forms() {
    let mut desk = Desk::small();
    let (from, until) = (after(&desk, -3600), after(&desk, 0));
    let range = format!("eventTimestamp ge '{from}' and eventTimestamp le '{until}'");
    for good in ["", " and resourceGroupName eq 'rg and more'", " AND caller", " and eventChannels eq 'Admin, Operation'"] {
        let expected = if good.contains("caller") { 400 } else { 200 };
        assert_eq!(ask_raw(&mut desk, &format!("{range}{good}")).status, expected, "{good}");
    }
    for bad in [
        "eventTimestamp ge '2026-01-15T00:00:00Z'".to_owned(),
        "eventTimestamp le '2026-01-15T00:00:00Z'".to_owned(),
        format!("{range} and caller eq 'x'"),
        format!("{range} or resourceUri eq 'x'"),
        format!("{range} and resourceUri eq 'x' and correlationId eq 'y'"),
        format!("{range} and resourceUri ne 'x'"),
        format!("{range} and resourceUri eq x"),
        "eventTimestamp ge 'yesterday' and eventTimestamp le 'today'".to_owned(),
        "eventTimestamp ge '2025-01-01T00:00:00Z' and eventTimestamp le '2026-01-15T00:00:00Z'".to_owned(),
        format!("eventTimestamp ge '{until}' and eventTimestamp le '{from}'"),
    ] {
        let seen = ask_raw(&mut desk, &bad);
        assert_eq!((seen.status, seen.code()), (400, "BadRequest"), "{bad}");
    }
    let path = in_subscription("Microsoft.Insights/eventtypes/management/values");
    assert_eq!(desk.get(&path).status, 400, "a filter is required");
}

#[test]
fn an_instant_may_come_bare_and_without_a_zone_which_is_utc() {
    let mut desk = Desk::small();
    let began = desk.state.now;
    desk.initiate(22, &json!({"duration": "PT1H"}));
    desk.advance(600);
    let bare = |seconds: i64| (began + chrono::TimeDelta::seconds(seconds)).format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
    let mut found = |from: i64, until: i64| {
        let filter = format!("eventTimestamp ge {} and eventTimestamp le {}", bare(from), bare(until));
        values(&ask_raw(&mut desk, &filter)).len()
    };
    let all = found(-3600, 3600);
    assert!(all > 2);
    assert_eq!((found(0, 3600), found(-3600, -1)), (all, 0));
    let with_group =
        format!("eventTimestamp ge '{}' and eventTimestamp le {}Z and resourceGroupName eq '{}'", bare(0), bare(3600), estate::GROUP);
    assert_eq!(values(&ask_raw(&mut desk, &with_group)).len(), all);
}

#[test]
fn it_comes_in_pages_and_in_the_fields_that_are_selected() {
    let mut desk = Desk::small();
    for _ in 0..3 {
        desk.initiate(22, &json!({"duration": "PT1H"}));
        desk.advance(60);
    }
    desk.advance(600);
    let all = values(&ask(&mut desk, ""));
    desk.state.switches.page_size = 4;
    let mut found = Vec::new();
    let mut seen = ask(&mut desk, "");
    loop {
        found.extend(values(&seen));
        match seen.body["nextLink"].as_str().map(str::to_owned) {
            Some(next) => seen = desk.get(&next),
            None => break,
        }
    }
    assert_eq!(found, all);
    assert!(all.len() > 8);
    let seen = ask(&mut desk, "&$select=caller");
    assert_eq!(seen.status, 400, "inside the filter it is no condition");
}
