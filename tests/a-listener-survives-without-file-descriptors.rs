//! An agent that has run out of file descriptors goes on with the calls that it has, says once
//! what is the matter, and takes connections again when there is room.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use support::{Agent, tool, wait_for};

const SOON: Duration = Duration::from_secs(15);

fn options(transport: &str, from: SocketAddr) -> String {
    format!(
        "OPTIONS sip:assent SIP/2.0\r\nVia: SIP/2.0/{transport} {from};rport;branch=z9hG4bK-{from}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:test>;tag=t\r\nTo: <sip:assent>\r\nCall-ID: {from}\r\n\
         CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

fn answers_over_udp(agent: &Agent) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let text = options("UDP", socket.local_addr().unwrap());
    socket.send_to(text.as_bytes(), agent.udp()).unwrap();
    let mut buffer = [0; 4096];
    socket.recv(&mut buffer).is_ok() && buffer.starts_with(b"SIP/2.0 200 ")
}

fn answers_over_tcp(agent: &Agent) -> bool {
    let mut stream = TcpStream::connect(agent.tcp()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let text = options("TCP", stream.local_addr().unwrap());
    stream.write_all(text.as_bytes()).unwrap();
    let mut buffer = [0; 12];
    stream.read_exact(&mut buffer).is_ok() && buffer.starts_with(b"SIP/2.0 200 ")
}

#[test]
fn connections_are_taken_again_when_there_is_room() {
    let agent = Agent::builder().start();
    assert!(answers_over_tcp(&agent));
    let pid = agent.pid();
    let open = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = open() + 6;
    let limited = Command::new(tool("prlimit"))
        .args(["--pid", &pid.to_string(), &format!("--nofile={limit}:{limit}")])
        .status()
        .unwrap();
    assert!(limited.success());
    // The system completes them, whether the agent takes them or not.
    let crowd: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(agent.tcp()).unwrap()).collect();
    wait_for(SOON, "it says what is the matter", || {
        agent.log().contains("no further SIP connection can be taken")
    });
    assert!(answers_over_udp(&agent), "UDP needs no descriptor");
    drop(crowd);
    wait_for(SOON, "it takes them again", || answers_over_tcp(&agent));
    assert!(answers_over_udp(&agent));
    let log = agent.log();
    assert!(log.contains("SIP connections are taken again"), "{log}");
    let said = log.matches("no further SIP connection can be taken").count();
    assert_eq!(said, 1, "{log}");
}
