//! A configuration that is wrong is refused before anything starts, with one clear line for each
//! problem that names the file, the key and the remedy, and exit code 64. What is needed and not
//! there is exit code 69.

#![allow(clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// What a run of the binary came to.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn assent(folder: &Path, arguments: &[&str]) -> Run {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_assent"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("ASSENT_CONFIG")
        .env_remove("ASSENT_LOG")
        .env_remove("RUST_LOG")
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Run { code: status.code(), out: text(stdout), err: text(stderr) }
}

fn with_file(text: &str, arguments: &[&str]) -> Run {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.toml"), text).expect("a file");
    assent(folder.path(), &[arguments, &["--config", "a.toml"]].concat())
}

const POLICY: &str = "[[policy]]\nname = \"default\"\npurposes = [\"q\"]\ncontroller = \"A\"\n\
                      standing = { callee = \"x\" }\nretention = \"1d\"\n";

/// A wrong text, and the one line that it must lead to, from `a.toml:` on.
fn cases() -> Vec<(String, &'static str)> {
    let policy = |more: &str| format!("{POLICY}{more}\n");
    let plain = |text: &str| text.to_owned();
    vec![
        (
            plain("tennant = \"a\""),
            "1:1: tennant: is not a key that Assent knows; did you mean \"tenant\"?",
        ),
        (
            plain("[sip]\nlisten = [\"udp:127.0.0.1:5060\"]\nadvertize = \"127.0.0.1\""),
            "3:1: sip.advertize: is not a key that Assent knows; did you mean \"advertise\"?",
        ),
        (
            plain("[media]\nports = \"29999-20000\""),
            "2:9: media.ports: \"29999-20000\" holds no room for a call; write a range of at \
             least four ports such as \"20000-29999\"",
        ),
        (plain("[media]\nlatch = \"yes\""), "2:9: media.latch: is a text; write true or false"),
        (
            plain("[media]\nsrtp = \"sdes\""),
            "2:8: media.srtp: \"sdes\" is not one of its values; write \"off\", \"offer\" or \
             \"require\"",
        ),
        (
            plain("[sip]\nlisten = [\"tls:127.0.0.1:5061\"]"),
            "2:10: sip.listen: listens for TLS, and there is no certificate to show; set \
             sip.tls.cert and sip.tls.key",
        ),
        (
            plain("[sip]\nlisten = [\"udp:0.0.0.0:5060\"]"),
            "1:1: sip.advertise: udp:0.0.0.0:5060 is every IPv4 address, and no one address is \
             named for peers; set sip.advertise to the IPv4 address that peers reach",
        ),
        (
            plain("[sip]\npeers = [\"10.0.0.0/40\"]"),
            "2:10: sip.peers: \"10.0.0.0/40\" is not a network; write \"10.0.0.0/8\", \
             \"2001:db8::/32\", or a single address",
        ),
        (
            plain("[sip.tls]\ncert = \"a.pem\""),
            "1:1: sip.tls: names only one of cert and key; name both, or neither",
        ),
        (
            plain("[sip.tls]\nclient_ca = \"a.pem\""),
            "2:13: sip.tls.client_ca: says whose certificates callers show, and nothing listens \
             for TLS; add \"tls:ADDRESS:5061\" to sip.listen, or remove the key",
        ),
        (
            plain("[sip.auth]\nusers = []"),
            "1:1: sip.auth: [sip.auth] is not available in this version; remove the table; name \
             the peers that may call in sip.peers",
        ),
        (
            plain("[sip]\nresolver = \"dns.example\""),
            "2:12: sip.resolver: \"dns.example\" is not the address of a name server; write \
             \"10.0.0.53\" or \"10.0.0.53:5353\", or a list of them",
        ),
        (
            plain("[sip.next_hop]\nprobe = \"1ms\""),
            "2:9: sip.next_hop.probe: \"1ms\" is out of range; write a span from 1s to 1h",
        ),
        (
            plain("[[route]]\nnext_hop = []"),
            "2:12: route[1].next_hop: names 0 next hops; write from one to 16",
        ),
        (
            plain("[[route]]\nnext_hop = { \"sip:a\" = 0 }"),
            "2:12: route[1].next_hop: gives no next hop any weight; write at least one above 0",
        ),
        (
            plain("[keys]\nprovider = \"vault\""),
            "2:12: keys.provider: the provider \"vault\" is not available in this build; write \
             provider = \"file\"",
        ),
        (
            plain("[storage]\nurl = \"s3://bucket/prefix\""),
            "2:7: storage.url: S3 storage is not available in this version; write \"file:PATH\"",
        ),
        (
            plain("[storage]\nsegment = \"60\""),
            "2:11: storage.segment: \"60\" is not a span of time; write a whole number with a \
             unit: ms, s, m, h, d, w or y, such as \"8s\" or \"90d\"",
        ),
        (
            plain("[http]\nlisten = \"0.0.0.0:8088\""),
            "2:10: http.listen: can be reached from other machines, and there is no password; \
             set http.password, or listen on 127.0.0.1",
        ),
        (
            plain("[nats]\nuser = \"a\"\npassword = \"b\""),
            "1:1: nats: says how to reach NATS, but not where; set nats.url, or remove [nats]",
        ),
        (
            plain("[nats]\nurl = \"nats://me:secret@host\""),
            "2:7: nats.url: holds a user or password; use nats.user and nats.password, or \
             nats.token, and leave them out of the URL",
        ),
        (
            plain("[[route]]\nmode = \"inline\""),
            "1:1: route[1].next_hop: is missing, and an inline route has to dial somewhere; set \
             next_hop = \"sip:HOST:PORT\", or mode = \"endpoint\"",
        ),
        (
            plain("[[route]]\nmode = \"siprec\""),
            "2:8: route[1].mode: SIPREC is not available in this version; write mode = \
             \"inline\" or \"endpoint\"",
        ),
        (
            plain("[[route]]\nnext_hop = \"sip:h\"\npolicy = \"defualt\""),
            "3:10: route[1].policy: no [[policy]] is named \"defualt\"; did you mean \
             \"default\"?",
        ),
        (
            plain("[[route]]\nnext_hop = \"sip:h\"\nmatch = { form = \"+49*\" }"),
            "3:11: route[1].match.form: is not a key that Assent knows; did you mean \"from\"?",
        ),
        (
            policy("basis = \"consent\"\ngate = \"no-objection\""),
            "8:8: policy.default.gate: silence is not consent (GDPR Art. 4(11)): basis = \
             \"consent\" cannot go with gate = \"no-objection\"; write gate = \"opt-in\", or a \
             basis that people may object to, such as \"legitimate_interests\"",
        ),
        (
            policy("on_refusal = \"hang-up\""),
            "7:14: policy.default.on_refusal: a choice that ends the call is not free (GDPR Art. \
             7(4)): basis = \"consent\" cannot go with on_refusal = \"hang-up\"; write \
             on_refusal = \"continue\", or another basis; or, if you answer for it that nobody \
             who refuses can be served, acknowledge = \"no-alternative-service\"",
        ),
        (
            policy("").replace("1d", "forever"),
            "6:13: policy.default.retention: \"forever\" has no end, and nothing may be kept \
             without one (GDPR Art. 5(1)(e)); write how long the purpose needs it, such as \
             \"90d\"",
        ),
        (
            policy("gate = \"token\"\n[policy.token]\npeers = [\"::1\"]"),
            "8:1: policy.default.token.keys: names no key, and a token that nobody can check \
             proves nothing; write keys = [{ id = \"pbx-1\", hmac_file = \
             \"/etc/assent/pbx-1.key\" }], or ed25519 = \"the public key\" in place of hmac_file",
        ),
        (
            policy("withdraw = \"*91\""),
            "7:12: policy.default.withdraw: \"*91\" contains 1, the key that accepts; give each \
             meaning keys of its own",
        ),
        (
            policy("pause = \"#*9\""),
            "7:9: policy.default.pause: one of \"#*9\" and the keys that withdraw, \"*9\", is \
             in the other; give each meaning keys of its own",
        ),
        (
            policy("basis = \"legitimate_interest\""),
            "7:9: policy.default.basis: \"legitimate_interest\" is not one of its values; did \
             you mean \"legitimate_interests\"? It takes consent, contract, legal_obligation, \
             vital_interests, public_task, legitimate_interests",
        ),
        (
            plain(
                "[[policy]]\nname = \"default\"\npurposes = [\"q\"]\nstanding = { callee = \"x\" }\n\
                 retention = \"1d\"",
            ),
            "1:1: policy.default.controller: names nobody, and a receipt has to say who is \
             responsible (GDPR Art. 13(1)(a)); write controller = \"the name of your \
             organisation\"",
        ),
        (
            plain(
                "[[policy]]\nname = \"default\"\ncontroller = \"A\"\nstanding = { callee = \"x\" }\n\
                 retention = \"1d\"",
            ),
            "1:1: policy.default.purposes: names no purpose, and nothing may be recorded without \
             one (GDPR Art. 5(1)(b)); write purposes = [\"quality\"], or whatever the recording \
             is for",
        ),
    ]
}

