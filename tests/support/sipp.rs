//! SIPp as a peer: a scenario of `tests/sipp/` against an address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Ports, Process, Scenario, tool, wait_for};

/// A SIPp run, being put together.
#[derive(Debug)]
pub struct Sipp {
    folder: tempfile::TempDir,
    ip: IpAddr,
    port: u16,
    scenario: PathBuf,
    target: Option<SocketAddr>,
    arguments: Vec<String>,
    seconds: u64,
    ports: Ports,
}

/// A SIPp run that goes on.
#[derive(Debug)]
pub struct RunningSipp {
    folder: tempfile::TempDir,
    addr: SocketAddr,
    process: Process,
    seconds: u64,
    _ports: Ports,
}

/// How a SIPp run ended.
#[derive(Debug)]
pub struct SippResult {
    /// 0: every call as the scenario says. 1: at least one was not. 97: ended by a time-out.
    pub code: i32,
    /// Every message sent and received, in order.
    pub messages: String,
    /// What it complained about.
    pub errors: String,
    /// Its screens.
    pub output: String,
}

impl Sipp {
    /// A scenario that calls: `name` is a file in `tests/sipp/` without `.xml`.
    pub fn calls(name: &str, target: SocketAddr) -> Self {
        Self::new(name, Some(target))
    }

    /// A scenario that is called.
    pub fn answers(name: &str) -> Self {
        Self::new(name, None)
    }

    /// A scenario of the test's own, that calls `target`, or is called where there is none.
    pub fn plays(scenario: &Scenario, target: Option<SocketAddr>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("scenario.xml");
        std::fs::write(&file, scenario.xml()).expect("a scenario");
        Self::of(file, folder, target)
    }

    fn new(name: &str, target: Option<SocketAddr>) -> Self {
        let scenario = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/sipp")
            .join(name)
            .with_extension("xml");
        assert!(scenario.exists(), "there is no {}", scenario.display());
        Self::of(scenario, tempfile::tempdir().expect("a folder"), target)
    }

    fn of(scenario: PathBuf, folder: tempfile::TempDir, target: Option<SocketAddr>) -> Self {
        let mut ports = Ports::claim();
        // Audio and video, each with RTCP: it binds all of them.
        let media = *ports.range(4).start();
        let sipp = Self {
            folder,
            ip: target.map_or(Ipv4Addr::LOCALHOST.into(), |target| target.ip()),
            port: ports.pair(),
            scenario,
            target,
            arguments: vec![],
            seconds: 30,
            ports,
        };
        // Its control port would otherwise be found by trial and error among all instances.
        let mut sipp = sipp.arg("-mp").arg(media.to_string()).arg("-m").arg("1");
        let control = sipp.ports.pair();
        sipp = sipp.arg("-cp").arg(control.to_string());
        sipp
    }

    /// One more argument, as SIPp's manual has it.
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// A variable of the scenario: `[name]` in its messages.
    pub fn key(self, name: &str, value: &str) -> Self {
        self.arg("-key").arg(name).arg(value)
    }

    /// The user that is called, or that answers: `[service]`.
    pub fn service(self, user: &str) -> Self {
        self.arg("-s").arg(user)
    }

    /// How many calls; one where nothing is said.
    pub fn count(self, calls: u32) -> Self {
        self.arg("-m").arg(calls.to_string())
    }

    /// New calls in a second.
    pub fn rate(self, calls: u32) -> Self {
        self.arg("-r").arg(calls.to_string())
    }

    /// Over TCP, one connection for all calls.
    pub fn tcp(self) -> Self {
        self.arg("-t").arg("t1")
    }

    /// The limit for the whole run; 30 s where nothing is said.
    pub fn within(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    /// Values for `[field0]`, `[field1]`… one line a call; the first line says the order.
    pub fn csv(self, lines: &str) -> Self {
        let file = self.folder.path().join("values.csv");
        std::fs::write(&file, lines).expect("a file of values");
        let file = file.display().to_string();
        self.arg("-inf").arg(file)
    }

    /// On the loopback address of this family; a caller is on that of its target.
    pub fn on(mut self, ip: impl Into<IpAddr>) -> Self {
        self.ip = ip.into();
        self
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    /// Starts it.
    pub fn start(self) -> RunningSipp {
        let folder = self.folder.path().to_owned();
        let ip = self.ip.to_string();
        let mut command = Command::new(tool("sipp"));
        command.current_dir(&folder);
        if let Some(target) = self.target {
            command.arg(target.to_string());
        }
        command
            .arg("-sf")
            .arg(&self.scenario)
            .args(["-i", &ip, "-mi", &ip, "-p", &self.port.to_string()])
            .args(["-nostdin", "-aa", "-trace_err", "-error_file", "errors.log"])
            .args(["-trace_msg", "-message_file", "messages.log", "-timeout_error"])
            .args(["-timeout", &format!("{}s", self.seconds)])
            .args(&self.arguments)
            .env("TERM", "dumb");
        let answers = self.target.is_none();
        let process = Process::start("sipp", &mut command, &folder.join("screen.log"));
        let mut running = RunningSipp {
            addr: self.addr(),
            folder: self.folder,
            process,
            seconds: self.seconds,
            _ports: self.ports,
        };
        if answers {
            running.wait_until_bound();
        }
        running
    }

    /// Starts it and waits for its end.
    pub fn run(self) -> SippResult {
        self.start().finish()
    }
}

impl RunningSipp {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every message sent and received so far.
    pub fn messages(&self) -> String {
        read(self.folder.path(), "messages.log")
    }

    /// Waits for its end.
    pub fn finish(mut self) -> SippResult {
        let status = self.process.wait(Duration::from_secs(self.seconds + 10));
        SippResult {
            code: status.code().unwrap_or(-1),
            messages: self.messages(),
            errors: read(self.folder.path(), "errors.log"),
            output: self.process.output(),
        }
    }

    fn wait_until_bound(&mut self) {
        let addr = self.addr();
        let process = &mut self.process;
        wait_for(Duration::from_secs(10), "sipp listens", || {
            assert!(process.ended().is_none(), "sipp ended: {}", process.output());
            std::net::UdpSocket::bind(addr).is_err() || std::net::TcpListener::bind(addr).is_err()
        });
    }
}

impl SippResult {
    /// Fails the test with everything known, unless all went as the scenario says.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        assert_eq!(self.code, 0, "sipp: {}\n{}\n{}", self.errors, self.messages, self.output);
        self
    }
}

fn read(folder: &Path, name: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(folder.join(name)).unwrap_or_default()).into_owned()
}

/// The messages in a log of SIPp's that came in, or went out, and that begin so.
pub fn messages(log: &str, way: Way, begins: &str) -> Vec<String> {
    let mark = match way {
        Way::Heard => "message received",
        Way::Said => "message sent",
    };
    log.split("-----------------------------------------------")
        .filter_map(|block| {
            let (head, message) = block.split_once("bytes")?;
            let message = message.split_once('\n')?.1.trim_start();
            (head.contains(mark) && message.starts_with(begins)).then(|| message.to_owned())
        })
        .collect()
}

/// Which way a message went, as SIPp sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Heard,
    Said,
}

/// The values of a header in a message.
pub fn header(message: &str, name: &str) -> Vec<String> {
    message
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
        .collect()
}
