//! The prompts that come with the program, inside the program.

macro_rules! files {
    ($($locale:literal: [$($name:literal),* $(,)?],)*) => {
        /// Locale, name and WAV file of every prompt of the `prompts` folder.
        pub(super) static BUILTIN: &[(&str, &str, &[u8])] = &[$($((
            $locale,
            $name,
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"), "/prompts/", $locale, "/", $name, ".wav"
            )),
        ),)*)*];
    };
}

files! {
    "de-DE": [
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
    ],
    "en-US": [
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
    ],
    "es-ES": [
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
    ],
    "fr-FR": [
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
    ],
    "it-IT": [
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
    ],
}

/// What calls say beside the notices that policies name.
pub(super) const SAID: [&str; 9] = [
    "accepted",
    "declined",
    "paused",
    "refused-goodbye",
    "reprompt",
    "resumed",
    "stopped",
    "unavailable",
    "withdrawn",
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn every_locale_has_every_prompt_and_the_text_of_each() {
        let texts: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(include_str!(
            concat!(env!("CARGO_MANIFEST_DIR"), "/prompts/texts.json")
        ))
        .unwrap();
        let locales: BTreeSet<_> = BUILTIN.iter().map(|(locale, ..)| *locale).collect();
        assert_eq!(locales, texts.keys().map(String::as_str).collect());
        assert_eq!(locales.len(), 5);
        for (locale, texts) in &texts {
            let spoken = |name: &str| BUILTIN.iter().any(|(l, n, _)| l == locale && *n == name);
            for name in SAID.into_iter().chain(["notice-opt-in", "notice-no-objection"]) {
                assert!(spoken(name) && texts.contains_key(name), "{locale}: {name}");
            }
            assert_eq!(texts.len(), SAID.len() + 2, "{locale}");
        }
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_program() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("prompts");
        let mut files = 0;
        for locale in std::fs::read_dir(folder).unwrap().flatten() {
            let Ok(prompts) = std::fs::read_dir(locale.path()) else { continue };
            for file in prompts.flatten().filter(|f| f.path().extension() == Some("wav".as_ref())) {
                files += 1;
                let held = BUILTIN.iter().any(|(l, name, _)| {
                    locale.file_name() == *l && file.path().file_stem() == Some(name.as_ref())
                });
                assert!(held, "{} is not built in", file.path().display());
            }
        }
        assert_eq!(files, BUILTIN.len());
    }
}
