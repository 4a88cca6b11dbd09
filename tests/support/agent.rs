//! The real agent: `assent serve` with a configuration and a data folder of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use serde_json::Value;

use super::{Ports, Process, audio, process, wait_until};

/// The names of the prompts that an agent plays.
const PROMPTS: [&str; 11] = [
    "accepted",
    "declined",
    "notice-no-objection",
    "notice-opt-in",
    "paused",
    "refused-goodbye",
    "reprompt",
    "resumed",
    "stopped",
    "unavailable",
    "withdrawn",
];

/// How many seconds a test's notice lasts. The real ones take eight.
pub const NOTICE_SECONDS: f64 = 0.6;
/// The frequency of a test's notice, so that ears can find it.
pub const NOTICE_HZ: f64 = 700.0;
/// The frequency and length of every other prompt.
pub const PROMPT_HZ: f64 = 900.0;
/// See [`PROMPT_HZ`].
pub const PROMPT_SECONDS: f64 = 0.2;

/// An agent, being put together. As it stands: opt-in for the caller, standing for the callee,
/// endpoint mode, no NATS, short prompts.
#[derive(Clone, Debug)]
pub struct AgentBuilder {
    top: Vec<String>,
    sip: Vec<String>,
    media: Vec<String>,
    nats: Option<String>,
    routes: Option<String>,
    policy: Vec<(String, String)>,
    further: String,
    real_prompts: bool,
    many_ports: bool,
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
    next_hop: Option<String>,
}

impl AgentBuilder {
    /// Inline, to this next hop: `sip:127.0.0.1:5080`, with `;transport=tcp` if so wished.
    pub fn inline(mut self, next_hop: impl Into<String>) -> Self {
        self.next_hop = Some(next_hop.into());
        self
    }

    /// A key of the policy as TOML: `.policy("gate", "\"no-objection\"")`. Set anew where it is
    /// already set.
    pub fn policy(mut self, key: &str, toml: &str) -> Self {
        self.policy.retain(|(k, _)| k != key);
        self.policy.push((key.to_owned(), toml.to_owned()));
        self
    }

    /// The gate `no-objection` on legitimate interests, with this window.
    pub fn no_objection(self, window: &str) -> Self {
        self.policy("basis", "\"legitimate_interests\"")
            .policy("gate", "\"no-objection\"")
            .policy("notice", "\"notice-no-objection\"")
            .policy("answer_within", &format!("\"{window}\""))
    }

    /// Publishes to this NATS server.
    pub fn nats(mut self, url: &str) -> Self {
        self.nats = Some(url.to_owned());
        self
    }

    /// A line of TOML before the first table, such as `node = "a"`.
    pub fn top(mut self, line: &str) -> Self {
        self.top.push(line.to_owned());
        self
    }

    /// A further line of `[sip]`. A `listen = …` or `peers = …` takes the default's place.
    pub fn sip(mut self, line: &str) -> Self {
        self.sip.push(line.to_owned());
        self
    }

    /// A further line of `[media]`.
    pub fn media(mut self, line: &str) -> Self {
        self.media.push(line.to_owned());
        self
    }

    /// `[[route]]` tables in place of the one route of the builder.
    pub fn routes(mut self, toml: &str) -> Self {
        self.routes = Some(toml.to_owned());
        self
    }

    /// Whole tables at the end of the configuration.
    pub fn further(mut self, toml: &str) -> Self {
        self.further.push_str(toml);
        self.further.push('\n');
        self
    }

    /// The prompts that are shipped, in place of short tones.
    pub fn real_prompts(mut self) -> Self {
        self.real_prompts = true;
        self
    }

    /// About a thousand media ports, for tests under load.
    pub fn many_ports(mut self) -> Self {
        self.many_ports = true;
        self
    }

    /// Runs it under another program: `["strace", "-f", "-o", file]`.
    pub fn under<S: Into<String>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = command.into_iter().map(Into::into).collect();
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the configuration and starts the agent; waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Agent {
        let mut agent = self.prepare();
        agent.restart();
        agent
    }

