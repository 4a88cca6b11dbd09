//! SIP over TLS: 1.2 and 1.3, with and without certificates of callers, towards us and from us;
//! who is no peer is told so; who is silent keeps nobody waiting; certificates are exchanged while
//! the agent runs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "sip/wire.rs"]
mod wire;
// The shared support has more than this file needs.
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use assent::call::message::{
    ClientTxn, Headers, Hop, Method, Request, Response, Scheme, Transport, Unanswered,
};
use assent::sip::{Failing, Peers, SipConfig, SipEvent, Target, Tls, TlsFiles};
use support::certificates::{Authority, Issued};
use support::{Agent, Baresip, wait_for};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, version};
use tokio_rustls::{TlsAcceptor, TlsConnector, client};
use wire::{Edge, Phone, invite, options};

const SOON: Duration = Duration::from_secs(15);

fn edge(files: TlsFiles, change: impl FnOnce(&mut SipConfig)) -> Edge {
    Edge::with(|config| {
        config.listen = vec!["tls:127.0.0.1:0".parse().unwrap()];
        config.tls = Some(Tls::load(&files).unwrap());
        change(config);
    })
}

fn files(authority: &Authority, shows: &Issued) -> TlsFiles {
    TlsFiles {
        identity: Some((shows.cert.clone(), shows.key.clone())),
        client_ca: None,
        ca: Some(authority.pem()),
    }
}

async fn handshake(
    to: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    let name = ServerName::from(to.ip());
    TlsConnector::from(config).connect(name, stream).await
}

async fn phone(to: SocketAddr, config: Arc<ClientConfig>) -> Phone {
    let stream = handshake(to, config).await.unwrap();
    let local = stream.get_ref().0.local_addr().unwrap();
    Phone::over(stream, Transport::Tls, local)
}

#[tokio::test]
async fn a_call_comes_by_tls_1_2_and_by_1_3_and_its_answer_goes_back_the_same_way() {
    let authority = Authority::new();
    let ours = authority.issue("ours", &["127.0.0.1"]);
    let mut edge = edge(files(&authority, &ours), |_| {});
    for version in [&version::TLS12, &version::TLS13] {
        let mut phone = phone(edge.at(0).addr, authority.client(None, version)).await;
        let mark = format!("{:?}", version.version);
        phone.say(&invite(&mark)).await;
        assert_eq!(phone.hear().await.status(), 100);
        let (txn, request) = edge.request().await;
        assert_eq!(request.source, phone.hop());
        edge.sip.respond(txn, Response::new(486, Some("ours".to_owned())));
        assert_eq!(phone.hear().await.status(), 486);
        phone.raw(b"\r\n\r\n").await;
        assert_eq!(phone.hear().await.0, "\r\n", "a ping has its pong (RFC 5626, 3.5.1)");
    }
    let at = edge.at(0).addr;
    let contact = edge.sip.contact(Transport::Tls, at, Scheme::Sip);
    assert_eq!(contact, format!("sip:{at};transport=tls"));
}

#[tokio::test]
async fn where_callers_must_show_a_certificate_those_without_a_good_one_are_not_heard() {
    let (authority, other) = (Authority::new(), Authority::new());
    let ours = authority.issue("ours", &["127.0.0.1"]);
    let files = TlsFiles { client_ca: Some(authority.pem()), ..files(&authority, &ours) };
    let mut edge = edge(files, |_| {});
    let at = edge.at(0).addr;
    let theirs = authority.issue("theirs", &["127.0.0.1"]);
    let forged = other.issue("forged", &["127.0.0.1"]);
    for version in [&version::TLS12, &version::TLS13] {
        for shows in [None, Some(&forged)] {
            let config = authority.client(shows, version);
            // TLS 1.3 tells a client after its own side of the handshake is done.
            if let Ok(stream) = handshake(at, config).await {
                let local = stream.get_ref().0.local_addr().unwrap();
                let mut phone = Phone::over(stream, Transport::Tls, local);
                assert!(phone.hears_the_end().await);
            }
        }
        let mut phone = phone(at, authority.client(Some(&theirs), version)).await;
        phone.hears_nothing_more("mutual").await;
    }
    edge.no_event();
    assert!(edge.sip.counters().tls_failures.load() >= 4);
}

