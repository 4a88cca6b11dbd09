//! What is known of a party before anybody asks them: a token that their PBX signed, a place on the
//! do-not-record list; and what is known of a call: which policies fit it, which language it is in.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::token::{key_file, token};
use support::{Agent, AgentBuilder, WirePhone};

const SOON: Duration = Duration::from_secs(15);

/// Endpoint mode, the gate `token`, opt-in where none comes.
fn by_token(key: &Path, peer: &str) -> AgentBuilder {
    let key = key.display();
    Agent::builder()
        .policy("gate", "\"token\"")
        .policy("attempts", "1")
        .policy("answer_within", "\"1s\"")
        .further(&format!(
            "[policy.token]\npeers = [\"{peer}\"]\nkeys = [{{ id = \"pbx-1\", hmac_file = \
             \"{key}\" }}]"
        ))
}

/// A call with a header, which ends after a while; what its evidence says.
fn evidence_of(agent: &Agent, headers: impl FnOnce(&str) -> String) -> Value {
    let mut caller = WirePhone::dial_with(agent.udp(), "1", headers);
    caller.acknowledge();
    caller.talk(Duration::from_millis(800));
    let decided = agent.wait_event("permission.", SOON);
    caller.hang_up();
    agent.wait_event("call.ended", SOON);
    let recording = decided["data"]["recording"].as_str().expect("a recording");
    let evidence = agent.json(&["evidence", recording]);
    assert_eq!(evidence.len(), 1, "{evidence:?}");
    evidence[0]["evidence"]["facts"].clone()
}

fn notices(agent: &Agent) -> Vec<Value> {
    let events = agent.events();
    events.into_iter().filter(|e| e["type"] == "io.assent.notice.started.v1").collect()
}

#[test]
fn a_token_of_a_trusted_peer_answers_for_the_party() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key_file(folder.path());
    for (stated, outcome) in [("granted", "granted"), ("refused", "refused")] {
        let agent = by_token(&key, "127.0.0.1").start();
        let facts = evidence_of(&agent, |call_id| {
            let token = token(call_id, "caller", stated);
            format!("User-to-User: {};encoding=hex;purpose=consent\r\n", hex::encode(token))
        });
        assert_eq!(facts["outcome"], outcome, "{facts}");
        assert_eq!(facts["gate"], "token", "{facts}");
        assert_eq!(facts["answer"]["method"], "token", "{facts}");
        assert_eq!(facts["answer"]["key"], "pbx-1", "{facts}");
        assert_eq!(notices(&agent), Vec::<Value>::new(), "nobody is asked");
        assert_eq!(agent.metric("assent_consent_tokens_total{verdict=\"valid\"}"), Some(1.0));
        if outcome == "granted" {
            agent.wait_event("recording.sealed", SOON);
        }
    }
}

#[test]
fn a_token_that_does_not_count_leads_to_the_fallback() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key_file(folder.path());
    let spoilt = |verdict: &str, call_id: &str| match verdict {
        "other-call" => token("another@pbx", "caller", "granted"),
        "malformed" => "v1.e30.AAAA".to_owned(),
        "bad-signature" => {
            let token = token(call_id, "caller", "granted");
            let (signed, _) = token.rsplit_once('.').expect("a signature");
            format!("{signed}.{}", "A".repeat(43))
        }
        _ => token(call_id, "caller", "granted"),
    };
    for (peer, verdict) in [
        ("127.0.0.2", "stranger"),
        ("127.0.0.1", "other-call"),
        ("127.0.0.1", "malformed"),
        ("127.0.0.1", "bad-signature"),
    ] {
        let agent = by_token(&key, peer).start();
        let facts = evidence_of(&agent, |call_id| {
            format!("User-to-User: {}\r\n", spoilt(verdict, call_id))
        });
        assert_eq!(facts["outcome"], "refused", "{verdict}: {facts}");
        assert_eq!(facts["gate"], "opt-in", "{verdict}: {facts}");
        assert_eq!(notices(&agent).len(), 1, "{verdict}: the caller is asked");
        let metric = format!("assent_consent_tokens_total{{verdict=\"{verdict}\"}}");
        assert_eq!(agent.metric(&metric), Some(1.0), "{verdict}");
        let log = agent.log();
        assert!(log.contains(verdict) && !log.contains("v1."), "{log}");
    }
}

