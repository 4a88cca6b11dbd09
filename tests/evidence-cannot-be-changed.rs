//! Promise: evidence of real calls is proved by a program that is not Assent, whatever was decided
//! and however; and whoever changes, drops, swaps, cuts off, signs anew or replaces records of it
//! is found, by the name of what they did.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use assent::ids::Digest;
use assent::keys::SigningKey;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use support::{Agent, AgentBuilder, WirePhone};

const SOON: Duration = Duration::from_secs(15);
const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const STAR: u8 = 10;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn route(to: &str, policy: &str) -> String {
    format!("[[route]]\nmatch = {{ to = \"{to}\" }}\nmode = \"endpoint\"\npolicy = \"{policy}\"\n")
}

fn policy(name: &str, lines: &str) -> String {
    format!(
        "[[policy]]\nname = \"{name}\"\npurposes = [\"quality\"]\ncontroller = \"Test GmbH\"\n\
         retention = \"30d\"\nattempts = 1\nanswer_within = \"1s\"\n{lines}\n"
    )
}

/// An agent with a policy for each gate, chosen by who is called.
fn every_gate(key: &str) -> AgentBuilder {
    let gates = ["standing", "window", "token", "default"];
    Agent::builder()
        .policy("attempts", "1")
        .policy("answer_within", "\"1s\"")
        .routes(&gates.map(|gate| route(&format!("{gate}*"), gate)).concat())
        .further(&policy(
            "standing",
            "basis = \"contract\"\ngate = \"standing\"\nask = []\n\
             standing = { caller = \"contract-7\", callee = \"agreement-9\" }",
        ))
        .further(&policy(
            "window",
            "basis = \"legitimate_interests\"\ngate = \"no-objection\"\n\
             notice = \"notice-no-objection\"",
        ))
        .further(&policy(
            "token",
            &format!(
                "gate = \"token\"\n[policy.token]\npeers = [\"127.0.0.1\"]\n\
                 keys = [{{ id = \"pbx-1\", hmac_file = \"{key}\" }}]"
            ),
        ))
}

fn events(agent: &Agent, kind: &str) -> usize {
    let kind = format!("io.assent.{kind}");
    let all = agent.events();
    all.iter().filter(|e| e["type"].as_str().is_some_and(|t| t.starts_with(&kind))).count()
}

/// Until one more of these events is there than `before`.
fn until(phone: &mut WirePhone, agent: &Agent, kind: &str, before: usize) {
    support::wait_for(SOON, kind, || {
        phone.talk(ms(100));
        events(agent, kind) > before
    });
}

/// The token that a telephone system signs, as the documentation shows it.
fn token(call_id: &str) -> String {
    let page = include_str!("../docs/consent-token.md");
    let program = page.split("```python").nth(1).and_then(|p| p.split("```").next());
    let call = format!(
        "{}\nprint(token('{call_id}', 'caller', 'granted', 'pbx-1', bytes.fromhex('{SECRET}')))",
        program.expect("a program")
    );
    let run = Command::new("python3").args(["-c", &call]).output().expect("python3 runs");
    let token = String::from_utf8(run.stdout).expect("ASCII").trim().to_owned();
    format!("User-to-User: {};encoding=hex;purpose=consent\r\n", hex::encode(token))
}

