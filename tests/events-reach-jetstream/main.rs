//! Events reach JetStream: in order for a call, each at least once, whatever becomes of the
//! server, and without anything waiting for it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod memory;
mod server;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use assent::bus::{Bus, BusConfig, BusStatus, Credentials, LinkStatus, Unsupported};
use assent::event::{
    AgentDegraded, AgentReady, CallEnded, Draft, EndCause, JoinReason, Kind, Origin, PartyJoined,
    RecordingBlocked,
};
use assent::ids::{CallId, EventId, Leg, PartyRef, RecordingId};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;
use serde_json::{Value, json};
use uuid::Uuid;

use memory::Memory;
use server::Server;

const PATIENCE: Duration = Duration::from_secs(40);

fn origin() -> Origin {
    Origin { tenant: "default".parse().unwrap(), node: "node-1".parse().unwrap() }
}

fn config(server: &Server) -> BusConfig {
    let mut config = BusConfig::new(server.url().parse().unwrap(), origin());
    config.patience = Duration::from_secs(2);
    config.shortest_pause = Duration::from_millis(50);
    config.longest_pause = Duration::from_millis(300);
    config
}

fn start(server: &Server, outbox: &Memory) -> Bus {
    Bus::start(config(server), outbox.clone(), Unsupported)
}

/// The events of a short call, as they would be committed.
fn call_events(call: CallId) -> Vec<Draft> {
    let joined =
        |role, reason| Draft::new(PartyJoined { call, role, party_ref: PartyRef([1; 32]), reason });
    vec![
        joined(Leg::Caller, JoinReason::Called),
        joined(Leg::Callee, JoinReason::Answered),
        Draft::new(RecordingBlocked {
            call,
            recording: RecordingId(call.0),
            reason: assent::event::BlockReason::Refused,
        }),
        Draft::new(CallEnded {
            call,
            duration_ms: 1,
            cause: EndCause::HungUp,
            by: None,
            status: None,
        }),
    ]
}

fn commit_calls(outbox: &Memory, calls: usize) {
    let calls: Vec<CallId> = (0..calls).map(|_| CallId(Uuid::now_v7())).collect();
    // Interleaved, as calls are.
    for nth in 0..4 {
        for call in &calls {
            outbox.commit(call_events(*call).swap_remove(nth));
        }
    }
}

/// One look every 20 ms, until it holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looked = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn all_sent(outbox: &Memory) {
    until("all events are acknowledged", async || outbox.unsent_now() == 0).await;
}

async fn status(bus: &Bus, what: &str, holds: impl Fn(&BusStatus) -> bool) -> BusStatus {
    let mut status = bus.status();
    let found = tokio::time::timeout(PATIENCE, status.wait_for(|now| holds(now))).await;
    found.unwrap_or_else(|_| panic!("never: {what}")).unwrap().clone()
}

async fn context(server: &Server) -> jetstream::Context {
    jetstream::new(async_nats::connect(server.url()).await.unwrap())
}

struct Stored {
    id: EventId,
    content_type: String,
    subject: String,
    body: Value,
}

/// Everything in ASSENT_EVENTS, as a consumer gets it.
async fn stored(server: &Server) -> Vec<Stored> {
    let mut stream = context(server).await.get_stream("ASSENT_EVENTS").await.unwrap();
    let wanted = stream.info().await.unwrap().state.messages as usize;
    let consumer: jetstream::consumer::PullConsumer = stream
        .create_consumer(pull::Config { ack_policy: AckPolicy::None, ..Default::default() })
        .await
        .unwrap();
    let mut messages = consumer.messages().await.unwrap();
    let mut all = Vec::new();
    while all.len() < wanted {
        let message = messages.next().await.unwrap().unwrap();
        let headers = message.headers.clone().unwrap();
        all.push(Stored {
            id: headers.get("Nats-Msg-Id").unwrap().as_str().parse().unwrap(),
            content_type: headers.get("Content-Type").unwrap().as_str().to_owned(),
            subject: message.subject.to_string(),
            body: serde_json::from_slice(&message.payload).unwrap(),
        });
    }
    all
}

/// Nothing is lost; what a consumer sees who drops ids it has seen is in order for each call.
async fn assert_whole(server: &Server, outbox: &Memory) {
    let stored = stored(server).await;
    let mut seen = HashSet::new();
    let once: Vec<&Stored> = stored.iter().filter(|event| seen.insert(event.id)).collect();
    assert_eq!(seen, outbox.ids().into_iter().collect::<HashSet<_>>(), "lost or invented");

    let place: BTreeMap<EventId, usize> =
        outbox.ids().into_iter().enumerate().map(|(place, id)| (id, place)).collect();
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for event in once {
        assert_eq!(event.body["id"], event.id.to_string());
        let call = event.body["correlationid"].as_str().unwrap_or("none").to_owned();
        let before = last.insert(call, place[&event.id]);
        assert!(before < Some(place[&event.id]), "{} passed an earlier one", event.subject);
    }
}

