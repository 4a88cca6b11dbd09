//! What a notice said: the prompt that evidence names, if it is still here, and its words.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::Config;
use crate::ids::Digest;
use crate::media::PromptBook;

/// The words of the prompts that come with the program, by locale and name.
const TEXTS: &str = include_str!("../../prompts/texts.json");

/// The prompts that calls hear now, to compare with those that evidence names.
pub(super) struct Spoken {
    book: Option<PromptBook>,
    texts: BTreeMap<String, BTreeMap<String, String>>,
}

/// A prompt that evidence names, as it is found now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The very same file, one that comes with the program: these are its words.
    Words(String),
    /// The very same file, of the administrator's own.
    Own,
    /// Another file has its name and locale, or none has.
    Gone,
}

impl Spoken {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            book: PromptBook::load(config.prompts.as_deref(), &[]).ok(),
            texts: serde_json::from_str(TEXTS).unwrap_or_default(),
        }
    }

    /// Looks for the prompt of a notice by its digest: a file counts, whatever its name is now.
    pub(super) fn find(&self, notice: &Value) -> Found {
        let text = |name: &str| notice.get(name).and_then(Value::as_str).unwrap_or_default();
        let Ok(wanted) = text("sha256").parse::<Digest>() else { return Found::Gone };
        let (name, locale) = (text("prompt"), text("locale"));
        if builtin(wanted, name, locale)
            && let Some(words) = self.texts.get(locale).and_then(|texts| texts.get(name))
        {
            return Found::Words(words.clone());
        }
        let here = self.book.as_ref().and_then(|book| book.find(name, locale).ok());
        match here {
            Some(facts) if facts.sha256 == wanted => Found::Own,
            _ => Found::Gone,
        }
    }

    /// The same as a verdict. What is gone is not wrong: prompts may be replaced.
    pub(super) fn verdict(&self, notice: &Value) -> String {
        let text = |name: &str| notice.get(name).and_then(Value::as_str).unwrap_or("-");
        let which = format!("{} in {}", text("prompt"), text("locale"));
        match self.find(notice) {
            Found::Words(_) => format!("{which} is the one that comes with this program"),
            Found::Own => format!("{which} is the file that is still in the prompts' folder"),
            Found::Gone => format!(
                "{which} is no longer here as it was played (SHA-256 {}): look for the file in a \
                 backup of the prompts' folder",
                text("sha256")
            ),
        }
    }
}

fn builtin(wanted: Digest, name: &str, locale: &str) -> bool {
    PromptBook::builtin(name, locale).is_some_and(|file| Digest::of(file) == wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_prompt_is_known_by_its_digest_alone() {
        let spoken = Spoken::of(&Config::default());
        let file = PromptBook::builtin("notice-opt-in", "de-DE").unwrap();
        let mut notice = json!({
            "prompt": "notice-opt-in", "locale": "de-DE", "sha256": Digest::of(file),
        });
        let Found::Words(words) = spoken.find(&notice) else { panic!("it is here") };
        assert!(!words.is_empty());
        notice["sha256"] = json!(Digest::of(b"another"));
        assert_eq!(spoken.find(&notice), Found::Gone);
        assert!(spoken.verdict(&notice).contains("no longer here"));
        notice["sha256"] = json!("nonsense");
        assert_eq!(spoken.find(&notice), Found::Gone);
    }
}