#[test]
fn each_wrong_value_is_one_line_with_file_key_and_remedy() {
    for (text, line) in cases() {
        for command in ["serve", "check"] {
            let run = with_file(&text, &[command]);
            assert_eq!(run.err, format!("a.toml:{line}\n"), "{text}");
            assert_eq!((run.code, run.out.as_str()), (Some(64), ""), "{text}");
        }
    }
}

#[test]
fn several_problems_are_told_at_once() {
    let run =
        with_file("tennant = \"a\"\n[media]\nports = \"x\"\n[sip]\nlisten = []\n", &["check"]);
    assert_eq!(run.code, Some(64));
    let starts = ["a.toml:1:1: tennant:", "a.toml:3:9: media.ports:", "a.toml:5:10: sip.listen:"];
    let lines: Vec<&str> = run.err.lines().collect();
    assert_eq!(lines.len(), starts.len(), "{}", run.err);
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn a_file_that_is_not_there_or_not_toml_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = assent(folder.path(), &["serve", "--config", "none.toml"]);
    assert_eq!(run.code, Some(64));
    assert!(run.err.starts_with("none.toml: cannot be read: "), "{}", run.err);
    assert!(run.err.contains("--config") && run.err.lines().count() == 1, "{}", run.err);
    let run = with_file("[sip\nlisten = 1", &["serve"]);
    assert_eq!(run.code, Some(64));
    assert!(run.err.starts_with("a.toml:1:"), "{}", run.err);
}

