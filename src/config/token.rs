//! `[policy.token]`: whose tokens count under a policy with `gate = "token"`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use zeroize::Zeroizing;

use crate::config::address;
use crate::config::document::Section;
use crate::config::matching::header_name;
use crate::config::problem::Wrong;
use crate::config::settings::Secret;
use crate::consent::policy::Gate;
use crate::consent::token::{MIN_HMAC_KEY_BYTES, TokenKey, TokenRule, decode_key};
use crate::network::Network;

const SECOND: Duration = Duration::from_secs(1);

/// Whose tokens count under a policy, as the configuration says it: keys in files are not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSource {
    /// The header that holds the tokens.
    pub header: String,
    /// Who may send them. Never empty.
    pub peers: Vec<Network>,
    /// How old a token may be.
    pub max_age: Duration,
    /// The keys, by their identifiers. Never empty.
    pub keys: BTreeMap<String, KeySource>,
}

/// Where a key for tokens comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A shared key in the configuration itself, in hex or base64.
    Hmac(Secret),
    /// A file with such a key: mode 0600.
    HmacFile(PathBuf),
    /// The public half of a key that the PBX alone has.
    Ed25519([u8; 32]),
}

/// A file that does not hold a key.
#[derive(Debug, thiserror::Error)]
pub enum BadKeyFile<E> {
    /// It cannot be read, or may be read by others.
    #[error(transparent)]
    Unreadable(E),
    /// It holds something else.
    #[error(
        "{} does not hold a key for tokens: write {MIN_HMAC_KEY_BYTES} random bytes or more into \
         it, in hex or base64, such as `openssl rand -hex 32` prints",
        path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
}

impl TokenSource {
    /// The rule with its keys; `read` reads a file.
    ///
    /// # Errors
    ///
    /// When a key's file cannot be read, or holds no key.
    pub fn rule<E>(
        &self,
        read: impl Fn(&Path) -> Result<Zeroizing<Vec<u8>>, E>,
    ) -> Result<TokenRule, BadKeyFile<E>> {
        let mut keys = BTreeMap::new();
        for (id, source) in &self.keys {
            let no_key = |path: &Path| BadKeyFile::NoKey { path: path.to_owned() };
            let key = match source {
                KeySource::Hmac(secret) => {
                    hmac_key(secret.expose()).ok_or_else(|| no_key(Path::new("hmac")))?
                }
                KeySource::HmacFile(path) => {
                    let bytes = read(path).map_err(BadKeyFile::Unreadable)?;
                    let text = std::str::from_utf8(&bytes).map_err(|_| no_key(path))?;
                    hmac_key(text.trim()).ok_or_else(|| no_key(path))?
                }
                KeySource::Ed25519(bytes) => VerifyingKey::from_bytes(bytes)
                    .map(|key| TokenKey::Ed25519(Box::new(key)))
                    .map_err(|_| no_key(Path::new("ed25519")))?,
            };
            keys.insert(id.clone(), key);
        }
        let (header, peers) = (self.header.clone(), self.peers.clone());
        Ok(TokenRule { header, peers, max_age: self.max_age, keys })
    }

    /// Whether a shared key stands in the configuration itself.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.keys.values().any(|source| matches!(source, KeySource::Hmac(_)))
    }
}

fn hmac_key(text: &str) -> Option<TokenKey> {
    let key = Zeroizing::new(decode_key(text)?);
    (key.len() >= MIN_HMAC_KEY_BYTES).then_some(TokenKey::Hmac(key))
}

/// Reads `[policy.token]`: needed with the gate `token`, and refused without it.
pub(super) fn read(mut section: Section<'_>, gate: Gate) -> Option<TokenSource> {
    let said = !section.is_empty();
    if gate != Gate::Token {
        if said {
            section.report(
                "",
                Wrong::new(
                    "has a meaning with gate = \"token\" alone",
                    "remove the table, or write gate = \"token\"",
                ),
            );
        }
        // So that the reference of the configuration can show the keys.
        for key in ["header", "peers", "max_age", "keys"] {
            section.field(key);
        }
        return None;
    }
    let header = section
        .field("header")
        .read("User-to-User".to_owned(), |text| header_name(text).map(str::to_owned));
    let field = section.field("peers");
    let peers = field.each(address::network).unwrap_or_default();
    if field.texts().is_none_or(|texts| texts.is_empty()) {
        field.report(Wrong::new(
            "names nobody, and a token counts only from a peer that is trusted to state consent",
            "write [policy.token] peers = [\"10.0.0.5\"], the addresses of your PBX",
        ));
    }
    let max_age = section.field("max_age").span(300 * SECOND, SECOND, 86_400 * SECOND);
    let keys = read_keys(&mut section);
    section.finish();
    (!keys.is_empty()).then_some(TokenSource { header, peers, max_age, keys })
}

