//! Where the configuration is found, and how a text becomes one.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::config::document::{Document, Section};
use crate::config::problem::{Problem, Problems, Wrong};
use crate::config::token::TokenSource;
use crate::config::{Config, policy, route_table, sections, signalling};
use crate::ids::Token;

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// The defaults.
    BuiltIn,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::BuiltIn => f.write_str("built-in configuration"),
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the file.
    File {
        /// At this line, from 1.
        line: usize,
    },
    /// From nowhere: it is the default.
    Default,
}

/// Where each value of a configuration comes from, by its dotted key. Keys of a policy read
/// `policy.<name>.<key>`, those of a route `route[<number>].<key>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(pub BTreeMap<String, Origin>);

impl Origins {
    /// Where the value of this key comes from.
    #[must_use]
    pub fn of(&self, key: &str) -> Origin {
        self.0.get(key).copied().unwrap_or(Origin::Default)
    }
}

/// A configuration with its provenance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where it was found.
    pub source: Source,
    /// Where each value came from.
    pub origins: Origins,
}

/// `--config`, else `$ASSENT_CONFIG`, else `/etc/assent/assent.toml`, else the defaults. The
/// first two are meant, so they are read even if they do not exist; the third only if it does.
#[must_use]
pub fn locate(flag: Option<&Path>, environment: Option<&Path>) -> Source {
    let system = Path::new("/etc/assent/assent.toml");
    match flag.or(environment.filter(|path| !path.as_os_str().is_empty())) {
        Some(path) => Source::File(path.to_owned()),
        None if system.exists() => Source::File(system.to_owned()),
        None => Source::BuiltIn,
    }
}

/// Reads and parses a configuration.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn load(source: Source) -> Result<Loaded, Problems> {
    let text = match &source {
        Source::BuiltIn => String::new(),
        Source::File(path) => std::fs::read_to_string(path).map_err(|error| {
            Problems(vec![Problem {
                file: path.display().to_string(),
                at: None,
                key: String::new(),
                what: format!("cannot be read: {error}"),
                remedy: "name a readable file with --config or ASSENT_CONFIG".to_owned(),
            }])
        })?,
    };
    let (config, origins) = parse(&text, &source.to_string())?;
    if let Source::File(path) = &source
        && config.tokens.values().any(TokenSource::is_secret)
    {
        refuse_open(path)?;
    }
    Ok(Loaded { config, source, origins })
}

/// Refuses a file that holds a shared key and that everybody may read.
fn refuse_open(path: &Path) -> Result<(), Problems> {
    let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode() & 0o7777);
    if mode & 0o007 == 0 {
        return Ok(());
    }
    let shown = path.display();
    Err(Problems(vec![Problem {
        file: shown.to_string(),
        at: None,
        key: "policy.token.keys".to_owned(),
        what: format!("a shared key (hmac) stands in a file that is open to all (mode {mode:04o})"),
        remedy: format!("run `chmod 640 {shown}`, or write hmac_file in place of hmac"),
    }]))
}

/// Parses a configuration. `name` is what problems call the file.
///
/// # Errors
///
/// Everything that is wrong with it, in the order of the text.
pub fn parse(text: &str, name: &str) -> Result<(Config, Origins), Problems> {
    let doc = Document::new(name, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            let wrong = Wrong::new(
                format!("is not TOML here: {message}"),
                "see https://toml.io and config/assent.toml",
            );
            doc.report(error.span(), "", wrong);
        }
        return Err(Problems(doc.finish().0));
    }
    let config = {
        let mut top = Section::root(&doc, table.get_ref());
        let config = read(&mut top);
        top.finish();
        config
    };
    let (problems, origins) = doc.finish();
    if problems.is_empty() { Ok((config, origins)) } else { Err(Problems(problems)) }
}

/// The configuration of an empty file. A test proves that it has no problem, so the fallback
/// below is never taken.
pub(super) fn built_in() -> Config {
    let table = DeTable::new();
    let doc = Document::new("built-in configuration", "");
    read(&mut Section::root(&doc, &table))
}

fn read(top: &mut Section<'_>) -> Config {
    let token = |text: &str| {
        text.parse::<Token>()
            .map_err(|error| Wrong::new(error.to_string(), "write one word, such as \"default\""))
    };
    let data = top.field("data").path().unwrap_or_else(|| PathBuf::from("./assent-data"));
    let policies = policy::read_all(top);
    Config {
        tenant: top.field("tenant").read(fixed_token("default"), token),
        node: top.field("node").read(host_token(), token),
        prompts: top.field("prompts").path(),
        sip: signalling::sip(top.section("sip")),
        media: sections::media(top.section("media")),
        keys: sections::keys(top.section("keys"), &data),
        storage: sections::storage(top.section("storage"), &data),
        nats: sections::nats(top.section("nats")),
        http: sections::http(top.section("http")),
        shutdown: sections::shutdown(top.section("shutdown")),
        routes: route_table::read_all(top, &policies),
        policies: policies.by_name,
        matching: policies.matching,
        tokens: policies.tokens,
        data,
    }
}