#[tokio::test]
async fn an_event_arrives_as_the_contract_says() {
    let server = Server::start();
    let outbox = Memory::new(origin());
    let event = outbox.commit(call_events(CallId(Uuid::now_v7())).swap_remove(0));
    let bus = start(&server, &outbox);
    all_sent(&outbox).await;

    let stored = stored(&server).await;
    let [arrived] = stored.as_slice() else { panic!("{} messages", stored.len()) };
    assert_eq!(arrived.id, event.id);
    assert_eq!(arrived.content_type, "application/cloudevents+json");
    assert_eq!(arrived.subject, format!("assent.v1.default.party.joined.{}", event.about));
    assert_eq!(arrived.body, serde_json::from_str::<Value>(&event.json).unwrap());

    let status = status(&bus, "counted", |now| now.published == 1 && now.is_connected()).await;
    assert_eq!(status.warnings, Vec::<String>::new());
    assert_eq!(status.last_error, None);
}

#[tokio::test]
async fn an_event_that_comes_later_is_published_at_once() {
    let server = Server::start();
    let outbox = Memory::new(origin());
    let bus = start(&server, &outbox);
    status(&bus, "connected", BusStatus::is_connected).await;
    for _ in 0..20 {
        commit_calls(&outbox, 1);
        all_sent(&outbox).await;
    }
    assert_whole(&server, &outbox).await;
}

#[tokio::test]
async fn without_a_server_everything_waits_and_goes_out_when_there_is_one() {
    let mut server = Server::absent();
    let outbox = Memory::new(origin());
    let bus = start(&server, &outbox);
    commit_calls(&outbox, 100);
    let down =
        status(&bus, "down", |now| now.link == LinkStatus::Down && now.backlog.unsent == 400).await;
    assert!(down.last_error.unwrap().contains("nats.url"));

    server.run();
    all_sent(&outbox).await;
    status(&bus, "up", |now| now.is_connected() && now.backlog.unsent == 0).await;
    assert_whole(&server, &outbox).await;
}

#[tokio::test]
async fn a_server_that_is_killed_again_and_again_loses_and_mixes_up_nothing() {
    let mut server = Server::start();
    let outbox = Memory::new(origin());
    let _bus = start(&server, &outbox);
    for round in 0..4 {
        let before = outbox.unsent_now();
        commit_calls(&outbox, 150);
        until("some are on their way", async || outbox.unsent_now() < before + 500).await;
        server.kill();
        commit_calls(&outbox, 10 * round);
        server.run();
    }
    all_sent(&outbox).await;
    assert_whole(&server, &outbox).await;
}

#[tokio::test]
async fn a_publisher_that_ends_in_the_middle_goes_on_where_it_was() {
    let server = Server::start();
    let outbox = Memory::new(origin());
    commit_calls(&outbox, 300);
    for _ in 0..3 {
        let before = outbox.unsent_now();
        let bus = start(&server, &outbox);
        until("some are sent", async || outbox.unsent_now() < before).await;
        bus.stop(Duration::ZERO).await;
    }
    let bus = start(&server, &outbox);
    bus.stop(PATIENCE).await;
    assert_eq!(outbox.unsent_now(), 0, "stop publishes what waits");
    assert_whole(&server, &outbox).await;
    // The server remembers ids for longer than this took.
    assert_eq!(stored(&server).await.len(), outbox.ids().len());
}

#[tokio::test]
async fn a_server_that_lost_its_disk_gets_everything_again() {
    let mut server = Server::start();
    let outbox = Memory::new(origin());
    let bus = start(&server, &outbox);
    commit_calls(&outbox, 50);
    all_sent(&outbox).await;

    server.kill();
    server.lose_store();
    commit_calls(&outbox, 5);
    server.run();
    status(&bus, "recovered", |now| now.recovered == 200).await;
    all_sent(&outbox).await;
    assert_whole(&server, &outbox).await;
}

#[tokio::test]
async fn a_stream_that_is_deleted_is_made_again_and_filled_again() {
    let server = Server::start();
    let outbox = Memory::new(origin());
    let bus = start(&server, &outbox);
    commit_calls(&outbox, 20);
    all_sent(&outbox).await;

    context(&server).await.delete_stream("ASSENT_EVENTS").await.unwrap();
    commit_calls(&outbox, 1);
    status(&bus, "recovered", |now| now.recovered == 80).await;
    all_sent(&outbox).await;
    assert_whole(&server, &outbox).await;
}