    /// Writes the configuration without starting anything, for tests of commands and of starts
    /// that fail.
    pub fn prepare(self) -> Agent {
        let folder = tempfile::tempdir().expect("a folder");
        let ports = if self.many_ports { Ports::claim_many() } else { Ports::claim() };
        let mut agent = Agent {
            folder,
            process: None,
            ready: Value::Null,
            wrapper: self.wrapper.clone(),
            environment: self.environment.clone(),
            ports,
        };
        let text = self.config(&mut agent);
        std::fs::write(agent.config(), text).expect("a configuration");
        agent
    }

    fn config(self, agent: &mut Agent) -> String {
        let media = agent.ports.range(if self.many_ports { 980 } else { 56 });
        let data = agent.data();
        let mut top = vec![format!("data = \"{}\"", data.display())];
        if !self.real_prompts {
            let prompts = agent.folder.path().join("prompts");
            write_short_prompts(&prompts);
            top.push(format!("prompts = \"{}\"", prompts.display()));
        }
        top.extend(self.top);
        let sip = with_defaults(
            self.sip,
            &["listen = [\"udp:127.0.0.1:0\", \"tcp:127.0.0.1:0\"]", "advertise = \"127.0.0.1\""],
        );
        let ports = format!("ports = \"{}-{}\"", media.start(), media.end());
        let media = with_defaults(self.media, &[&ports]);
        let nats = self.nats.map(|url| format!("[nats]\nurl = \"{url}\"\n")).unwrap_or_default();
        let routes = self.routes.unwrap_or_else(|| match self.next_hop {
            Some(hop) => format!(
                "[[route]]\nmatch = {{ to = \"*\" }}\nmode = \"inline\"\nnext_hop = \"{hop}\"\n\
                 policy = \"default\"\n"
            ),
            None => {
                "[[route]]\nmatch = { to = \"*\" }\nmode = \"endpoint\"\npolicy = \"default\"\n"
                    .to_owned()
            }
        });
        let policy: String =
            self.policy.iter().map(|(key, toml)| format!("{key} = {toml}\n")).collect();
        format!(
            "{top}\n\n[sip]\n{sip}\n\n[media]\n{media}\n\n[keys]\npath = \"{keys}\"\n\n\
             [storage]\nurl = \"file:{recordings}\"\n\n{nats}\n[http]\nlisten = \"127.0.0.1:0\"\n\n\
             {routes}\n[[policy]]\n{policy}\n{further}",
            top = top.join("\n"),
            keys = data.join("keys").display(),
            recordings = data.join("recordings").display(),
            further = self.further,
        )
    }
}

/// `lines`, and those of `defaults` whose key none of them sets.
fn with_defaults(mut lines: Vec<String>, defaults: &[&str]) -> String {
    let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    for default in defaults {
        if !lines.iter().any(|line| key(line) == key(default)) {
            lines.push((*default).to_owned());
        }
    }
    lines.join("\n")
}

fn write_short_prompts(folder: &Path) {
    let locale = folder.join("en-US");
    std::fs::create_dir_all(&locale).expect("a folder of prompts");
    for name in PROMPTS {
        let (hz, seconds) = if name.starts_with("notice") {
            (NOTICE_HZ, NOTICE_SECONDS)
        } else {
            (PROMPT_HZ, PROMPT_SECONDS)
        };
        let file = locale.join(name).with_extension("wav");
        audio::write_wav(&file, 16_000, 1, &audio::tone(16_000, hz, seconds));
    }
}

/// An agent and its folder. It ends with this value.
#[derive(Debug)]
pub struct Agent {
    process: Option<Process>,
    ready: Value,
    folder: tempfile::TempDir,
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
    ports: Ports,
}

