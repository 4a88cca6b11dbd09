//! SIPp, a user agent that is not ours, is served over UDP and TCP, IPv4 and IPv6.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "sip/wire.rs"]
mod wire;

use std::collections::HashSet;
use std::process::{Command, Stdio};

use assent::call::message::{Method, Response, Transport};
use assent::sip::Listen;
use wire::Edge;

const CALLS: usize = 100;

/// Runs a scenario against a listener. `sipp` must be installed; `make test` sees to it.
async fn sipp(scenario: &str, listen: Listen) {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("{}/tests/sipp/{scenario}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("sipp");
    command.arg(listen.addr.to_string()).args(["-sf", &file]);
    command.args([
        "-m",
        &CALLS.to_string(),
        "-r",
        "400",
        "-l",
        "1000",
        "-nostdin",
        "-timeout",
        "20s",
    ]);
    command.args(["-timeout_error", "-trace_err", "-i", &listen.addr.ip().to_string()]);
    command.args(["-t", if listen.transport == Transport::Tcp { "t1" } else { "u1" }]);
    command.args(["-p", &free_port(listen).to_string()]);
    command.current_dir(folder.path()).stdin(Stdio::null());
    // It ends by itself: that is what its -timeout is for.
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.expect("cannot run sipp; install it (Debian: sip-tester)");
    let log = std::fs::read_dir(folder.path()).unwrap().flatten();
    let log: Vec<String> = log.flat_map(|e| std::fs::read_to_string(e.path())).collect();
    assert!(output.status.success(), "{listen}: {log:?}");
}

fn free_port(listen: Listen) -> u16 {
    let any = std::net::SocketAddr::new(listen.addr.ip(), 0);
    match listen.transport {
        Transport::Udp => std::net::UdpSocket::bind(any).unwrap().local_addr().unwrap().port(),
        _ => std::net::TcpListener::bind(any).unwrap().local_addr().unwrap().port(),
    }
}

#[tokio::test]
async fn pings_of_sipp_are_answered() {
    let mut edge = Edge::start();
    for listener in 0..4 {
        sipp("edge-options.xml", edge.at(listener)).await;
    }
    edge.no_event();
    assert!(edge.sip.counters().requests_in().of(&Method::Options) >= 4 * CALLS as u64);
    assert_eq!(edge.sip.counters().transactions.load(), 0);
}

#[tokio::test]
async fn a_caller_that_loses_a_fifth_of_what_it_hears_makes_one_call_each() {
    for listener in [0, 1] {
        let mut edge = Edge::start();
        let listen = edge.at(listener);
        let handle = edge.sip.clone();
        let busy = async {
            let mut calls = HashSet::new();
            while calls.len() < CALLS {
                let (txn, request) = edge.request().await;
                assert_eq!(request.method, Method::Invite);
                assert!(calls.insert(request.call_id), "heard twice");
                edge.sip.respond(txn, Response::new(486, Some("ours".to_owned())));
            }
            edge
        };
        let (mut edge, ()) = tokio::join!(busy, sipp("edge-lossy-invite.xml", listen));
        edge.no_event();
        assert!(handle.counters().retransmissions_out.load() > 0, "nothing was lost");
        while handle.counters().transactions.load() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}
