//! baresip as a peer: a whole user agent with audio, driven over its JSON control port.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::audio::Audio;
use super::{Ports, Process, tool, wait_until};

/// What a baresip is to be like.
#[derive(Clone, Debug)]
pub struct BaresipConfig {
    /// The user part of its address.
    pub user: String,
    /// What it says: a sine of this many hertz, or a WAV file.
    pub says: Says,
    /// The codecs it offers and takes, in order: `pcmu`, `pcma`, `g722`, `opus`.
    pub codecs: Vec<String>,
    /// Whether it answers by itself.
    pub answers: Answers,
    /// TLS: its certificate with its key in one file, and the authority that it believes.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How it protects its media.
    pub protects: Protects,
}

/// How a baresip protects its media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protects {
    /// Plain RTP, and no word of anything else.
    No,
    /// Offers `RTP/AVP` with `a=crypto`, and takes what comes.
    IfItCan,
    /// `RTP/SAVP` or nothing.
    Always,
    /// `RTP/SAVPF` or nothing.
    AlwaysWithFeedback,
    /// By a DTLS handshake, or nothing.
    ByHandshake,
}

/// What a baresip says.
#[derive(Clone, Debug)]
pub enum Says {
    Tone(u32),
    /// A WAV file of 48 kHz, stereo, 16 bits.
    File(PathBuf),
}

/// Whether a baresip answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    AtOnce,
    /// It rings until [`Baresip::answer`].
    WhenTold,
}

impl BaresipConfig {
    /// A user that says a tone and answers at once, G.711 µ-law.
    pub fn new(user: &str, tone_hz: u32) -> Self {
        Self {
            user: user.to_owned(),
            says: Says::Tone(tone_hz),
            codecs: vec!["pcmu".to_owned()],
            answers: Answers::AtOnce,
            protects: Protects::No,
            tls: None,
        }
    }

    pub fn codecs(mut self, codecs: &[&str]) -> Self {
        self.codecs = codecs.iter().map(|c| (*c).to_owned()).collect();
        self
    }

    pub fn says(mut self, says: Says) -> Self {
        self.says = says;
        self
    }

    pub fn answers(mut self, answers: Answers) -> Self {
        self.answers = answers;
        self
    }

    pub fn protects(mut self, protects: Protects) -> Self {
        self.protects = protects;
        self
    }

    /// Over TLS alone, with SIP's port one above the one that it has for UDP.
    pub fn tls(mut self, identity: &Path, authority: &Path) -> Self {
        self.tls = Some((identity.to_owned(), authority.to_owned()));
        self
    }

    pub fn start(self) -> Baresip {
        Baresip::start(&self)
    }
}

/// A running baresip. It records what it says and what it hears.
#[derive(Debug)]
pub struct Baresip {
    folder: tempfile::TempDir,
    user: String,
    port: u16,
    secure: bool,
    control: TcpStream,
    received: Vec<u8>,
    events: VecDeque<Value>,
    process: Process,
    _ports: Ports,
}

