//! `assent call URI`: a test caller, for trying out a dial plan without a phone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::phone::{
    Call, Happening, Identity, Order, Outcome, Phone, PhoneEvent, Plan, Press, Report, Side, Sound,
    Target, Teller, span_from_text,
};
use crate::rtp::Codec;

#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  assent call sip:100@127.0.0.1:5060
      Call, stay silent, until the other side hangs up.
  assent call sip:100@127.0.0.1:5060 --press 1@9s --for 20s --hear heard.wav
      Agree to the recording after nine seconds, hang up after twenty, and keep
      what was heard.
  assent call 100@pbx.example --from +4930123456 --codec g722 --play hello.wav
      Call through a PBX as a certain caller and say something.

Exit code: 0 answered, 1 turned down or given up, 64 wrong arguments,
69 nobody there.")]
pub(super) struct Arguments {
    /// Whom to call, over UDP: sip:100@127.0.0.1:5060
    #[arg(value_name = "URI")]
    target: Target,
    /// A WAV file to say once the call is answered
    #[arg(long, value_name = "FILE.wav")]
    play: Option<PathBuf>,
    /// A tone to say, in hertz
    #[arg(long, value_name = "HZ", conflicts_with = "play", value_parser = tone)]
    tone: Option<f32>,
    /// A key to press this long after the answer, such as 1@4s; may be repeated
    #[arg(long, value_name = "KEY@TIME")]
    press: Vec<Press>,
    /// Hang up this long after the answer, such as 10s
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    lasts: Option<Duration>,
    /// Give up when nobody has answered by then
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span)]
    ring: Duration,
    /// Where to write what is heard
    #[arg(long, value_name = "OUT.wav")]
    hear: Option<PathBuf>,
    /// The codec to offer: pcmu, pcma, g722 or opus; may be repeated, best first [default: all]
    #[arg(long, value_name = "CODEC", value_parser = codec)]
    codec: Vec<Codec>,
    /// Who calls: a number or name
    #[arg(long, value_name = "USER", default_value = "assent-test")]
    from: String,
}

pub(super) fn run(arguments: &Arguments, output: &mut Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(call(arguments, output))?;
    if output.is_json() {
        output.value(&report)?;
    }
    match &report.outcome {
        Outcome::Completed { .. } => {}
        Outcome::Refused { status, reason } => {
            return Err(Failure::Failed(format!("not answered: {status} {reason}")));
        }
        Outcome::Cancelled => return Err(Failure::Failed("not answered: given up".to_owned())),
        Outcome::Unreachable => {
            return Err(Failure::Unavailable(
                "nobody there; check the address, and that the far end takes calls from this \
                 machine"
                    .to_owned(),
            ));
        }
    }
    if !output.is_json() {
        output.line(summary(&report))?;
        if let Some(path) = &arguments.hear {
            output.line(format!("What was heard: {}", path.display()))?;
        }
    }
    Ok(())
}

async fn call(arguments: &Arguments, output: &mut Output) -> Result<Report, Failure> {
    let says = match (&arguments.play, arguments.tone) {
        (Some(path), _) => {
            Sound::from_wav(path).map_err(|why| Failure::Usage(format!("--play: {why}")))?
        }
        (None, Some(hz)) => Sound::Tone { hz },
        (None, None) => Sound::Silence,
    };
    let to = arguments.target.address().await.map_err(Failure::unavailable)?;
    let bind = facing(to).map_err(|why| Failure::Unavailable(format!("no way to {to}: {why}")))?;
    let codecs = match arguments.codec.as_slice() {
        [] => Codec::ALL.to_vec(),
        chosen => chosen.to_vec(),
    };
    let plan = Plan {
        says,
        presses: arguments.press.clone(),
        lasts: arguments.lasts,
        hears: arguments.hear.clone(),
        rings: arguments.ring,
    };
    let identity = Identity { user: arguments.from.clone(), bind, codecs };
    let phone = Phone::open(identity).await.map_err(Failure::unavailable)?;
    let (sender, orders) = mpsc::channel(1);
    let (teller, mut events) = Teller::new();
    let calling = phone.call(&arguments.target, to, Call { plan, orders, teller });
    tokio::pin!(calling);
    let report = loop {
        tokio::select! {
            report = &mut calling => break report,
            Some(event) = events.recv() => show(&event, output)?,
            Ok(()) = tokio::signal::ctrl_c() => {
                // A second one while the first is still being obeyed changes nothing.
                let _ = sender.try_send(Order::HangUp);
            }
        }
    };
    while let Ok(event) = events.try_recv() {
        show(&event, output)?;
    }
    report.map_err(|why| Failure::Failed(why.to_string()))
}