#[tokio::test]
async fn acknowledged_events_that_a_power_cut_took_back_are_sent_again_in_order() {
    let mut server = Server::start();
    let outbox = Memory::new(origin());
    let bus = start(&server, &outbox);
    commit_calls(&outbox, 30);
    all_sent(&outbox).await;
    server.kill();
    let earlier = server.copy_store();
    server.run();

    // These are acknowledged, and then the disk is as it was before them.
    commit_calls(&outbox, 20);
    all_sent(&outbox).await;
    server.kill();
    server.restore(&earlier);
    server.run();

    status(&bus, "recovered", |now| now.recovered == 80).await;
    all_sent(&outbox).await;
    assert_whole(&server, &outbox).await;
}

#[tokio::test]
async fn what_was_taken_back_is_found_even_when_others_have_written_in_its_place() {
    let mut server = Server::start();
    let outbox = Memory::new(origin());
    let bus = start(&server, &outbox);
    commit_calls(&outbox, 10);
    all_sent(&outbox).await;
    bus.stop(PATIENCE).await;
    server.kill();
    let earlier = server.copy_store();
    server.run();
    let bus = start(&server, &outbox);
    commit_calls(&outbox, 10);
    all_sent(&outbox).await;
    bus.stop(PATIENCE).await;
    server.kill();
    server.restore(&earlier);
    server.run();

    let mut neighbour = origin();
    neighbour.node = "node-2".parse().unwrap();
    let others = Memory::new(neighbour.clone());
    commit_calls(&others, 15);
    let mut config = config(&server);
    config.origin = neighbour;
    Bus::start(config, others.clone(), Unsupported).stop(PATIENCE).await;
    assert_eq!(others.unsent_now(), 0);

    let bus = start(&server, &outbox);
    status(&bus, "recovered", |now| now.recovered == 40).await;
    all_sent(&outbox).await;
    let there: HashSet<EventId> = stored(&server).await.iter().map(|event| event.id).collect();
    let published: HashSet<_> = outbox.ids().into_iter().chain(others.ids()).collect();
    assert_eq!(there, published);
}

#[tokio::test]
async fn what_a_person_removed_from_the_stream_is_not_brought_back() {
    let mut server = Server::start();
    let outbox = Memory::new(origin());
    let bus = start(&server, &outbox);
    commit_calls(&outbox, 10);
    all_sent(&outbox).await;
    let stream = context(&server).await.get_stream("ASSENT_EVENTS").await.unwrap();
    stream.purge().sequence(20).await.unwrap();
    stream.delete_message(30).await.unwrap();

    server.kill();
    status(&bus, "down", |now| !now.is_connected()).await;
    server.run();
    status(&bus, "up", BusStatus::is_connected).await;
    commit_calls(&outbox, 1);
    all_sent(&outbox).await;
    assert_eq!(stored(&server).await.len(), 40 - 19 - 1 + 4);
}

#[tokio::test]
async fn an_event_that_can_never_go_out_is_set_aside_and_holds_up_nobody() {
    let server = Server::start_with("max_payload: 1024");
    let outbox = Memory::new(origin());
    let wide = "ü".repeat(128);
    let large = AgentDegraded { component: wide.as_str().into(), effect: wide.as_str().into() };
    let large = outbox.commit(Draft::new(large));
    let twisted = outbox.commit_raw("assent.v1.default..started.x");
    let wild = outbox.commit_raw("assent.v1.default.call.started.*");
    let fine = outbox.commit(Draft::new(AgentReady { version: "1".into() }));
    assert_eq!((large.about, large.kind), (fine.about, Kind::AgentDegraded));

    let bus = start(&server, &outbox);
    all_sent(&outbox).await;
    let aside = outbox.set_aside_now();
    assert_eq!(aside.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [large.id, twisted, wild]);
    assert!(aside[0].1.contains("max_payload"), "{}", aside[0].1);
    let stored = stored(&server).await;
    assert_eq!(stored.iter().map(|event| event.id).collect::<Vec<_>>(), [fine.id]);
    status(&bus, "counted", |now| now.set_aside == 3 && now.published == 1).await;
}