/// Calls in which everything is decided in every way that one telephone can bring about.
fn calls(agent: &Agent) {
    // Permits by a key, and takes it back.
    let mut phone = WirePhone::call(agent.udp(), "default");
    until(&mut phone, agent, "notice.completed", 0);
    phone.press(1, 3);
    until(&mut phone, agent, "recording.started", 0);
    phone.press(STAR, 3);
    phone.talk(ms(100));
    phone.press(9, 3);
    until(&mut phone, agent, "permission.withdrawn", 0);
    phone.hang_up();
    // Refuses by a key, by silence, by hanging up.
    let mut phone = WirePhone::call(agent.udp(), "default");
    until(&mut phone, agent, "notice.completed", 1);
    phone.press(2, 3);
    until(&mut phone, agent, "permission.refused", 0);
    phone.hang_up();
    let mut phone = WirePhone::call(agent.udp(), "default");
    until(&mut phone, agent, "permission.refused", 1);
    phone.hang_up();
    let mut phone = WirePhone::call(agent.udp(), "default");
    phone.talk(ms(200));
    phone.hang_up();
    support::wait_for(SOON, "it hung up", || events(agent, "permission.refused") > 2);
    // Says nothing where that permits; and was not there to hear that it would.
    let mut phone = WirePhone::call(agent.udp(), "window");
    until(&mut phone, agent, "permission.granted", 1);
    phone.hang_up();
    let mut deaf = WirePhone::call(agent.udp(), "window");
    support::wait_for(SOON, "nobody heard it", || events(agent, "permission.refused") > 3);
    deaf.hang_up();
    // Is not asked: an agreement, a token, a telephone's preference, the list.
    let mut phone = WirePhone::call(agent.udp(), "standing");
    until(&mut phone, agent, "permission.granted", 2);
    phone.hang_up();
    let mut phone = WirePhone::dial_with(agent.udp(), "token", token);
    phone.acknowledge();
    until(&mut phone, agent, "permission.granted", 3);
    phone.hang_up();
    let off = "a=recordpref:off\r\n";
    let decided = events(agent, "permission.");
    let mut phone = WirePhone::dial_offering(agent.udp(), "default", |_| String::new(), off);
    phone.acknowledge();
    until(&mut phone, agent, "permission.", decided);
    phone.hang_up();
    agent.json(&["do-not-record", "add", "sip:wire@127.0.0.1", "--reason", "objected"]);
    let decided = events(agent, "permission.");
    let mut phone = WirePhone::call(agent.udp(), "default");
    until(&mut phone, agent, "permission.", decided);
    phone.hang_up();
}

struct Books {
    catalog: PathBuf,
}

impl Books {
    fn of(agent: &Agent) -> Self {
        Self { catalog: agent.data().join("catalog.db") }
    }

    fn open(&self) -> Connection {
        Connection::open(&self.catalog).expect("the catalog")
    }

    fn records(&self) -> Vec<String> {
        let db = self.open();
        let mut rows = db.prepare("SELECT record FROM evidence ORDER BY sequence").unwrap();
        let records = rows.query_map([], |row| row.get(0)).unwrap();
        records.collect::<Result<_, _>>().unwrap()
    }
}

/// What the independent program says.
fn python(public: &str, arguments: &[&str], lines: &str) -> (Option<i32>, String) {
    let mut child = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/verify_evidence.py"))
        .arg(public)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 with `cryptography`: make test installs it");
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).trim().to_owned())
}

