//! The peers that the other tests rely on are themselves real and do what they say.

mod support;

use std::time::Duration;

use support::baresip::{Answers, BaresipConfig};
use support::{Nats, Proxy, Sipp, audio, proxy};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn baresip_calls_another_and_hears_its_tone() {
    let mut callee =
        BaresipConfig::new("callee", 1_000).codecs(&["g722"]).answers(Answers::WhenTold).start();
    let mut caller = BaresipConfig::new("caller", 440).codecs(&["g722"]).start();
    caller.dial(&callee.uri());
    callee.wait_event("CALL_INCOMING", SOON);
    caller.wait_event("CALL_RINGING", SOON);
    callee.answer();
    caller.wait_event("CALL_ESTABLISHED", SOON);
    caller.press('1');
    std::thread::sleep(Duration::from_secs(2));
    caller.hang_up();
    callee.wait_event("CALL_CLOSED", SOON);
    assert!(callee.output().contains("received event: '1'"), "{}", callee.output());
    let (caller_heard, callee_heard) = (caller.heard(), callee.heard());
    assert!(caller_heard.level(0, 0.5, 1.5, 1_000.0) > 0.1, "{:?}", caller_heard.seconds());
    assert!(callee_heard.level(0, 0.5, 1.5, 440.0) > 0.1, "{:?}", callee_heard.seconds());
    assert!(callee_heard.level(0, 0.5, 1.5, 1_000.0) < 0.01);
}

#[test]
fn sipp_scenarios_fit_together() {
    for (caller, callee, transport) in [
        ("uac-call", "uas-answer", "u1"),
        ("uac-call", "uas-answer", "t1"),
        ("uac-hung-up", "uas-hang-up", "u1"),
        ("uac-refused", "uas-busy", "u1"),
        ("uac-cancel", "uas-ring", "u1"),
    ] {
        let callee = Sipp::answers(callee).arg("-t").arg(transport).arg("-d").arg("100").start();
        let caller = Sipp::calls(caller, callee.addr()).arg("-t").arg(transport);
        caller.arg("-d").arg("100").run().expect_success();
        callee.finish().expect_success();
    }
}

#[test]
fn sipp_repeats_what_the_proxy_loses() {
    let callee = Sipp::answers("uas-answer").arg("-d").arg("50").start();
    let lossy = Proxy::start(callee.addr(), proxy::lose_every(3));
    Sipp::calls("uac-call", lossy.addr()).arg("-d").arg("50").run().expect_success();
    callee.finish().expect_success();
}

#[test]
fn nats_keeps_what_it_stored_across_a_crash() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut nats = Nats::start();
    let publish = async |url: String| {
        let client = async_nats::connect(url).await.expect("a connection");
        let jetstream = async_nats::jetstream::new(client);
        let config = async_nats::jetstream::stream::Config {
            name: "T".to_owned(),
            subjects: vec!["t.>".to_owned()],
            ..Default::default()
        };
        let mut stream = jetstream.get_or_create_stream(config).await.expect("a stream");
        jetstream.publish("t.a", "x".into()).await.expect("sent").await.expect("stored");
        stream.info().await.expect("its state").state.messages
    };
    assert_eq!(runtime.block_on(publish(nats.url())), 1);
    nats.kill();
    nats.restart();
    assert_eq!(runtime.block_on(publish(nats.url())), 2);
}

#[test]
fn ears_find_a_tone_where_it_is_and_nowhere_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tone.wav");
    let mut samples = vec![0; 8_000];
    samples.extend(audio::tone(8_000, 440.0, 1.0));
    samples.extend(vec![0; 4_000]);
    audio::write_wav(&file, 8_000, 1, &samples);
    let heard = audio::Audio::read(&file);
    assert_eq!(heard.present(0, 440.0), [(1.0, 2.0)]);
    assert!(heard.present(0, 1_000.0).is_empty());
    assert!((heard.level(0, 1.0, 2.0, 440.0) - 0.5).abs() < 0.01);
    assert!(audio::loudness(heard.part(0, 0.0, 1.0)) < 0.001);
}
