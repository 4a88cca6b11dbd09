//! `assent check`: the configuration, and what it needs of this machine.

mod call;
mod machine;
mod values;

pub(super) use values::peer;

use serde::Serialize;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::Output;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  assent check                           the configuration, folders, ports and prompts
  assent check --call from=+4930123456,to=200
  assent check --call from=100,to=+43,peer=10.0.0.7,direction=outbound,header.X-Queue=sales")]
pub(super) struct Arguments {
    /// Say what happens to such a call, under which policy, and where each value comes from
    #[arg(long, value_name = "from=…,to=…[,peer=…,direction=…,header.NAME=…]")]
    call: Option<String>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// What: a key of the configuration, mostly.
    what: String,
    verdict: Verdict,
    /// What was found; the remedy, where something is wrong.
    said: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// It works, and somebody should look at it.
    Note,
    /// The agent would not start, or not do its work.
    Wrong,
}

impl Finding {
    fn ok(what: impl Into<String>, said: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Ok, said: said.into() }
    }
    fn note(what: impl Into<String>, said: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Note, said: said.into() }
    }
    fn wrong(what: impl Into<String>, said: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Wrong, said: said.into() }
    }
}

pub(super) fn run(
    arguments: &Arguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let loaded = context.loaded()?;
    if let Some(text) = &arguments.call {
        return call::run(text, &loaded, output);
    }
    let mut findings = vec![Finding::ok("configuration", loaded.source.to_string())];
    findings.extend(machine::look(&loaded.config));
    for finding in &findings {
        if output.is_json() {
            output.value(finding)?;
            continue;
        }
        let verdict = match finding.verdict {
            Verdict::Ok => "ok   ",
            Verdict::Note => "note ",
            Verdict::Wrong => "WRONG",
        };
        output.line(format!("{verdict}  {}: {}", finding.what, finding.said))?;
    }
    match findings.iter().filter(|finding| finding.verdict == Verdict::Wrong).count() {
        0 => Ok(()),
        1 => Err(Failure::Found("one thing is wrong".to_owned())),
        n => Err(Failure::Found(format!("{n} things are wrong"))),
    }
}