#[test]
fn a_secret_is_never_printed() {
    let text = "[nats]\nurl = \"tls://host\"\nuser = \"u\"\npassword = 1234567\n\
                [http]\nlisten = \"0.0.0.0:1\"\npassword = \"hunter2\"\n";
    let run = with_file(text, &["check"]);
    assert_eq!(run.code, Some(64));
    assert!(!run.err.contains("hunter2") && !run.err.contains("1234567"), "{}", run.err);
}

#[test]
fn the_reference_file_is_right() {
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/config/assent.toml");
    let folder = tempfile::tempdir().expect("a folder");
    let call = "--call=from=+4930,to=200";
    let run = assent(folder.path(), &["check", call, "--config", reference]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    assert!(
        run.out.contains("is the first that matches: inline, policy \"default\""),
        "{}",
        run.out
    );
    assert!(run.out.contains("dials sip:200@127.0.0.1:5080."), "{}", run.out);
}

#[test]
fn arguments_that_are_wrong_exit_64_and_help_exits_0() {
    let folder = tempfile::tempdir().expect("a folder");
    for wrong in [
        &["bogus"][..],
        &[],
        &["list", "--stat", "sealed"],
        &["list", "--state", "closed"],
        &["list", "--since", "yesterday"],
        &["show", "not-an-id"],
        &["export", "019aa8a6-2c00-7abc-8def-0123456789ab"],
        &["check", "--call", "nonsense"],
        &["status", "--log", "assent=loud"],
    ] {
        let run = assent(folder.path(), wrong);
        assert_eq!(run.code, Some(64), "{wrong:?}: {}", run.err);
        assert!(!run.err.is_empty() && run.out.is_empty(), "{wrong:?}");
    }
    for right in [&["--help"][..], &["export", "--help"], &["--version"]] {
        assert_eq!(assent(folder.path(), right).code, Some(0), "{right:?}");
    }
}

#[test]
fn what_is_needed_and_not_there_exits_69_with_the_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let id = "019aa8a6-2c00-7abc-8def-0123456789ab";
    for (arguments, remedy) in [
        (&["status"][..], "start one with `assent serve`"),
        (&["drain"], "start one with `assent serve`"),
        (&["list"], "start `assent serve` once"),
        (&["show", id], "start `assent serve` once"),
        (&["events"], "start `assent serve` once"),
        (&["evidence", id], "start `assent serve` once"),
        (&["verify", "--all"], "start `assent serve` once"),
        (&["export", id, "--reason", "x"], "start `assent serve` once"),
        (&["keys", "public"], "start `assent serve` once"),
    ] {
        let run = assent(folder.path(), arguments);
        assert_eq!(run.code, Some(69), "{arguments:?}: {}", run.err);
        assert!(run.err.contains(remedy), "{arguments:?}: {}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{arguments:?}: {}", run.err);
    }
    let left = fs::read_dir(folder.path()).expect("it reads").count();
    assert_eq!(left, 0, "a command that reads made something");
}