#[test]
fn evidence_of_every_kind_is_proved_by_an_independent_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("pbx-1.key");
    std::fs::write(&key, format!("{SECRET}\n")).expect("a key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("its mode");
    let mut agent = every_gate(&key.display().to_string()).start();
    calls(&agent);
    assert!(agent.stop().success());
    let records = Books::of(&agent).records();
    let values: Vec<Value> = records.iter().map(|r| serde_json::from_str(r).unwrap()).collect();
    let facts: Vec<&Value> = values.iter().map(|v| &v["evidence"]["facts"]).collect();
    let methods: BTreeSet<&str> =
        facts.iter().map(|f| f["answer"]["method"].as_str().unwrap()).collect();
    let all = [
        "hung-up",
        "key",
        "keys",
        "listed",
        "not-heard",
        "preference",
        "standing",
        "token",
        "window",
    ];
    assert_eq!(methods, all.into());
    let outcomes: BTreeSet<&str> = facts.iter().map(|f| f["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["granted", "objected", "refused", "withdrawn"].into());
    // What a withdrawal takes back is in the chain before it.
    let withdrawn = facts.iter().find(|f| f["outcome"] == "withdrawn").unwrap();
    assert_eq!(withdrawn["ends"], json!(Digest::of(body(&records[0]).as_bytes())));

    let public = agent.json(&["keys", "public"])[0]["public"].as_str().unwrap().to_owned();
    let heads: Vec<Value> = agent.events();
    let heads = heads.iter().filter(|e| e["type"] == "io.assent.agent.chain.v1");
    let heads: Vec<String> = heads.map(ToString::to_string).collect();
    assert!(!heads.is_empty(), "its end at least");
    let published = folder.path().join("heads");
    std::fs::write(&published, heads.join("\n")).unwrap();
    let published = published.display().to_string();
    let (code, said) = python(&public, &["--events", &published], &records.join("\n"));
    assert_eq!(code, Some(0), "{said}");
    let last: Value = serde_json::from_str(heads.last().unwrap()).unwrap();
    let head = &last["data"]["head"];
    assert_eq!(said, format!("{}:{}", head["sequence"], head["digest"].as_str().unwrap()));
    let (code, said) =
        python(&public, &["--events", &published], &records[..records.len() - 1].join("\n"));
    assert_eq!(code, Some(2), "{said}");

    // A data-protection officer reads the same, every record of it; nobody's number is in it.
    for (record, facts) in values.iter().zip(&facts) {
        let id = record["evidence"]["id"].as_str().unwrap();
        let output = agent.command(&["evidence", id]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        for part in [
            facts["outcome"].as_str().unwrap(),
            facts["party_ref"].as_str().unwrap(),
            "Test GmbH",
            "quality",
            "GDPR Art. 6(1)",
        ] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
        assert!(!said.contains("wire@"), "{said}");
        let output = agent.command(&["evidence", id, "--verify"]);
        assert!(output.status.success(), "{output:?}");
    }
    support::ledger::proven(&agent);
}

/// The body of a record, as it is signed.
fn body(record: &str) -> &str {
    let body = record.strip_prefix("{\"evidence\":").unwrap();
    body.rsplit_once(",\"signature\":").unwrap().0
}

/// A record anew: after `previous`, with `change` made to its body, signed by `key`.
fn forge(
    record: &str,
    previous: Digest,
    key: &SigningKey,
    change: impl FnOnce(&mut Value),
) -> (String, Digest) {
    let mut value: Value = serde_json::from_str(body(record)).unwrap();
    value["previous"] = json!(previous);
    value["signing_key"] = json!(key.key_id().to_string());
    change(&mut value);
    let body = serde_jcs::to_string(&value).unwrap();
    let signature = hex::encode(key.sign(body.as_bytes()));
    let digest = Digest::of(body.as_bytes());
    (format!("{{\"evidence\":{body},\"signature\":\"{signature}\"}}"), digest)
}

fn write_record(db: &Connection, sequence: i64, record: &str, digest: Digest) {
    db.execute(
        "UPDATE evidence SET record = ?2, digest = ?3 WHERE sequence = ?1",
        params![sequence, record, digest.0],
    )
    .unwrap();
}

/// Writes the whole chain anew with this key, every permission turned into a refusal.
fn replace_all(db: &Connection, records: &[String], key: &SigningKey) {
    let mut digest = Digest([0; 32]);
    for (n, record) in (1..).zip(records) {
        let (forged, next) = forge(record, digest, key, |body| {
            body["facts"]["outcome"] = json!("refused");
        });
        digest = next;
        write_record(db, n, &forged, digest);
    }
    db.execute("UPDATE chain SET digest = ?1", [digest.0]).unwrap();
    db.execute(
        "INSERT OR IGNORE INTO signing_key (id, public, since) VALUES (?1, ?2, 0)",
        params![key.key_id().to_string(), key.public().to_bytes()],
    )
    .unwrap();
}

/// Takes the last record away, and has the catalog note the one before as the last.
fn cut_off(db: &Connection) {
    db.execute_batch(
        "DELETE FROM evidence WHERE sequence = (SELECT max(sequence) FROM evidence);
         UPDATE chain SET (sequence, digest) =
             (SELECT sequence, digest FROM evidence ORDER BY sequence DESC LIMIT 1);",
    )
    .unwrap();
}

fn forget_published(db: &Connection) {
    db.execute_batch(
        "DELETE FROM outbox WHERE subject LIKE '%.agent.chain.%';
         DELETE FROM meta WHERE name LIKE 'published-head/%';",
    )
    .unwrap();
}

#[test]
fn whatever_is_done_to_the_chain_is_found_and_named() {
    // Calls in which nobody has to be asked.
    let mut agent = Agent::builder()
        .policy("gate", "\"standing\"")
        .policy("ask", "[]")
        .policy("standing", "{ caller = \"contract-7\", callee = \"agreement-9\" }")
        .start();
    for n in 0..2 {
        let mut phone = WirePhone::call(agent.udp(), "1");
        until(&mut phone, &agent, "permission.granted", n);
        phone.hang_up();
    }
    let before_restart = published(&agent);
    assert_eq!(before_restart, 0, "nothing is published more often than it has to be");
    assert!(agent.stop().success());
    assert_eq!(published(&agent), 1, "the last head");
    agent.restart();
    for n in 2..4 {
        let mut phone = WirePhone::call(agent.udp(), "1");
        until(&mut phone, &agent, "permission.granted", n);
        phone.hang_up();
    }
    assert!(agent.stop().success());
    assert_eq!(published(&agent), 2, "a head again, since it moved");

    let books = Books::of(&agent);
    let records = books.records();
    assert_eq!(records.len(), 4);
    let own = SigningKey::open(&agent.data().join("keys")).unwrap();
    let other = SigningKey::from_seed(&[9; 32]);
    let digest = |n: usize| Digest::of(body(&records[n - 1]).as_bytes());
    let head = format!("4:{}", digest(4));
    let whole = std::fs::read(&books.catalog).unwrap();
    let verify = |head: Option<&str>| {
        let mut arguments = vec!["verify", "--all", "--json"];
        arguments.extend(head.into_iter().flat_map(|head| ["--head", head]));
        let output = agent.command(&arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let chain = said.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        let chain = chain.into_iter().find(|c| c["check"] == "chain").expect("the chain");
        (output.status.code(), chain["said"].as_str().unwrap().to_owned())
    };
    let (code, said) = verify(Some(&head));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("4 records, none missing or changed; 3 published heads fit"), "{said}");

    let case = |name: &str, head: Option<&str>, expected: &str, tamper: &dyn Fn(&Connection)| {
        std::fs::write(&books.catalog, &whole).unwrap();
        let db = books.open();
        // The catalog is what is changed, not a log beside it.
        db.pragma_update(None, "journal_mode", "DELETE").unwrap();
        tamper(&db);
        drop(db);
        let (code, said) = verify(head);
        assert_eq!(code, Some(2), "{name}: {said}");
        assert!(said.contains(expected), "{name}: {said}");
        // The receipts of a recording say so too.
        let mut arguments = vec!["evidence", "last", "--verify"];
        arguments.extend(head.into_iter().flat_map(|head| ["--head", head]));
        let output = agent.command(&arguments);
        assert_ne!(output.status.code(), Some(0), "{name}: {output:?}");
    };

    case("changed", None, "was changed: its signature does not belong to it", &|db| {
        let changed = records[1].replace("\"granted\"", "\"refused\"");
        write_record(db, 2, &changed, digest(2));
    });
    case("dropped", None, "record 2 is missing: record 3 is in its place", &|db| {
        db.execute("DELETE FROM evidence WHERE sequence = 2", []).unwrap();
    });
    case("swapped", None, "record 2 is missing: record 3 is in its place", &|db| {
        write_record(db, 2, &records[2], digest(3));
        write_record(db, 3, &records[1], digest(2));
    });
    case("repeated", None, "record 3 is missing: record 2 is in its place", &|db| {
        write_record(db, 3, &records[1], digest(2));
    });
    case("cut off", None, "the chain ends at record 3; 4 records were written", &|db| {
        db.execute("DELETE FROM evidence WHERE sequence = 4", []).unwrap();
    });
    case("cut off and noted so", None, "records were removed at its end", &cut_off);
    case(
        "cut off, and all that was published here forgotten",
        Some(&head),
        "--head says that there are 4",
        &|db| {
            cut_off(db);
            forget_published(db);
        },
    );
    case("signed anew by another", None, "which is not this agent's signing key", &|db| {
        let (forged, digest) = forge(&records[1], digest(1), &other, |body| {
            body["facts"]["outcome"] = json!("refused");
        });
        write_record(db, 2, &forged, digest);
        db.execute(
            "INSERT INTO signing_key (id, public, since) VALUES (?1, ?2, 0)",
            params![other.key_id().to_string(), other.public().to_bytes()],
        )
        .unwrap();
    });
    case("signed anew by the agent", None, "does not follow the record before it", &|db| {
        let (forged, digest) = forge(&records[1], digest(1), &own, |body| {
            body["facts"]["outcome"] = json!("refused");
        });
        write_record(db, 2, &forged, digest);
    });
    case("replaced by another", None, "which is not this agent's signing key", &|db| {
        replace_all(db, &records, &other);
    });
    case("replaced with the agent's own key", None, "the chain was replaced since", &|db| {
        replace_all(db, &records, &own);
    });
    case(
        "the same, and all that was published here forgotten",
        Some(&head),
        "is not the one that --head names",
        &|db| {
            replace_all(db, &records, &own);
            forget_published(db);
        },
    );
    case("a published head changed", None, "was changed: its signature is wrong", &|db| {
        db.execute(
            "UPDATE outbox SET json = replace(json, '\"sequence\":4', '\"sequence\":3')
             WHERE subject LIKE '%.agent.chain.%'",
            [],
        )
        .unwrap();
    });
    case("nothing left", None, "the chain ends at record 0", &|db| {
        db.execute_batch("DELETE FROM evidence; DELETE FROM chain;").unwrap();
    });
}

fn published(agent: &Agent) -> usize {
    events(agent, "agent.chain")
}