impl Baresip {
    fn start(config: &BaresipConfig) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut ports = Ports::claim();
        let (port, control) = (ports.pair(), ports.pair());
        let media = ports.range(20);
        let source = match &config.says {
            Says::Tone(hz) => format!("ausine,{hz}"),
            Says::File(file) => format!("aufile,{}", file.display()),
        };
        let path = folder.path().display();
        let (first, last) = (media.start(), media.end());
        let text = format!(
            "poll_method epoll\nsip_listen 127.0.0.1:{port}\nnet_interface 127.0.0.1\n\
             sip_trans_def udp\nringback_disabled yes\nrtp_ports {first}-{last}\n\
             audio_source {source}\naudio_player aubridge,{user}\n\
             ausrc_srate 48000\nauplay_srate 48000\nausrc_channels 2\nauplay_channels 2\n\
             module_path {modules}\nmodule opus.so\nmodule g722.so\nmodule g711.so\n\
             module sndfile.so\nmodule srtp.so\nmodule dtls_srtp.so\nmodule aubridge.so\nmodule aufile.so\nmodule ausine.so\n\
             module_tmp uuid.so\nmodule_tmp account.so\nmodule_app menu.so\n\
             module_app ctrl_tcp.so\nctrl_tcp_listen 127.0.0.1:{control}\nsnd_path {path}\n",
            user = config.user,
            modules = module_path().display(),
        );
        let text = match &config.tls {
            None => text,
            Some((identity, authority)) => format!(
                "{}sip_certificate {}\nsip_cafile {}\nsip_verify_server yes\n",
                text.replace("sip_trans_def udp", "sip_trans_def tls"),
                identity.display(),
                authority.display(),
            ),
        };
        std::fs::write(folder.path().join("config"), text).expect("a configuration");
        let transport = if config.tls.is_some() { ";transport=tls" } else { "" };
        let mode = match config.answers {
            Answers::AtOnce => "auto",
            Answers::WhenTold => "manual",
        };
        let account = format!(
            "<sip:{}@127.0.0.1:{port}{transport}>;regint=0;answermode={mode};audio_codecs={}{}\n",
            config.user,
            config.codecs.iter().map(|name| codec(name)).collect::<Vec<_>>().join(","),
            match config.protects {
                Protects::No => "",
                Protects::IfItCan => ";mediaenc=srtp",
                Protects::Always => ";mediaenc=srtp-mand",
                Protects::AlwaysWithFeedback => ";mediaenc=srtp-mandf",
                Protects::ByHandshake => ";mediaenc=dtls_srtp",
            },
        );
        std::fs::write(folder.path().join("accounts"), account).expect("an account");
        std::fs::write(folder.path().join("contacts"), "").expect("no contacts");
        let mut command = Command::new(tool("baresip"));
        command.arg("-f").arg(folder.path()).current_dir(folder.path());
        let mut process =
            Process::start("baresip", &mut command, &folder.path().join("baresip.log"));
        wait_until(Duration::from_secs(15), "baresip is ready", || {
            assert!(process.ended().is_none(), "baresip ended: {}", process.output());
            process.output().contains("baresip is ready").then_some(())
        });
        let control = wait_until(Duration::from_secs(5), "baresip's control port", || {
            TcpStream::connect(("127.0.0.1", control)).ok()
        });
        control.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        Self {
            user: config.user.clone(),
            folder,
            port,
            secure: config.tls.is_some(),
            control,
            received: Vec::new(),
            events: VecDeque::new(),
            process,
            _ports: ports,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port + u16::from(self.secure)))
    }

    /// Its address of record.
    pub fn uri(&self) -> String {
        let transport = if self.secure { ";transport=tls" } else { "" };
        format!("sip:{}@{}{transport}", self.user, self.addr())
    }

    /// Calls somebody.
    pub fn dial(&mut self, uri: &str) {
        self.command("dial", uri);
    }

    /// Answers the call that rings.
    pub fn answer(&mut self) {
        self.command("accept", "");
    }

    /// Presses a key (RFC 4733).
    pub fn press(&mut self, key: char) {
        self.command("sndcode", &key.to_string());
    }

    /// Holds the call, or takes it back.
    pub fn hold(&mut self) {
        self.command("hold", "");
    }

    /// See [`Baresip::hold`].
    pub fn resume(&mut self) {
        self.command("resume", "");
    }

    /// Ends the call, cancels it, or turns it down.
    pub fn hang_up(&mut self) {
        self.command("hangup", "");
    }

    /// Waits for an event, such as `CALL_ESTABLISHED`, `CALL_RINGING`, `CALL_INCOMING` or
    /// `CALL_CLOSED`. Events before it are gone afterwards.
    pub fn wait_event(&mut self, kind: &str, patience: Duration) -> Value {
        let deadline = Instant::now() + patience;
        loop {
            while let Some(event) = self.events.pop_front() {
                if event["type"] == kind {
                    return event;
                }
            }
            assert!(
                Instant::now() < deadline,
                "waited {patience:?} in vain for baresip's {kind}; it printed:\n{}",
                self.process.output()
            );
            self.read_events();
        }
    }

    /// What it heard, one channel; whole once the call has ended.
    pub fn heard(&self) -> Audio {
        Audio::read(&self.dump("-dec.wav"))
    }

    /// What it said.
    pub fn said(&self) -> Audio {
        Audio::read(&self.dump("-enc.wav"))
    }

    /// What it printed.
    pub fn output(&self) -> String {
        self.process.output()
    }

    fn dump(&self, suffix: &str) -> PathBuf {
        std::fs::read_dir(self.folder.path())
            .expect("its folder")
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.to_string_lossy().ends_with(suffix))
            .unwrap_or_else(|| panic!("baresip recorded nothing: {}", self.process.output()))
    }

    fn command(&mut self, command: &str, params: &str) {
        let text = json!({ "command": command, "params": params, "token": command }).to_string();
        let framed = format!("{}:{text},", text.len());
        self.control.write_all(framed.as_bytes()).expect("baresip takes a command");
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let answer = self.events.iter().position(|e| e["response"] == true);
            if let Some(at) = answer {
                let answer = self.events.remove(at).unwrap_or_default();
                assert_eq!(answer["ok"], true, "baresip refuses {command}: {answer}");
                return;
            }
            assert!(Instant::now() < deadline, "baresip does not answer {command}");
            self.read_events();
        }
    }

    /// Netstrings of JSON: `<length>:<text>,`.
    fn read_events(&mut self) {
        let mut buffer = [0; 4096];
        if let Ok(length) = self.control.read(&mut buffer) {
            assert!(length > 0, "baresip closed its control port:\n{}", self.process.output());
            self.received.extend_from_slice(&buffer[..length]);
        }
        while let Some(colon) = self.received.iter().position(|b| *b == b':') {
            let length: usize =
                std::str::from_utf8(&self.received[..colon]).unwrap().parse().unwrap();
            let end = colon + 1 + length;
            if self.received.len() <= end {
                return;
            }
            let text = &self.received[colon + 1..end];
            self.events.push_back(serde_json::from_slice(text).unwrap_or_default());
            self.received.drain(..=end);
        }
    }
}

/// A codec as an account names it: one without its rate is taken for 8 kHz, and one that is not
/// known is left out, which in the end allows all of them.
fn codec(name: &str) -> &str {
    match name {
        "pcmu" => "PCMU/8000/1",
        "pcma" => "PCMA/8000/1",
        "g722" => "G722/16000/1",
        "opus" => "opus/48000/2",
        _ => panic!("no codec of baresip's: {name}"),
    }
}

fn module_path() -> PathBuf {
    ["/usr/lib/baresip/modules", "/usr/local/lib/baresip/modules", "/usr/lib64/baresip/modules"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.exists())
        .expect("baresip's modules: run `make test-tools`")
        .to_owned()
}