#[tokio::test]
async fn who_is_no_peer_is_told_so_over_tls_and_nothing_over_tcp() {
    let authority = Authority::new();
    let ours = authority.issue("ours", &["127.0.0.1"]);
    let mut edge = edge(files(&authority, &ours), |config| {
        config.listen.push("tcp:127.0.0.1:0".parse().unwrap());
        config.peers = Peers::default();
    });
    let mut stranger = phone(edge.at(0).addr, authority.client(None, &version::TLS13)).await;
    stranger.say(&invite("stranger")).await;
    assert_eq!(stranger.hear().await.status(), 403);
    assert!(stranger.hears_the_end().await);
    let mut stranger = Phone::to(edge.at(1)).await;
    assert!(stranger.hears_the_end().await);
    edge.no_event();
    assert_eq!(edge.sip.counters().foreign.load(), 2);
}

#[tokio::test]
async fn silent_clients_keep_nobody_waiting_and_are_closed() {
    let authority = Authority::new();
    let ours = authority.issue("ours", &["127.0.0.1"]);
    let edge = edge(files(&authority, &ours), |config| {
        config.limits.handshake_within = Duration::from_millis(400);
    });
    let at = edge.at(0).addr;
    let mut silent = Vec::new();
    for n in 0..20u8 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        // Some say the beginning of a handshake, and then nothing.
        let begins: &[u8] = if n % 2 == 0 { b"\x16\x03\x01" } else { b"" };
        tokio::io::AsyncWriteExt::write_all(&mut stream, begins).await.unwrap();
        silent.push(stream);
    }
    let mut prompt = phone(at, authority.client(None, &version::TLS13)).await;
    prompt.hears_nothing_more("beside-the-silent").await;
    for mut stream in silent {
        let mut rest = Vec::new();
        let ended = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest);
        let _ = tokio::time::timeout(SOON, ended).await.expect("it is closed");
    }
    prompt.hears_nothing_more("after-them").await;
}

#[tokio::test]
async fn more_handshakes_than_one_address_may_have_are_closed_at_once() {
    let authority = Authority::new();
    let ours = authority.issue("ours", &["127.0.0.1"]);
    let edge = edge(files(&authority, &ours), |_| {});
    let at = edge.at(0).addr;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(at).await.unwrap());
    }
    while edge.sip.counters().overload.load() < 8 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(silent);
    let client = authority.client(None, &version::TLS13);
    let mut phone = loop {
        if let Ok(stream) = handshake(at, Arc::clone(&client)).await {
            let local = stream.get_ref().0.local_addr().unwrap();
            break Phone::over(stream, Transport::Tls, local);
        }
    };
    phone.hears_nothing_more("after-the-crowd").await;
}

fn request_to(hop: Hop) -> Request {
    Request {
        uri: format!("sip:phone@{};transport=tls", hop.addr),
        headers: Headers::new()
            .with("From", "<sip:assent>;tag=a")
            .with("To", "<sip:phone>")
            .with("Call-ID", "ours")
            .with("CSeq", "1 OPTIONS"),
        method: Method::Options,
        body: bytes::Bytes::new(),
        hop,
    }
}

