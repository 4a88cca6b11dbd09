//! A real Kamailio with the configuration that is shipped for it: calls go through Assent, they
//! are not lost while it is away, and they go through it again once it is back.

#![allow(clippy::expect_used)]

mod support;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use support::agent::NOTICE_HZ;
use support::baresip::{Answers, Baresip, BaresipConfig};
use support::kamailio::{address, shipped};
use support::{Agent, Answerer, Kamailio, Ports, Talker, WirePhone, tool};

/// A telephone waits 2 s at Kamailio for an Assent that has died.
const SOON: Duration = Duration::from_secs(15);
const CALLER_HZ: f64 = 440.0;
const CALLEE_HZ: f64 = 1_000.0;

/// Kamailio, and an Assent of which it knows.
struct Site {
    kamailio: Kamailio,
    agent: Agent,
    _ports: Ports,
}

impl Site {
    fn start(defines: &[&str]) -> Self {
        let mut ports = Ports::claim();
        let (kamailio, assent) = (address(&mut ports), address(&mut ports));
        let agent = Agent::builder()
            .inline(format!("sip:{kamailio}"))
            // The same address again after a restart.
            .sip(&format!("listen = [\"udp:{assent}\"]"))
            .start();
        let kamailio = Kamailio::start(kamailio, assent, defines);
        kamailio.wait_until_assent_is(true);
        Self { kamailio, agent, _ports: ports }
    }

    /// A telephone that calls `callee`, and the one that answers.
    fn dial(&self) -> (Baresip, Baresip) {
        let callee = BaresipConfig::new("callee", 1_000).start();
        self.kamailio.register("callee", &callee.uri());
        let mut caller = BaresipConfig::new("caller", 440).start();
        caller.dial(&self.kamailio.uri("callee"));
        (caller, callee)
    }

    /// A call that is announced, permitted and recorded.
    fn call_through(&self) {
        let (recorded, asked) = (self.sealed(), self.events("notice.completed"));
        let (mut caller, mut callee) = self.dial();
        self.permit(asked + 1, &mut caller, &mut callee);
        hang_up(&mut caller, &mut callee);
        assert_talked(&caller, &callee);
        assert!(heard(&caller, NOTICE_HZ), "the caller hears the notice");
        support::wait_for(SOON, "the recording", || self.sealed() == recorded + 1);
    }

    /// The caller agrees once so many notices were heard, and both talk.
    fn permit(&self, notices: usize, caller: &mut Baresip, callee: &mut Baresip) {
        caller.wait_event("CALL_ESTABLISHED", SOON);
        support::wait_for(SOON, "the notice", || self.events("notice.completed") == notices);
        caller.press('1');
        callee.wait_event("CALL_ESTABLISHED", SOON);
        talk();
    }

    /// A call that reaches the callee without Assent.
    fn call_directly(&self) {
        let (mut caller, mut callee) = self.dial();
        callee.wait_event("CALL_ESTABLISHED", SOON);
        caller.wait_event("CALL_ESTABLISHED", SOON);
        talk();
        hang_up(&mut caller, &mut callee);
        assert_talked(&caller, &callee);
        assert!(!heard(&caller, NOTICE_HZ), "nobody asks");
    }

    fn sealed(&self) -> usize {
        self.agent.json(&["list"]).iter().filter(|r| r["state"] == "sealed").count()
    }

    fn events(&self, kind: &str) -> usize {
        let events = self.agent.events();
        events.iter().filter(|e| e["type"].as_str().is_some_and(|t| t.contains(kind))).count()
    }
}

/// Long enough for a tone to be found in what was heard.
fn talk() {
    std::thread::sleep(Duration::from_millis(1_000));
}

/// The caller ends the call: its BYE finds the callee along the recorded route.
fn hang_up(caller: &mut Baresip, callee: &mut Baresip) {
    caller.hang_up();
    callee.wait_event("CALL_CLOSED", SOON);
}

fn heard(phone: &Baresip, hz: f64) -> bool {
    phone.heard().present(0, hz).iter().any(|(from, to)| to - from > 0.2)
}

#[track_caller]
fn assert_talked(caller: &Baresip, callee: &Baresip) {
    assert!(heard(caller, CALLEE_HZ), "the caller hears the callee");
    assert!(heard(callee, CALLER_HZ), "the callee hears the caller");
}

