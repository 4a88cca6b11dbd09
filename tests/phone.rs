//! The test phone of `assent call` gets on with other people's telephones.

#![allow(clippy::expect_used)]

mod support;

use std::time::Duration;

use assent::phone::{Call, Identity, Order, Outcome, Phone, Plan, Press, Report, Side, Sound};
use assent::phone::{Target, Teller};
use assent::rtp::Codec;
use support::audio::Audio;
use support::baresip::{Answers, BaresipConfig};
use support::{Sipp, wait_for};
use tokio::sync::mpsc;

const SOON: Duration = Duration::from_secs(10);

fn call(plan: Plan) -> (Call, mpsc::Sender<Order>) {
    let (sender, orders) = mpsc::channel(4);
    let (teller, _) = Teller::new();
    (Call { plan, orders, teller }, sender)
}

fn dial(uri: &str, codec: Codec, plan: Plan) -> Report {
    let target: Target = uri.parse().expect("a URI");
    // baresip has telephone-events at 8 kHz only, whatever the codec: G.711 brings them along.
    let identity = Identity { codecs: vec![codec, Codec::Pcmu], ..Identity::local("phone") };
    let (call, _orders) = call(plan);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let phone = Phone::open(identity).await.expect("a phone");
        let to = target.address().await.expect("an address");
        phone.call(&target, to, call).await.expect("a report")
    })
}

#[test]
fn it_calls_baresip_in_every_codec_and_both_hear_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    for (codec, name) in
        [(Codec::Pcmu, "pcmu"), (Codec::Pcma, "pcma"), (Codec::G722, "g722"), (Codec::Opus, "opus")]
    {
        let mut baresip = BaresipConfig::new("callee", 1_000).codecs(&[name]).start();
        let hears = folder.path().join(name).with_extension("wav");
        let plan = Plan {
            says: Sound::Tone { hz: 440.0 },
            presses: vec!["1@500ms".parse::<Press>().expect("a press")],
            lasts: Some(Duration::from_secs(2)),
            hears: Some(hears.clone()),
            rings: SOON,
        };
        let report = dial(&baresip.uri(), codec, plan);
        assert_eq!(report.outcome, Outcome::Completed { by: Side::Us }, "{name}");
        assert_eq!(report.codec, Some(codec));
        assert!(report.heard > Duration::from_secs(1), "{name}: {report:?}");
        baresip.wait_event("CALL_CLOSED", SOON);
        assert!(baresip.output().contains("received event: '1'"), "{}", baresip.output());
        let heard = Audio::read(&hears);
        assert!(heard.level(0, 0.7, 1.7, 1_000.0) > 0.1, "{name}");
        assert!(baresip.heard().level(0, 0.8, 1.7, 440.0) > 0.1, "{name}");
    }
}

#[test]
fn it_answers_baresip_and_is_hung_up_on() {
    let mut baresip = BaresipConfig::new("caller", 440).codecs(&["g722"]).start();
    let folder = tempfile::tempdir().expect("a folder");
    let hears = folder.path().join("heard.wav");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let phone = runtime.block_on(Phone::open(Identity::local("phone"))).expect("a phone");
    let uri = format!("sip:phone@{}", phone.address());
    let (call, _orders) = call(Plan {
        says: Sound::Tone { hz: 1_000.0 },
        hears: Some(hears.clone()),
        rings: Duration::from_millis(300),
        ..Plan::default()
    });
    let answering = runtime.spawn(phone.answer(call));
    baresip.dial(&uri);
    baresip.wait_event("CALL_RINGING", SOON);
    baresip.wait_event("CALL_ESTABLISHED", SOON);
    std::thread::sleep(Duration::from_secs(2));
    baresip.hang_up();
    let report = runtime.block_on(answering).expect("no panic").expect("a report");
    assert_eq!(report.outcome, Outcome::Completed { by: Side::Peer });
    assert_eq!(report.codec, Some(Codec::G722));
    assert!(Audio::read(&hears).level(0, 0.7, 1.7, 440.0) > 0.1);
    assert!(baresip.heard().level(0, 0.7, 1.7, 1_000.0) > 0.1);
}

