//! Event subscriptions of a subscription that lead to a queue: made, read, used and taken away, and what is refused.

use portcullis_sandbox::estate;
use portcullis_sandbox::switches::{EventSchema, Events};
use serde_json::{Value, json};

use crate::support::{Desk, in_subscription};

fn path(name: &str) -> String {
    format!("{}?api-version=2025-02-15", in_subscription(&format!("Microsoft.EventGrid/eventSubscriptions{name}")))
}

fn to_queue(queue: &str) -> Value {
    let id = estate::resource_id(estate::SUBSCRIPTION, estate::GROUP, "Microsoft.ServiceBus/namespaces/bus/queues", queue);
    json!({"properties": {
        "destination": {"endpointType": "ServiceBusQueue", "properties": {"resourceId": id}},
        "filter": {"subjectBeginsWith": format!("/SUBSCRIPTIONS/{}/", estate::SUBSCRIPTION)},
    }})
}

fn arrived(desk: &Desk) -> Vec<Value> {
    desk.state.queues["alerts"].messages.iter().map(|message| serde_json::from_str(&message.body).unwrap()).collect()
}

#[test]
fn a_queue_is_subscribed_read_and_let_go_again() {
    let mut desk = Desk::small();
    let made = desk.put(&path("/mine"), &to_queue("alerts"));
    assert_eq!((made.status, &made.body["properties"]["provisioningState"]), (201, &json!("Succeeded")));
    assert_eq!(desk.get(&path("/MINE")).body, made.body);
    assert_eq!(desk.get(&path("")).body["value"], json!([made.body]));
    // A second one of the name takes the place of the first.
    assert_eq!(desk.put(&path("/Mine"), &to_queue("sweep")).status, 201);
    assert_eq!(desk.get(&path("")).body["value"].as_array().map(Vec::len), Some(1));
    assert_eq!([desk.delete(&path("/mine")).status, desk.delete(&path("/mine")).status], [200, 204]);
    assert_eq!(desk.get(&path("/mine")).code(), "ResourceNotFound");
}

#[test]
fn events_come_into_the_queue_as_the_switches_say_and_in_the_schema_that_was_chosen() {
    let open = json!({"duration": "PT1H"});
    for (events, seconds, count) in [
        (Events::InOrder, 0, 1),
        (Events::Doubled, 0, 2),
        (Events::Late, 599, 0),
        (Events::Late, 600, 1),
        (Events::Reordered, 29, 0),
        (Events::Never, 3600, 0),
    ] {
        let mut desk = Desk::small();
        desk.state.switches.events = events;
        desk.put(&path("/mine"), &to_queue("alerts"));
        desk.initiate(22, &open);
        desk.advance(seconds);
        assert_eq!(arrived(&desk).len(), count, "{events:?} after {seconds} s");
    }
    let mut desk = Desk::small();
    desk.state.switches.event_schema = EventSchema::EventGrid;
    let mut cloud = to_queue("alerts");
    cloud["properties"]["eventDeliverySchema"] = json!("CloudEventSchemaV1_0");
    cloud["properties"]["filter"]["includedEventTypes"] = json!(["microsoft.resources.resourceactionsuccess"]);
    desk.put(&path("/mine"), &cloud);
    desk.initiate(22, &open);
    desk.advance(0);
    assert_eq!((arrived(&desk).len(), &arrived(&desk)[0]["specversion"]), (1, &json!("1.0")));
}

#[test]
fn what_is_filtered_or_for_a_queue_that_is_gone_does_not_come() {
    let mut desk = Desk::small();
    let mut other = to_queue("alerts");
    other["properties"]["filter"]["subjectBeginsWith"] = json!("/subscriptions/other/");
    desk.put(&path("/mine"), &other);
    let mut writes = to_queue("alerts");
    writes["properties"]["filter"]["includedEventTypes"] = json!(["Microsoft.Resources.ResourceWriteSuccess"]);
    desk.put(&path("/writes"), &writes);
    desk.put(&path("/gone"), &to_queue("sweep"));
    desk.state.queues.remove("sweep");
    desk.initiate(22, &json!({"duration": "PT1H"}));
    desk.advance(0);
    assert_eq!(arrived(&desk), Vec::<Value>::new());
}

#[test]
fn what_leads_nowhere_is_refused() {
    type Change = fn(&mut Value);
    let mut desk = Desk::small();
    let refused = |desk: &mut Desk, change: Change| {
        let mut body = to_queue("alerts");
        change(&mut body["properties"]);
        let seen = desk.put(&path("/mine"), &body);
        (seen.status, seen.code().to_owned(), seen.body["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    let rows: [(Change, &str); 3] = [
        (|of| of["destination"]["endpointType"] = json!("WebHook"), "and not to 'WebHook'"),
        (|of| of["eventDeliverySchema"] = json!("CustomInputSchema"), "'CustomInputSchema' is none"),
        (|of| of["destination"]["properties"]["resourceId"] = json!("/x/queues/none"), "The queue '/x/queues/none' does not exist."),
    ];
    for (change, said) in rows {
        let (status, code, message) = refused(&mut desk, change);
        assert_eq!((status, code.as_str()), (400, "InvalidRequest"));
        assert!(message.contains(said), "{message}");
    }
    assert_eq!(desk.post(&path("/mine"), &json!({})).status, 405);
    assert_eq!(desk.as_(estate::RESPONDER_OBJECT_ID).put(&path("/mine"), &json!(7)).status, 403);
}