#[test]
fn check_finds_what_the_machine_lacks() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let keys = folder.path().join("keys");
    fs::create_dir(&keys).expect("a folder");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o755)).expect("its mode");
    fs::write(folder.path().join("file"), "").expect("a file");
    let text = format!(
        "data = \"file/data\"\nprompts = \"none\"\n[sip]\nlisten = [\"udp:127.0.0.1:{port}\"]\n\
         [keys]\npath = \"keys\"\n[http]\nlisten = \"127.0.0.1:0\"\n"
    );
    fs::write(folder.path().join("a.toml"), text).expect("a file");
    let run = assent(folder.path(), &["check", "--config", "a.toml"]);
    assert_eq!(run.code, Some(2), "{}{}", run.out, run.err);
    for wrong in [
        "WRONG  data: file is not a folder; set data to another path",
        "WRONG  keys.path: keys is open to others (mode 0755); run: chmod 700 keys",
        &format!("WRONG  sip.listen: udp:127.0.0.1:{port} cannot be taken"),
        "WRONG  prompts: ",
    ] {
        assert!(run.out.contains(wrong), "{wrong} is not in\n{}", run.out);
    }
    assert!(run.err.contains("things are wrong"), "{}", run.err);
    let json = assent(folder.path(), &["check", "--config", "a.toml", "--json"]);
    assert_eq!(json.code, Some(2));
    for line in json.out.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(value["verdict"].is_string() && value["what"].is_string(), "{line}");
    }
}

#[test]
fn the_configurations_that_are_shown_to_people_are_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = 0;
    for page in ["README.md", "config/pbx/freepbx.md"] {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(root.join(page)).expect("it reads");
        for block in text.split("```toml\n").skip(1) {
            let shown = block.split("```").next().expect("it ends");
            fs::write(folder.path().join("a.toml"), shown).expect("a file");
            let call = ["check", "--config", "a.toml", "--call", "from=+4930123,to=100"];
            let run = assent(folder.path(), &call);
            assert_eq!(run.code, Some(0), "{page}:\n{shown}\n{}{}", run.out, run.err);
            seen += 1;
        }
    }
    assert!(seen >= 4, "{seen}");
}

/// Behind NAT the address that others are told is not one of this machine.
#[test]
fn check_looks_at_the_addresses_that_the_agent_binds() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |listen: &str| {
        let text = format!(
            "[sip]\nlisten = [\"udp:{listen}:0\"]\nadvertise = \"192.0.2.1\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n"
        );
        fs::write(folder.path().join("a.toml"), text).expect("a file");
        assent(folder.path(), &["check", "--config", "a.toml"])
    };
    let run = check("127.0.0.1");
    assert!(!run.out.contains("WRONG"), "{}", run.out);
    let run = check("192.0.2.1");
    assert_eq!(run.code, Some(2), "{}", run.out);
    assert!(run.out.contains("this machine does not have this address"), "{}", run.out);
}

#[test]
fn the_configuration_is_found_by_flag_then_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_assent"));
    command.current_dir(folder.path()).env("ASSENT_CONFIG", "environment.toml").arg("status");
    let said = String::from_utf8(command.output().expect("it runs").stderr).expect("UTF-8");
    assert!(said.starts_with("environment.toml: cannot be read"), "{said}");
    command.args(["--config", "flag.toml"]);
    let said = String::from_utf8(command.output().expect("it runs").stderr).expect("UTF-8");
    assert!(said.starts_with("flag.toml: cannot be read"), "{said}");
}