fn show(event: &PhoneEvent, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        output.value(event)?;
    } else {
        output.line(format!("{:>7.2} s  {}", event.at.as_secs_f64(), words(&event.what)))?;
    }
    // As it happens, not when the buffer is full.
    Ok(output.finish()?)
}

/// What happened, in words.
pub(super) fn words(what: &Happening) -> String {
    match what {
        Happening::Dialled => "calling".to_owned(),
        Happening::Invited { from } if from.is_empty() => "a call comes in".to_owned(),
        Happening::Invited { from } => format!("a call comes in from {from}"),
        Happening::Progress { status, reason } => format!("{status} {reason}"),
        Happening::Answered { codec, media } => {
            format!("200 answered: {}, voice to {media}", codec.name())
        }
        Happening::Renegotiated { held: true, .. } => "put on hold".to_owned(),
        Happening::Renegotiated { codec, held: false } => {
            format!("media renegotiated: {}", codec.name())
        }
        Happening::Sound => "something can be heard".to_owned(),
        Happening::Quiet { after } => format!("quiet, after {:.1} s of sound", after.as_secs_f64()),
        Happening::Pressed { key } => format!("pressed {key}"),
        Happening::HeardKey { key } => format!("the other side pressed {key}"),
        Happening::Refused { status, reason } => format!("{status} {reason}"),
        Happening::HungUp { by: Side::Us } => "hung up".to_owned(),
        Happening::HungUp { by: Side::Peer } => "the other side hung up".to_owned(),
    }
}

fn summary(report: &Report) -> String {
    let percent = report.lost as f64 * 100.0 / (report.received + report.lost).max(1) as f64;
    format!(
        "Answered for {:.1} s, {:.1} s of sound heard; {} packets sent, {} received, {} lost \
         ({percent:.1} %).",
        report.talked.as_secs_f64(),
        report.heard.as_secs_f64(),
        report.sent,
        report.received,
        report.lost,
    )
}

/// The address of ours that packets to `to` leave from, with a free port.
fn facing(to: SocketAddr) -> std::io::Result<SocketAddr> {
    let any = match to.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let probe = UdpSocket::bind((any, 0))?;
    probe.connect(to)?;
    Ok(SocketAddr::new(probe.local_addr()?.ip(), 0))
}

fn span(text: &str) -> Result<Duration, String> {
    span_from_text(text).ok_or_else(|| "write for example 10s, 500ms or 2m".to_owned())
}

fn tone(text: &str) -> Result<f32, String> {
    let hz: f32 = text.parse().map_err(|_| "a number of hertz is wanted".to_owned())?;
    (20.0..=20_000.0).contains(&hz).then_some(hz).ok_or_else(|| "20 to 20000 Hz".to_owned())
}

fn codec(text: &str) -> Result<Codec, String> {
    let known = Codec::ALL.into_iter().find(|c| c.name().eq_ignore_ascii_case(text));
    known.ok_or_else(|| "pcmu, pcma, g722 and opus are known".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        call: Arguments,
    }

    #[test]
    fn a_whole_command_line_parses() {
        let alone = Alone::try_parse_from([
            "call",
            "sip:100@127.0.0.1:5060",
            "--press",
            "1@4s",
            "--press",
            "*@6s",
            "--for",
            "10s",
            "--hear",
            "out.wav",
            "--codec",
            "G722",
            "--codec",
            "pcmu",
            "--from",
            "+4930123",
        ]);
        let call = alone.map(|a| a.call).unwrap();
        assert_eq!(call.press.len(), 2);
        assert_eq!(call.lasts, Some(Duration::from_secs(10)));
        assert_eq!(call.codec, [Codec::G722, Codec::Pcmu]);
    }

    #[test]
    fn a_wrong_argument_is_told_how_to_be_right() {
        for (arguments, remedy) in [
            (["call", "nonsense", "--for", "1s"], "sip:100@127.0.0.1:5060"),
            (["call", "a@b", "--for", "soon"], "10s, 500ms or 2m"),
            (["call", "a@b", "--press", "1"], "1@4s"),
            (["call", "a@b", "--codec", "g729"], "pcmu, pcma, g722 and opus"),
        ] {
            let Err(problem) = Alone::try_parse_from(arguments) else { panic!("{arguments:?}") };
            assert!(problem.to_string().contains(remedy), "{problem}");
        }
    }

    #[test]
    fn loopback_is_faced_from_loopback() {
        let to = "127.0.0.1:5060".parse().unwrap();
        assert_eq!(facing(to).map(|a| a.ip().is_loopback()).ok(), Some(true));
    }
}