#[test]
fn it_takes_being_put_on_hold() {
    let mut baresip = BaresipConfig::new("caller", 440).answers(Answers::WhenTold).start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let phone = runtime.block_on(Phone::open(Identity::local("phone"))).expect("a phone");
    let uri = format!("sip:phone@{}", phone.address());
    let (sender, orders) = mpsc::channel(4);
    let (teller, mut events) = Teller::new();
    let plan = Plan { rings: Duration::ZERO, ..Plan::default() };
    let answering = runtime.spawn(phone.answer(Call { plan, orders, teller }));
    baresip.dial(&uri);
    baresip.wait_event("CALL_ESTABLISHED", SOON);
    baresip.hold();
    let mut told = String::new();
    wait_for(SOON, "the phone is on hold", || {
        while let Ok(event) = events.try_recv() {
            told.push_str(&serde_json::to_string(&event).expect("JSON"));
        }
        told.contains("renegotiated")
    });
    runtime.block_on(sender.send(Order::HangUp)).expect("it listens");
    let report = runtime.block_on(answering).expect("no panic").expect("a report");
    assert_eq!(report.outcome, Outcome::Completed { by: Side::Us });
    baresip.wait_event("CALL_CLOSED", SOON);
}

#[test]
fn it_says_why_there_was_no_call() {
    let busy = Sipp::answers("uas-busy").start();
    let plan = Plan { rings: SOON, ..Plan::default() };
    let report = dial(&format!("sip:100@{}", busy.addr()), Codec::Pcmu, plan);
    assert!(matches!(report.outcome, Outcome::Refused { status: 486, .. }), "{report:?}");
    busy.finish().expect_success();

    let rings = Sipp::answers("uas-ring").start();
    let plan = Plan { rings: Duration::from_millis(500), ..Plan::default() };
    let report = dial(&format!("sip:100@{}", rings.addr()), Codec::Pcmu, plan);
    assert_eq!(report.outcome, Outcome::Cancelled);
    rings.finish().expect_success();
}

#[test]
fn it_ends_when_the_other_side_does() {
    let callee = Sipp::answers("uas-hang-up").arg("-d").arg("300").start();
    let report = dial(&format!("sip:100@{}", callee.addr()), Codec::Pcmu, Plan::default());
    assert_eq!(report.outcome, Outcome::Completed { by: Side::Peer });
    callee.finish().expect_success();
}

#[test]
fn the_command_tells_what_happens_and_how_it_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let hears = folder.path().join("heard.wav");
    let mut baresip = BaresipConfig::new("callee", 1_000).start();
    let run = |arguments: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_assent"))
            .arg("call")
            .args(arguments)
            .output()
            .expect("assent runs")
    };
    let told = run(&[
        &baresip.uri(),
        "--tone=440",
        "--press=1@300ms",
        "--for=1s",
        "--codec=pcmu",
        &format!("--hear={}", hears.display()),
        "--json",
    ]);
    assert!(told.status.success(), "{told:?}");
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let events: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!(events.first(), Some(&"dialled"), "{text}");
    for event in ["answered", "sound", "pressed", "hung-up"] {
        assert!(events.contains(&event), "{event}: {text}");
    }
    assert_eq!(lines.last().map(|l| l["result"].clone()), Some("completed".into()));
    baresip.wait_event("CALL_CLOSED", SOON);
    assert!(Audio::read(&hears).level(0, 0.5, 0.9, 1_000.0) > 0.1);

    let busy = Sipp::answers("uas-busy").start();
    let told = run(&[&format!("sip:100@{}", busy.addr())]);
    assert_eq!(told.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&told.stderr).contains("486 Busy Here"), "{told:?}");
    assert_eq!(run(&["sip:100@127.0.0.1", "--press", "1"]).status.code(), Some(64));
}