impl Agent {
    /// A new agent, to be put together.
    pub fn builder() -> AgentBuilder {
        let policy = [
            ("name", "\"default\""),
            ("basis", "\"consent\""),
            ("purposes", "[\"quality\"]"),
            ("controller", "\"Test GmbH\""),
            ("gate", "\"opt-in\""),
            ("ask", "[\"caller\"]"),
            ("standing", "{ callee = \"test-agreement\" }"),
            ("notice", "\"notice-opt-in\""),
            ("locale", "\"en-US\""),
            ("answer_within", "\"2s\""),
            ("retention", "\"90d\""),
        ];
        AgentBuilder {
            top: vec![],
            sip: vec![],
            media: vec![],
            nats: None,
            routes: None,
            policy: policy.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
            further: String::new(),
            real_prompts: false,
            many_ports: false,
            wrapper: vec![],
            environment: vec![],
            next_hop: None,
        }
    }

    /// Starts it (again) on the same folder and waits until it is ready: until it has written
    /// `ready.json` into its data folder.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        let ready = self.data().join("ready.json");
        std::fs::remove_file(&ready).ok();
        self.start_unready();
        let process = self.process.as_mut().expect("it was started");
        self.ready = wait_until(Duration::from_secs(30), "the agent is ready", || {
            assert!(process.ended().is_none(), "the agent ended:\n{}", process.output());
            serde_json::from_slice(&std::fs::read(&ready).ok()?).ok()
        });
    }

    /// The same, but says whether it became ready: it may have been made to crash while it starts.
    pub fn try_restart(&mut self) -> bool {
        self.kill();
        let ready = self.data().join("ready.json");
        std::fs::remove_file(&ready).ok();
        self.start_unready();
        let process = self.process.as_mut().expect("it was started");
        let found = wait_until(Duration::from_secs(30), "the agent is ready, or gone", || {
            let ready = std::fs::read(&ready).ok();
            let ready = ready.and_then(|text| serde_json::from_slice(&text).ok());
            match (ready, process.ended()) {
                (Some(ready), None) => Some(Some(ready)),
                (_, Some(_)) => Some(None),
                (None, None) => None,
            }
        });
        match found {
            Some(ready) => self.ready = ready,
            None => self.process = None,
        }
        self.process.is_some()
    }

    /// Runs it under another program from its next start on; `[]` for none.
    pub fn set_wrapper<S: Into<String>>(&mut self, command: impl IntoIterator<Item = S>) {
        self.wrapper = command.into_iter().map(Into::into).collect();
    }

    /// Starts it without waiting, for starts that are to fail.
    pub fn start_unready(&mut self) {
        let binary = env!("CARGO_BIN_EXE_assent");
        let mut command = match self.wrapper.split_first() {
            None => Command::new(binary),
            Some((wrapper, arguments)) => {
                let mut command = Command::new(super::tool(wrapper));
                command.args(arguments).arg(binary);
                command
            }
        };
        command
            .args(["serve", "--config"])
            .arg(self.config())
            .current_dir(self.folder.path())
            .env_remove("ASSENT_CONFIG");
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "info,assent=debug");
        }
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        let log = self.folder.path().join("agent.log");
        self.process = Some(Process::start("assent serve", &mut command, &log));
    }

    /// Does something with it outside its wrapper.
    pub fn unwrapped<T>(&mut self, what: impl FnOnce(&mut Self) -> T) -> T {
        let wrapper = std::mem::take(&mut self.wrapper);
        let done = what(self);
        self.wrapper = wrapper;
        done
    }

    /// Whether it was started and has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// Where it takes SIP over UDP.
    pub fn udp(&self) -> SocketAddr {
        self.listens_on("udp")
    }

    /// Where it takes SIP over TCP.
    pub fn tcp(&self) -> SocketAddr {
        self.listens_on("tcp")
    }

    /// The address of a listener: the first of `sip` in `ready.json` that begins with
    /// `<transport>:`.
    pub fn listens_on(&self, transport: &str) -> SocketAddr {
        let listeners = self.ready["sip"].as_array().expect("sip in ready.json");
        listeners
            .iter()
            .filter_map(|l| l.as_str()?.strip_prefix(transport)?.strip_prefix(':')?.parse().ok())
            .next()
            .unwrap_or_else(|| panic!("no {transport} in {}", self.ready))
    }

    /// The address of a listener on this transport in the family of this address.
    pub fn listens_to(&self, transport: &str, ip: std::net::IpAddr) -> SocketAddr {
        let listeners = self.ready["sip"].as_array().expect("sip in ready.json");
        listeners
            .iter()
            .filter_map(|l| l.as_str()?.strip_prefix(transport)?.strip_prefix(':')?.parse().ok())
            .find(|addr: &SocketAddr| addr.is_ipv4() == ip.is_ipv4())
            .unwrap_or_else(|| panic!("no {transport} for {ip} in {}", self.ready))
    }

    /// Where it takes HTTP.
    pub fn http(&self) -> SocketAddr {
        let addr = self.ready["http"].as_str().expect("http in ready.json");
        addr.parse().expect("an address")
    }

    /// A URI for calls to it over UDP.
    pub fn uri(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.udp())
    }

    /// The body of a GET, with its status.
    pub fn get(&self, path: &str) -> (u16, String) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.http()).expect("HTTP is there");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    /// The value of a metric, with its labels as they are printed; `None` when it is not there.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics");
        body.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("assent.toml")
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder that all of it is in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.folder.path().join("agent.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Its process id. Under a wrapper: the agent's, not the wrapper's.
    pub fn pid(&self) -> u32 {
        let named = self.ready["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        named.or_else(|| self.process.as_ref().map(Process::id)).expect("it was started")
    }

    /// Sends it a signal, such as `TERM` or `HUP`.
    pub fn signal(&self, name: &str) {
        process::signal(self.pid(), name);
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let process = self.process.as_mut().expect("it was started");
        process.wait(patience)
    }

    /// SIGTERM, then waits for its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        let status = self.wait(Duration::from_secs(30));
        self.process = None;
        status
    }

    /// SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // A wrapper that is killed lets go of the agent: end that first. It may be gone already.
        if !self.wrapper.is_empty()
            && let Some(pid) = self.ready["pid"].as_u64()
            && process.ended().is_none()
        {
            Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).output().ok();
            // It holds its locks until it is gone, and then the wrapper ends by itself.
            let deadline = std::time::Instant::now() + Duration::from_secs(5);
            while process.ended().is_none() && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        process.kill();
        self.ready = Value::Null;
    }

    /// Runs another command of the binary on this agent's configuration.
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_assent"))
            .args(arguments)
            .arg("--config")
            .arg(self.config())
            .current_dir(self.folder.path())
            .output()
            .expect("assent runs")
    }

    /// The same with `--json`, which must succeed: what it printed, one value a line.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.command(&[arguments, &["--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "assent {arguments:?}: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The events of its outbox.
    pub fn events(&self) -> Vec<Value> {
        self.json(&["events"])
    }

    /// Waits for an event whose `type` holds `kind`, such as `recording.sealed`.
    #[track_caller]
    pub fn wait_event(&self, kind: &str, patience: Duration) -> Value {
        wait_until(patience, &format!("the event {kind}"), || {
            self.events().into_iter().find(|e| e["type"].as_str().is_some_and(|t| t.contains(kind)))
        })
    }

    /// Waits until a recording is in this state, and gives its row of `list`.
    #[track_caller]
    pub fn wait_recording(&self, state: &str, patience: Duration) -> Value {
        wait_until(patience, &format!("a recording that is {state}"), || {
            self.json(&["list"]).into_iter().find(|r| r["state"] == state)
        })
    }

    /// Whether it takes HTTP.
    pub fn is_up(&self) -> bool {
        !self.ready.is_null() && std::net::TcpStream::connect(self.http()).is_ok()
    }

    /// Every file below its data folder.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.data()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}