#[tokio::test]
async fn an_administrators_stream_is_used_as_it_is_and_what_loses_events_is_named() {
    let server = Server::start();
    let theirs = stream::Config {
        name: "ASSENT_EVENTS".into(),
        subjects: vec!["assent.v1.*.party.>".into(), "assent.v1.*.recording.>".into()],
        storage: stream::StorageType::Memory,
        max_messages: 1_000,
        ..Default::default()
    };
    context(&server).await.create_stream(theirs).await.unwrap();
    let outbox = Memory::new(origin());
    outbox.commit(call_events(CallId(Uuid::now_v7())).swap_remove(0));
    let bus = start(&server, &outbox);
    all_sent(&outbox).await;

    let status = status(&bus, "up", BusStatus::is_connected).await;
    let warnings = status.warnings.join("\n");
    for word in ["assent.v1.*.call.>", "memory", "discard: new"] {
        assert!(warnings.contains(word), "{word} in {warnings}");
    }
    let stream = context(&server).await.get_stream("ASSENT_EVENTS").await.unwrap();
    let config = &stream.cached_info().config;
    assert_eq!(config.storage, stream::StorageType::Memory);
    assert_eq!(config.subjects.len(), 2);
}

#[tokio::test]
async fn a_stream_that_takes_our_subjects_is_named_as_the_trouble() {
    let server = Server::start();
    let theirs = stream::Config {
        name: "EVERYTHING".into(),
        subjects: vec!["assent.>".into()],
        ..Default::default()
    };
    context(&server).await.create_stream(theirs).await.unwrap();
    let outbox = Memory::new(origin());
    commit_calls(&outbox, 1);
    let bus = start(&server, &outbox);
    let told = |now: &BusStatus| {
        now.last_error.as_ref().is_some_and(|text| text.contains("ASSENT_EVENTS"))
    };
    status(&bus, "told", told).await;
    assert_eq!(outbox.unsent_now(), 4, "another stream's acknowledgement does not count");

    context(&server).await.delete_stream("EVERYTHING").await.unwrap();
    all_sent(&outbox).await;
    assert_whole(&server, &outbox).await;
}