fn read_keys(section: &mut Section<'_>) -> BTreeMap<String, KeySource> {
    let mut keys = BTreeMap::new();
    let sections = section.sections("keys").unwrap_or_default();
    if sections.is_empty() {
        section.report(
            "keys",
            Wrong::new(
                "names no key, and a token that nobody can check proves nothing",
                "write keys = [{ id = \"pbx-1\", hmac_file = \"/etc/assent/pbx-1.key\" }], or \
                 ed25519 = \"the public key\" in place of hmac_file",
            ),
        );
    }
    for mut key in sections {
        if let Some((id, source)) = read_key(&mut key)
            && keys.insert(id.clone(), source).is_some()
        {
            key.report("id", Wrong::new(format!("{id:?} is there twice"), "give each key its own"));
        }
        key.finish();
    }
    keys
}

fn read_key(section: &mut Section<'_>) -> Option<(String, KeySource)> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let field = section.field("id");
    if !field.is_set() {
        field.report(Wrong::new("is missing", "name the key as the tokens do, such as \"pbx-1\""));
    }
    let id =
        field.optional(|text| match (1..=64).contains(&text.len()) && text.bytes().all(fits) {
            true => Ok(text.to_owned()),
            false => Err(Wrong::new(
                format!("{text:?} is not the name of a key"),
                "write up to 64 letters, digits, -, _ and .",
            )),
        });
    let (hmac, file, ed25519) =
        (section.field("hmac"), section.field("hmac_file"), section.field("ed25519"));
    let given = [&hmac, &file, &ed25519].iter().filter(|field| field.is_set()).count();
    if given != 1 {
        section.report(
            "",
            Wrong::new(
                "needs exactly one of hmac, hmac_file and ed25519",
                "write { id = \"pbx-1\", hmac_file = \"/etc/assent/pbx-1.key\" }",
            ),
        );
        return None;
    }
    // What is wrong with a secret is said without it.
    let hmac = hmac.optional(|text| match hmac_key(text) {
        Some(_) => Ok(KeySource::Hmac(Secret::new(text.to_owned()))),
        None => Err(Wrong::new(
            "is not a key",
            format!(
                "write {MIN_HMAC_KEY_BYTES} random bytes or more in hex or base64, such as \
                 `openssl rand -hex 32` prints"
            ),
        )),
    });
    let ed25519 = ed25519.optional(|text| {
        let bytes = decode_key(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let usable =
            |bytes: &[u8; 32]| VerifyingKey::from_bytes(bytes).is_ok_and(|key| !key.is_weak());
        bytes.filter(usable).map(KeySource::Ed25519).ok_or_else(|| {
            Wrong::new("is not an Ed25519 public key", "write its 32 bytes in hex or base64")
        })
    });
    let source = hmac.or_else(|| file.path().map(KeySource::HmacFile)).or(ed25519);
    Some((id?, source?))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::config::{Config, parse};

    const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn policy(token: &str) -> Result<Config, String> {
        let text = format!(
            "[[policy]]\nname = \"default\"\npurposes = [\"q\"]\ncontroller = \"A\"\n\
             retention = \"1d\"\ngate = \"token\"\nstanding = {{ callee = \"a\" }}\n{token}"
        );
        parse(&text, "t").map(|(config, _)| config).map_err(|problems| problems.to_string())
    }

    fn with_key(key: &str) -> Result<Config, String> {
        policy(&format!("[policy.token]\npeers = [\"10.0.0.5\"]\nkeys = [{key}]\n"))
    }

    fn refused(said: Result<Config, String>) -> String {
        let said = said.unwrap_err();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains(&SECRET[..16]), "{said}");
        said
    }

    #[test]
    fn a_token_has_a_header_peers_an_age_and_keys() {
        let config = with_key(&format!(
            "{{ id = \"a\", hmac = \"{SECRET}\" }}, {{ id = \"b\", hmac_file = \"b.key\" }}, \
             {{ id = \"c\", ed25519 = \"{PUBLIC}\" }}"
        ))
        .unwrap();
        let source = &config.tokens["default"];
        assert_eq!((source.header.as_str(), source.max_age.as_secs()), ("User-to-User", 300));
        assert_eq!(source.peers, ["10.0.0.5".parse().unwrap()]);
        assert_eq!(source.keys.len(), 3);
        assert!(source.is_secret());
        assert_eq!(config.policies["default"].fallback, Gate::OptIn);
    }

    #[test]
    fn a_token_without_keys_or_peers_is_refused() {
        let said = policy("").unwrap_err();
        assert!(said.contains("policy.default.token.peers: names nobody"), "{said}");
        assert!(said.contains("policy.default.token.keys: names no key"), "{said}");
        let said = refused(policy("[policy.token]\npeers = [\"10.0.0.5\"]\n"));
        assert!(said.contains("names no key"), "{said}");
        let said = refused(policy(&format!(
            "[policy.token]\nkeys = [{{ id = \"a\", ed25519 = \"{PUBLIC}\" }}]\n"
        )));
        assert!(said.contains("trusted to state consent"), "{said}");
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_being_shown() {
        for (key, why) in [
            ("{ id = \"a\" }", "exactly one"),
            (&*format!("{{ id = \"a\", hmac = \"{SECRET}\", hmac_file = \"x\" }}"), "exactly one"),
            (&*format!("{{ id = \"a\", hmac = \"{}\" }}", &SECRET[..60]), "is not a key"),
            ("{ id = \"a\", ed25519 = \"00\" }", "not an Ed25519 public key"),
            (&*format!("{{ id = \"a\", ed25519 = \"{}\" }}", "0".repeat(64)), "not an Ed25519"),
            (&*format!("{{ id = \"a b\", ed25519 = \"{PUBLIC}\" }}"), "not the name of a key"),
            (&*format!("{{ ed25519 = \"{PUBLIC}\" }}"), "is missing"),
            (&*format!("{{ id = \"a\", ed25519 = \"{PUBLIC}\", more = 1 }}"), "not a key that"),
        ] {
            let said = policy(&format!("[policy.token]\npeers = [\"::1\"]\nkeys = [{key}]\n"));
            let said = said.unwrap_err();
            assert!(said.lines().any(|line| line.contains(why)), "{key}: {said}");
            assert!(!said.contains(&SECRET[..16]), "{said}");
        }
        let twice = format!("{{ id = \"a\", ed25519 = \"{PUBLIC}\" }}");
        assert!(refused(with_key(&format!("{twice}, {twice}"))).contains("there twice"));
    }

    #[test]
    fn a_secret_does_not_print() {
        let config = with_key(&format!("{{ id = \"a\", hmac = \"{SECRET}\" }}")).unwrap();
        let printed = format!("{config:?}");
        assert!(!printed.contains(&SECRET[..16]), "{printed}");
        let rule = config.tokens["default"].rule(|_| Err::<_, io::Error>(io::Error::other("x")));
        assert!(!format!("{rule:?}").contains("0, 1, 2, 3"), "{rule:?}");
    }

    #[test]
    fn a_configuration_with_a_shared_key_is_not_open_to_all() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        let text = format!(
            "[[policy]]\nname = \"default\"\npurposes = [\"q\"]\ncontroller = \"A\"\n\
             retention = \"1d\"\ngate = \"token\"\nstanding = {{ callee = \"a\" }}\n\
             [policy.token]\npeers = [\"::1\"]\nkeys = [{{ id = \"a\", hmac = \"{SECRET}\" }}]\n"
        );
        std::fs::write(&path, text).unwrap();
        let load = |mode: u32| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            crate::config::load(crate::config::Source::File(path.clone()))
        };
        let said = load(0o644).unwrap_err().to_string();
        assert!(said.contains("open to all (mode 0644)") && said.contains("chmod 640"), "{said}");
        assert!(load(0o640).is_ok() && load(0o600).is_ok());
    }

    #[test]
    fn a_key_in_a_file_is_read_and_must_be_one() {
        let config = with_key("{ id = \"a\", hmac_file = \"a.key\" }").unwrap();
        let source = &config.tokens["default"];
        let holding = |text: &str| {
            let bytes = text.as_bytes().to_vec();
            source.rule(move |_| Ok::<_, io::Error>(Zeroizing::new(bytes.clone())))
        };
        assert!(holding(&format!("{SECRET}\n")).is_ok());
        for bad in ["", "short", "00ff"] {
            let said = holding(bad).unwrap_err().to_string();
            assert!(said.contains("a.key") && said.contains("openssl rand -hex 32"), "{said}");
        }
    }

    #[test]
    fn tokens_belong_to_their_gate() {
        let text = "[[policy]]\nname = \"default\"\npurposes = [\"q\"]\ncontroller = \"A\"\n\
                    retention = \"1d\"\nstanding = { callee = \"a\" }\n";
        for more in ["fallback = \"opt-in\"\n", "[policy.token]\nheader = \"X-Y\"\n"] {
            let said = parse(&format!("{text}{more}"), "t").unwrap_err().to_string();
            assert!(said.contains("with gate = \"token\" alone"), "{said}");
        }
    }
}
