//! What the demonstration is made of: the configuration, the parties, what they say.

use std::net::SocketAddr;
use std::path::Path;

use crate::cli::failure::Failure;
use crate::config::{self, Config};
use crate::phone::Sound;

/// Who calls.
pub(super) const CALLER: &str = "+4930901820";
/// Who is called.
pub(super) const CALLEE: &str = "100";
/// What the caller says until the permission is given, Hz: no note of either melody.
pub(super) const BEFORE_HZ: f64 = 300.0;
/// A note that only the caller sings, Hz.
pub(super) const CALLER_HZ: f64 = 880.0;
/// A note that only the callee sings, Hz.
pub(super) const CALLEE_HZ: f64 = 523.25;

const TEXTS: &str = include_str!("../../../prompts/texts.json");

/// What the caller says while being asked.
pub(super) fn before_permission() -> Sound {
    Sound::Tone { hz: BEFORE_HZ as f32 }
}

/// A high melody.
pub(super) fn caller_says() -> Sound {
    Sound::melody(&[(880.0, 400), (1108.73, 400), (1318.51, 600), (0.0, 300)])
}

/// A low one.
pub(super) fn callee_says() -> Sound {
    Sound::melody(&[(523.25, 400), (659.26, 400), (392.0, 600), (0.0, 300)])
}

/// The text of a prompt in a locale.
pub(super) fn prompt_text(locale: &str, prompt: &str) -> String {
    let texts: serde_json::Value = serde_json::from_str(TEXTS).unwrap_or_default();
    texts[locale][prompt].as_str().unwrap_or_default().to_owned()
}

/// A locale that there are prompts for.
pub(super) fn locale(text: &str) -> Result<String, String> {
    if prompt_text(text, "notice-opt-in").is_empty() {
        return Err("there are prompts in en-US, de-DE, fr-FR, it-IT and es-ES".to_owned());
    }
    Ok(text.to_owned())
}

/// Writes the configuration into the folder, and parses it as the agent would.
pub(super) fn write(folder: &Path, callee: SocketAddr, locale: &str) -> Result<Config, Failure> {
    let text = text(folder, callee, locale);
    let path = folder.join("assent.toml");
    std::fs::write(&path, &text)?;
    let (config, _) = config::parse(&text, &path.display().to_string())?;
    Ok(config)
}

fn text(folder: &Path, callee: SocketAddr, locale: &str) -> String {
    let path = |name: &str| toml::Value::from(folder.join(name).display().to_string());
    let (data, keys) = (path("data"), path("data/keys"));
    let recordings = format!("file:{}", folder.join("data/recordings").display());
    let recordings = toml::Value::from(recordings);
    format!(
        "# The configuration of a demonstration.
data = {data}

[sip]
listen = [\"udp:127.0.0.1:0\"]
advertise = \"127.0.0.1\"

[media]
ports = \"9000-9998\"

[keys]
path = {keys}

[storage]
url = {recordings}

[http]
listen = \"off\"

[[route]]
match = {{ to = \"*\" }}
mode = \"inline\"
next_hop = \"sip:{callee}\"
policy = \"demo\"

[[policy]]
name = \"demo\"
basis = \"consent\"
purposes = [\"quality\", \"training\"]
controller = \"Demonstration Ltd\"
gate = \"opt-in\"
ask = [\"caller\"]
standing = {{ callee = \"employee-agreement-2026\" }}
notice = \"notice-opt-in\"
locale = \"{locale}\"
accept = \"1\"
refuse = \"2\"
withdraw = \"*9\"
on_withdrawal = \"erase\"
answer_within = \"8s\"
retention = \"90d\"
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_the_demonstration_is_valid() {
        for name in ["en-US", "de-DE", "fr-FR", "it-IT", "es-ES"] {
            let text = text(Path::new("/tmp/a \"b\\"), "127.0.0.1:5070".parse().unwrap(), name);
            let parsed = config::parse(&text, "demo");
            assert!(parsed.is_ok(), "{}", parsed.err().map(|p| p.to_string()).unwrap_or_default());
            assert!(locale(name).is_ok());
            for prompt in ["accepted", "withdrawn", "stopped"] {
                assert!(!prompt_text(name, prompt).is_empty(), "{name}: {prompt}");
            }
        }
        assert!(locale("xx-XX").is_err());
    }
}