fn like_ours() -> stream::Config {
    stream::Config {
        name: "ASSENT_EVENTS".into(),
        subjects: vec!["assent.v1.*.*.*.*".into()],
        discard: stream::DiscardPolicy::New,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_stream_that_is_full_holds_events_up_and_loses_none() {
    let server = Server::start();
    let theirs = stream::Config { max_messages: 10, ..like_ours() };
    context(&server).await.create_stream(theirs).await.unwrap();
    let outbox = Memory::new(origin());
    commit_calls(&outbox, 10);
    let bus = start(&server, &outbox);
    let told = |now: &BusStatus| {
        now.last_error.as_ref().is_some_and(|text| text.contains("maximum messages"))
    };
    status(&bus, "told", told).await;
    assert_eq!(outbox.unsent_now(), 30);

    context(&server).await.update_stream(like_ours()).await.unwrap();
    all_sent(&outbox).await;
    assert_whole(&server, &outbox).await;
}

#[tokio::test]
async fn an_event_that_the_stream_finds_too_large_is_set_aside() {
    let server = Server::start();
    let theirs = stream::Config { max_message_size: 900, ..like_ours() };
    context(&server).await.create_stream(theirs).await.unwrap();
    let outbox = Memory::new(origin());
    let wide = "ü".repeat(128);
    let large = AgentDegraded { component: wide.as_str().into(), effect: wide.as_str().into() };
    let large = outbox.commit(Draft::new(large));
    outbox.commit(Draft::new(AgentReady { version: "1".into() }));
    let bus = start(&server, &outbox);
    all_sent(&outbox).await;
    let aside = outbox.set_aside_now();
    assert_eq!(aside.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [large.id]);
    assert!(aside[0].1.contains("max_msg_size"), "{}", aside[0].1);
    let status = status(&bus, "up", BusStatus::is_connected).await;
    assert!(status.warnings.join("").contains("900 bytes"));
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_found_again() {
    let server = Server::start();
    let outbox = Memory::new(origin());
    let bus = start(&server, &outbox);
    commit_calls(&outbox, 200);
    until("some are sent", async || outbox.unsent_now() < 800).await;
    server.signal("STOP");
    commit_calls(&outbox, 50);
    status(&bus, "given up", |now| now.link == LinkStatus::Down).await;
    server.signal("CONT");
    all_sent(&outbox).await;
    assert_whole(&server, &outbox).await;
    // What the server had read before it hung and what came again are one to it.
    assert_eq!(stored(&server).await.len(), outbox.ids().len());
}

#[tokio::test]
async fn a_server_without_jetstream_is_told_from_one_that_is_away() {
    let mut server = Server::absent();
    server.run_plain();
    let outbox = Memory::new(origin());
    commit_calls(&outbox, 1);
    let bus = start(&server, &outbox);
    let told = |now: &BusStatus| {
        now.last_error.as_ref().is_some_and(|text| text.contains("config/nats-server.conf"))
    };
    status(&bus, "told", told).await;
    assert_eq!(outbox.unsent_now(), 4);
}

#[tokio::test]
async fn a_command_is_answered_by_the_agent_and_a_second_time_with_the_same() {
    let server = Server::start();
    let outbox = Memory::new(origin());
    let bus = start(&server, &outbox);
    status(&bus, "connected", BusStatus::is_connected).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let ask = async |subject: &'static str, body: Value| -> Option<Value> {
        let answer = client.request(subject, body.to_string().into()).await.ok()?;
        Some(serde_json::from_slice(&answer.payload).unwrap())
    };
    let command = json!({ "id": Uuid::now_v7(), "recording": Uuid::now_v7() });
    let mut first = None;
    until("an agent listens", async || {
        first = ask("assent.v1.default.cmd.pause", command.clone()).await;
        first.as_ref().is_some_and(|answer| answer.get("ok").is_some())
    })
    .await;
    let first = first.unwrap();
    assert_eq!((&first["ok"], &first["code"]), (&json!(false), &json!("unsupported")));
    assert!(first["message"].as_str().unwrap().contains("pause"));
    let again = ask("assent.v1.default.cmd.pause", command).await.unwrap();
    assert_eq!(again, first);

    let bad = ask("assent.v1.default.cmd.pause", json!({})).await.unwrap();
    assert_eq!((&bad["ok"], &bad["code"]), (&json!(false), &json!("malformed")));

    // They are kept for an agent that was away, and do not pile up for one that was not.
    let commands = context(&server).await.get_stream("ASSENT_COMMANDS").await.unwrap();
    let name = "assent-default-node-1";
    until("the consumer has read them", async || {
        let info = commands.consumer_info(name).await.unwrap();
        info.num_pending == 0 && info.num_ack_pending == 0
    })
    .await;
}

/// The section of the reference configuration, with a password in place of the key.
fn reference_authorization() -> String {
    let text = std::fs::read_to_string(reference_configuration()).unwrap();
    let lines = text.lines().skip_while(|line| *line != "# authorization {");
    let section: Vec<&str> = lines.map(|line| line.trim_start_matches('#')).collect();
    let section = section.join("\n");
    assert!(section.contains("nkey: \"UD…\""));
    section.replace("nkey: \"UD…\"", "user: agent, password: secret")
}

fn reference_configuration() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/nats-server.conf")
}

#[test]
fn the_reference_configuration_is_one_that_the_server_takes() {
    let checked = std::process::Command::new(server::binary())
        .arg("-t")
        .arg("-c")
        .arg(reference_configuration())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[tokio::test]
async fn the_permissions_of_the_reference_configuration_are_enough_for_an_agent() {
    let mut server = Server::start_with(&reference_authorization());
    let outbox = Memory::new(origin());
    commit_calls(&outbox, 5);
    let mut config = config(&server);
    config.credentials = Credentials::Password { user: "agent".into(), password: "secret".into() };
    let bus = Bus::start(config, outbox.clone(), Unsupported);
    all_sent(&outbox).await;
    server.kill();
    status(&bus, "down", |now| !now.is_connected()).await;
    server.run();
    let up = status(&bus, "up", BusStatus::is_connected).await;
    // The comparison has read messages back by now, and commands are listened for.
    assert_eq!((up.warnings, up.recovered), (vec![], 0));

    let client =
        async_nats::ConnectOptions::with_user_and_password("agent".into(), "secret".into())
            .connect(server.url())
            .await
            .unwrap();
    let commands = jetstream::new(client).get_stream("ASSENT_COMMANDS").await.unwrap();
    until("the consumer is there and asked for commands", async || {
        let info = commands.consumer_info("assent-default-node-1").await;
        info.is_ok_and(|info| info.num_waiting > 0)
    })
    .await;
    assert_eq!(bus.status().borrow().warnings, Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_password_is_told_and_keeps_everything_in_the_outbox() {
    let server = Server::start_with("authorization { user: agent, password: secret }");
    let outbox = Memory::new(origin());
    commit_calls(&outbox, 1);
    let mut config = config(&server);
    config.credentials = Credentials::Password { user: "agent".into(), password: "wrong".into() };
    let bus = Bus::start(config, outbox.clone(), Unsupported);
    let down = status(&bus, "down", |now| now.link == LinkStatus::Down).await;
    assert!(down.last_error.unwrap().contains("authorization"));
    assert_eq!(outbox.unsent_now(), 4);
}