#[test]
fn a_key_that_others_may_read_keeps_the_agent_from_starting() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key_file(folder.path());
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).expect("its mode");
    let agent = by_token(&key, "127.0.0.1").prepare();
    for command in ["serve", "check"] {
        let run = agent.command(&[command]);
        let said = [run.stdout, run.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("chmod 600"), "{command}: {said}");
        assert_eq!(run.status.code(), Some(if command == "serve" { 64 } else { 2 }), "{said}");
    }
}

#[test]
fn a_listed_party_is_not_asked_from_the_next_call_on() {
    let mut agent =
        Agent::builder().policy("attempts", "1").policy("answer_within", "\"1s\"").start();
    let who = "sip:wire@127.0.0.1";
    let reply = agent.json(&["do-not-record", "add", who, "--reason", "objected"]);
    assert_eq!((&reply[0]["listed"], &reply[0]["was_listed"]), (&true.into(), &false.into()));
    let facts = evidence_of(&agent, |_| String::new());
    assert_eq!(
        (&facts["outcome"], &facts["answer"]["method"]),
        (&"objected".into(), &"listed".into())
    );
    assert_eq!(notices(&agent), Vec::<Value>::new());
    assert!(!agent.log().contains("wire@"), "{}", agent.log());
    // It is kept.
    agent.restart();
    let mut caller = WirePhone::call(agent.udp(), "1");
    caller.talk(Duration::from_millis(300));
    caller.hang_up();
    assert_eq!(notices(&agent), Vec::<Value>::new());
    // Taken off, they are asked again.
    let reply = agent.json(&["do-not-record", "remove", who]);
    assert_eq!((&reply[0]["listed"], &reply[0]["was_listed"]), (&false.into(), &true.into()));
    let mut caller = WirePhone::call(agent.udp(), "1");
    caller.talk(Duration::from_millis(300));
    agent.wait_event("notice.started", SOON);
    caller.hang_up();
}

#[test]
fn the_strictest_policy_that_fits_governs_and_the_header_names_the_language() {
    let mut agent = Agent::builder()
        .no_objection("1s")
        .further(
            "[[policy]]\nname = \"queue\"\nmatch = { header = { \"X-Queue\" = \"sales*\" } }\n\
             purposes = [\"quality\"]\ncontroller = \"Test GmbH\"\nretention = \"30d\"\n\
             attempts = 1\nanswer_within = \"1s\"\nlocale_header = \"X-Language\"\n",
        )
        .prepare();
    let prompts = agent.folder().join("prompts");
    std::fs::create_dir_all(prompts.join("de-DE")).expect("a folder");
    let notice = "notice-opt-in.wav";
    std::fs::copy(prompts.join("en-US").join(notice), prompts.join("de-DE").join(notice))
        .expect("a short notice in German");
    agent.restart();
    let check = |call: &str| agent.json(&["check", "--call", call]).remove(0);
    let said = check("from=1,to=1,header.X-Queue=sales-1,header.X-Language=de-at");
    assert_eq!(said["policy"]["name"], "queue", "{said}");
    assert_eq!(said["candidates"][0]["fits"], "match", "{said}");
    assert_eq!(said["candidates"][1]["looser_by"], "gate", "{said}");
    assert_eq!(said["locales"]["caller"]["locale"], "de-AT", "{said}");
    assert_eq!(said["locales"]["caller"]["heard"], "de-DE", "{said}");
    assert_eq!(check("from=1,to=1")["policy"]["name"], "default");

    let facts =
        evidence_of(&agent, |_| "X-Queue: sales-1\r\nX-Language: de-at;q=0.9, en\r\n".to_owned());
    assert_eq!(facts["policy"], "queue", "{facts}");
    assert_eq!(facts["policy_digest"], said["policy_digest"], "{facts}");
    assert_eq!(facts["notices"][0]["locale"], "de-DE", "{facts}");
}