/// This machine's name as a token, `assent` where it has none.
fn host_token() -> Token {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let short = name.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    let fits: String = short
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .take(64)
        .collect();
    fits.parse().unwrap_or_else(|_| fixed_token("assent"))
}

#[allow(clippy::expect_used)]
fn fixed_token(word: &'static str) -> Token {
    // Only called with words of lower-case letters.
    word.parse().expect("a word of lower-case letters is a token")
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = include_str!("../../config/assent.toml");

    /// The reference with every key that it shows in a comment switched on.
    fn with_comments_on() -> String {
        let is_key = |line: &str| {
            let word = line.split('=').next().unwrap_or_default();
            line.contains(" = ") && word.trim().bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        let switch = |line: &str| match line.strip_prefix("# ") {
            Some(rest) if is_key(rest) || rest.starts_with('[') => rest.to_owned(),
            _ => line.to_owned(),
        };
        REFERENCE.lines().map(switch).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_defaults_have_no_problem() {
        let (config, origins) = parse("", "empty").unwrap();
        assert_eq!(config, Config::default());
        assert!(origins.0.values().all(|origin| *origin == Origin::Default));
    }

    #[test]
    fn the_reference_file_equals_the_defaults() {
        let (config, _) = parse(REFERENCE, "assent.toml").unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn every_key_stands_in_the_reference_file() {
        let text = with_comments_on();
        // More than one way to log in is one thing that the reference cannot show at once; what
        // belongs to another gate, to another refusal or to a TLS listener, is the other.
        let Problems(problems) = parse(&text, "assent.toml").unwrap_err();
        assert!(
            problems.iter().all(|p| p.what.contains("more than one way")
                || p.key == "http.password"
                || p.key == "sip.tls.client_ca"
                || p.what.contains("with gate = \"token\" alone")
                || p.what.contains("what this policy does not do")),
            "{problems:?}"
        );
        let doc = Document::new("", "");
        let table = DeTable::new();
        read(&mut Section::root(&doc, &table));
        let (_, Origins(known)) = doc.finish();
        let shown = Document::new("", &text);
        let table = DeTable::parse(&text).unwrap();
        read(&mut Section::root(&shown, table.get_ref()));
        let (_, shown) = shown.finish();
        for key in known.keys() {
            let origin = shown.of(key);
            assert!(
                matches!(origin, Origin::File { .. }),
                "{key} is missing in config/assent.toml"
            );
        }
    }

    #[test]
    fn folders_follow_the_data_folder() {
        let (config, _) = parse("data = \"/srv/assent\"", "t").unwrap();
        assert_eq!(config.keys.path, Path::new("/srv/assent/keys"));
        assert_eq!(config.storage.recordings, Path::new("/srv/assent/recordings"));
        assert_eq!(config.control_socket(), Path::new("/srv/assent/control.sock"));
    }

    #[test]
    fn every_problem_is_reported_in_the_order_of_the_file() {
        let text =
            "tenat = \"x\"\n[sip]\nlisten = [\"upd:1.2.3.4:5060\", 7]\n[media]\nports = \"9-1\"\n";
        let Problems(problems) = parse(text, "a.toml").unwrap_err();
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert_eq!(
            lines[0],
            "a.toml:1:1: tenat: is not a key that Assent knows; did you mean \"tenant\"?"
        );
        assert!(lines[1].starts_with("a.toml:3:11: sip.listen: \"upd\""), "{}", lines[1]);
        assert!(lines[2].starts_with("a.toml:3:31: sip.listen: holds a number"), "{}", lines[2]);
        assert!(lines[3].starts_with("a.toml:5:9: media.ports: \"9-1\""), "{}", lines[3]);
    }

    #[test]
    fn a_text_that_is_not_toml_is_refused_in_one_line_each() {
        let Problems(problems) = parse("data = \n[sip", "a.toml").unwrap_err();
        assert!(!problems.is_empty());
        for problem in problems {
            assert!(problem.at.is_some() && !problem.to_string().contains('\n'), "{problem}");
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic() {
        let reference = with_comments_on();
        for cut in (0..reference.len()).step_by(7) {
            if let Some(text) = reference.get(..cut) {
                let _ = parse(text, "t");
            }
        }
    }
}