#[tokio::test]
async fn a_next_hop_must_show_a_certificate_for_its_address_and_sees_ours() {
    let (authority, other) = (Authority::new(), Authority::new());
    let ours = authority.issue("ours", &["127.0.0.1"]);
    let mut edge = edge(files(&authority, &ours), |_| {});
    let good = authority.issue("good", &["127.0.0.1"]);
    let misnamed = authority.issue("misnamed", &["pbx.example"]);
    let forged = other.issue("forged", &["127.0.0.1"]);
    for (n, shows) in [(1, &misnamed), (2, &forged)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hop = Hop { transport: Transport::Tls, addr: listener.local_addr().unwrap() };
        let config = authority.server(shows, false);
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = TlsAcceptor::from(config).accept(stream).await;
        });
        edge.sip.request(ClientTxn(n), request_to(hop));
        match edge.event().await {
            SipEvent::Unanswered { txn, why } => {
                assert_eq!((txn, why), (ClientTxn(n), Unanswered::Transport));
            }
            other => panic!("{other:?}"),
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hop = Hop { transport: Transport::Tls, addr: listener.local_addr().unwrap() };
    edge.sip.request(ClientTxn(3), request_to(hop));
    let (stream, _) = listener.accept().await.unwrap();
    let stream = TlsAcceptor::from(authority.server(&good, true)).accept(stream).await.unwrap();
    assert!(stream.get_ref().1.peer_certificates().is_some(), "our certificate is shown");
    let local = stream.get_ref().0.local_addr().unwrap();
    let mut server = Phone::over(stream, Transport::Tls, local);
    let asked = server.hear().await;
    let via = asked.header("Via");
    assert!(via.starts_with("SIP/2.0/TLS ") && via.contains(";alias"), "{via}");
    server.say(&asked.answer("200 OK", "")).await;
    match edge.event().await {
        SipEvent::Response { txn, response } => {
            assert_eq!((txn, response.status), (ClientTxn(3), 200));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_next_hop_with_a_name_must_show_a_certificate_for_that_name() {
    let authority = Authority::new();
    let ours = authority.issue("ours", &["127.0.0.1"]);
    let mut edge = edge(files(&authority, &ours), |_| {});
    let shown = authority.issue("named", &["pbx.example"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hop = Hop { transport: Transport::Tls, addr: listener.local_addr().unwrap() };
    let config = authority.server(&shown, false);
    let mut held = Vec::new();
    for (n, name, good) in
        [(1, "other.example", false), (2, "pbx.example", true), (3, "other.example", false)]
    {
        let target = Target {
            hop,
            uri: format!("sip:bob@{name};transport=tls"),
            contact: "sip:assent@127.0.0.1".to_owned(),
            name: Some(name.into()),
        };
        let request = Request {
            headers: Headers::new()
                .with("From", "<sip:assent>;tag=a")
                .with("To", "<sip:bob>")
                .with("Call-ID", format!("named-{n}"))
                .with("CSeq", "1 INVITE")
                .with("Contact", "<sip:x>"),
            method: Method::Invite,
            ..request_to(hop)
        };
        edge.sip.request_any(ClientTxn(n), request, vec![target], Duration::ZERO);
        let (stream, _) = listener.accept().await.unwrap();
        let stream = TlsAcceptor::from(Arc::clone(&config)).accept(stream).await;
        if good {
            let mut server = Phone::over(stream.unwrap(), Transport::Tls, hop.addr);
            let invite = server.hear().await;
            assert!(
                invite.0.starts_with("INVITE sip:bob@pbx.example;transport=tls "),
                "{invite:?}"
            );
            server.say(&invite.answer("486 Busy Here", "")).await;
            match edge.event().await {
                SipEvent::Response { response, .. } => assert_eq!(response.status, 486),
                other => panic!("{other:?}"),
            }
            // The third must not take this connection, which is somebody else's.
            held.push(server);
        } else {
            match edge.event().await {
                SipEvent::PassedBy { why, .. } => assert_eq!(why, Failing::Unreachable),
                other => panic!("{other:?}"),
            }
            assert!(matches!(edge.event().await, SipEvent::Unanswered { .. }));
        }
    }
}

#[tokio::test]
async fn a_connection_on_which_both_are_certain_is_used_the_other_way_too() {
    let authority = Authority::new();
    let ours = authority.issue("ours", &["127.0.0.1"]);
    let files = TlsFiles { client_ca: Some(authority.pem()), ..files(&authority, &ours) };
    let edge = edge(files, |_| {});
    let certain = authority.issue("certain", &["127.0.0.1"]);
    let misnamed = authority.issue("misnamed", &["pbx.example"]);
    for (n, shows, port, reused) in [(1, &certain, 40_061, true), (2, &misnamed, 40_063, false)] {
        let client = authority.client(Some(shows), &version::TLS13);
        let mut phone = phone(edge.at(0).addr, client).await;
        let asks = options(&format!("alias-{n}"));
        let asks = asks.replace("{via};rport", &format!("SIP/2.0/TLS 127.0.0.1:{port};alias"));
        phone.say(&asks).await;
        assert_eq!(phone.hear().await.status(), 200);
        let listens = SocketAddr::from(([127, 0, 0, 1], port));
        let hop = Hop { transport: Transport::Tls, addr: listens };
        edge.sip.request(ClientTxn(n), request_to(hop));
        if reused {
            assert_eq!(phone.hear().await.method(), "OPTIONS", "RFC 5923");
        } else {
            phone.hears_nothing_more("not-for-this-name").await;
        }
    }
}

fn tls_lines(authority: &Authority, shows: &Issued) -> [String; 2] {
    let listen = "listen = [\"udp:127.0.0.1:0\", \"tls:127.0.0.1:0\"]".to_owned();
    let tls = format!(
        "[sip.tls]\ncert = \"{}\"\nkey = \"{}\"\nca = \"{}\"",
        shows.cert.display(),
        shows.key.display(),
        authority.pem().display()
    );
    [listen, tls]
}

#[test]
fn telephones_call_each_other_through_the_agent_over_tls() {
    use support::baresip::BaresipConfig;
    let authority = Authority::new();
    let shown = authority.issue("all", &["127.0.0.1"]);
    let phone = |user: &str, hz| -> Baresip {
        BaresipConfig::new(user, hz).tls(&shown.both, &authority.pem()).start()
    };
    let (mut caller, mut callee) = (phone("caller", 440), phone("callee", 1_000));
    let [listen, tls] = tls_lines(&authority, &shown);
    let agent = Agent::builder().inline(callee.uri()).sip(&listen).further(&tls).start();
    // baresip says by itself that its account is for TLS.
    caller.dial(&format!("sip:callee@{}", agent.listens_on("tls")));
    caller.wait_event("CALL_ESTABLISHED", SOON);
    agent.wait_event("notice.completed", SOON);
    caller.press('1');
    callee.wait_event("CALL_ESTABLISHED", SOON);
    std::thread::sleep(Duration::from_secs(1));
    callee.hang_up();
    caller.wait_event("CALL_CLOSED", SOON);
    agent.wait_recording("sealed", SOON);
}

#[test]
fn certificates_are_exchanged_while_the_agent_runs_and_bad_ones_change_nothing() {
    let authority = Authority::new();
    let used = authority.issue("used", &["127.0.0.1"]);
    let [listen, tls] = tls_lines(&authority, &used);
    let agent = Agent::builder().sip(&listen).further(&tls).start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let at = agent.listens_on("tls");
    let shown = || {
        let client = authority.client(None, &version::TLS13);
        let stream = runtime.block_on(handshake(at, client)).unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = used.read().0[0].to_vec();
    assert_eq!(shown(), first);
    std::fs::write(&used.cert, "no certificate").unwrap();
    agent.signal("HUP");
    wait_for(SOON, "a word about it", || agent.log().contains("certificates stay as they were"));
    assert!(agent.log().contains("sip.tls.cert: "), "{}", agent.log());
    assert_eq!(shown(), first);
    authority.issue("next", &["127.0.0.1"]).replace(&used);
    agent.signal("HUP");
    wait_for(SOON, "the new certificate", || shown() != first);
    assert_eq!(shown(), used.read().0[0].to_vec());
}