#[test]
fn a_call_is_recorded_through_kamailio_and_not_lost_while_assent_is_away() {
    let mut site = Site::start(&[]);
    site.call_through();

    // It dies. The first call still tries it; then the probes know.
    site.agent.kill();
    site.call_directly();
    site.kamailio.wait_until_assent_is(false);
    site.call_directly();

    site.agent.restart();
    site.kamailio.wait_until_assent_is(true);
    site.call_through();
    assert_eq!(site.sealed(), 2, "what went directly is not recorded");
}

#[test]
fn while_assent_drains_its_calls_go_on_and_new_ones_go_directly() {
    let mut site = Site::start(&[]);
    let (mut caller, mut callee) = site.dial();
    site.permit(1, &mut caller, &mut callee);

    site.agent.signal("TERM");
    site.agent.wait_event("agent.draining", SOON);
    // The probes may or may not have noticed: either way.
    site.call_directly();
    site.kamailio.wait_until_assent_is(false);
    site.call_directly();

    assert_eq!(site.events("call.started"), 1);
    assert_eq!(site.events("call.ended"), 0, "the call goes on while the agent drains");
    hang_up(&mut caller, &mut callee);
    assert_talked(&caller, &callee);
    assert!(site.agent.wait(SOON).success());
    assert_eq!(site.sealed(), 1);
}

#[test]
fn two_telephones_of_one_callee_ring_and_the_one_that_answers_is_recorded() {
    let site = Site::start(&[]);
    let phone = |user| BaresipConfig::new(user, 1_000).answers(Answers::WhenTold).start();
    let (mut desk, mut pocket) = (phone("desk"), phone("pocket"));
    site.kamailio.register_all("callee", &[&desk.uri(), &pocket.uri()]);
    let mut caller = BaresipConfig::new("caller", 440).start();
    caller.dial(&site.kamailio.uri("callee"));
    caller.wait_event("CALL_ESTABLISHED", SOON);
    support::wait_for(SOON, "the notice", || site.events("notice.completed") == 1);
    caller.press('1');
    for phone in [&mut desk, &mut pocket] {
        phone.wait_event("CALL_INCOMING", SOON);
    }
    pocket.answer();
    pocket.wait_event("CALL_ESTABLISHED", SOON);
    desk.wait_event("CALL_CLOSED", SOON);
    talk();
    hang_up(&mut caller, &mut pocket);
    assert_talked(&caller, &pocket);
    support::wait_for(SOON, "the recording", || site.sealed() == 1);
}

#[test]
fn only_assent_is_believed_that_a_call_has_been_through() {
    let site = Site::start(&[]);
    let callee = Answerer::start();
    site.kamailio.register("callee", &callee.uri());
    let liar = "X-Assent-Call: 01a200d9-1be5-7171-bf21-f9a1e589728c\r\n";
    let _caller = WirePhone::dial_with(site.kamailio.addr(), "callee", |_| liar.to_owned());
    site.agent.wait_event("call.started", SOON);
    assert_eq!(callee.numbered("callee"), 0, "nobody is called before permission");
}

#[test]
fn where_calls_must_be_recorded_they_get_503_while_assent_is_away() {
    let mut site = Site::start(&["ASSENT_OR_NOTHING"]);
    let callee = Answerer::start();
    site.kamailio.register("callee", &callee.uri());
    site.agent.kill();
    for found in ["by the call", "by the probes"] {
        let turned_away = Talker::call(site.kamailio.addr(), "caller", "callee").expect_err(found);
        assert_eq!(turned_away.status, 503, "{found}");
        site.kamailio.wait_until_assent_is(false);
    }
}

#[test]
fn the_shipped_files_are_what_kamailio_takes() {
    let list = shipped("kamailio-dispatcher.list");
    let checked = Command::new(tool("kamailio"))
        .args(["-c", "-f"])
        .arg(shipped("kamailio.cfg"))
        .args(["-A", &format!("ASSENT_LIST=\"{}\"", list.display())])
        .output()
        .expect("kamailio runs");
    assert!(checked.status.success(), "{checked:?}");
    let _: SocketAddr = std::fs::read_to_string(list)
        .expect("the list")
        .lines()
        .find_map(|line| line.strip_prefix("1 sip:")?.split(' ').next()?.parse().ok())
        .expect("an address");
}
