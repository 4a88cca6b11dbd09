//! The prompts: found by name and locale, encoded once for a codec, shared by all calls.
//!
//! Start reads headers and digests alone. A thread of its own encodes: first what the policies
//! name ([`PromptBook::warm`]), and anything else when a call first asks for it. So start is not
//! held up by seconds of encoding that most agents never need, and no media thread ever encodes:
//! a prompt that is not ready yet begins a few milliseconds later.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};

use super::builtin::{BUILTIN, SAID};
use super::tone::{self, BEEP, CADENCES, Cadence, WAITING};
use super::wav::{self, Frames};
use crate::ids::Digest;
use crate::rtp::Codec;

/// The locale that every prompt falls back to.
const LAST_RESORT: &str = "en-US";

/// No prompt is longer: a file that is was not meant as one.
const LONGEST_MS: u64 = 5 * 60 * 1000;

/// Every prompt there is. Cheap to clone.
#[derive(Clone)]
pub struct PromptBook {
    book: Arc<Book>,
}

struct Book {
    /// By name, then by locale.
    prompts: BTreeMap<String, BTreeMap<String, Arc<Clip>>>,
    /// In the order of [`CADENCES`].
    ringback: Vec<Arc<Clip>>,
    waiting: Arc<Clip>,
    beep: Arc<Clip>,
    /// At 8 kHz.
    beep_samples: Vec<i16>,
    codecs: Vec<Codec>,
    jobs: mpsc::Sender<Job>,
}

struct Job {
    clip: Arc<Clip>,
    codec: Codec,
    haste: Haste,
}

/// Who waits for an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    /// Nobody yet.
    InTime,
    /// A call that is silent until it is there.
    Awaited,
}

/// Why the prompts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// A folder or file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is no WAV file that can be used.
    #[error(
        "{} is no usable WAV file ({why}): PCM or float, 1 to 384 kHz, at most five minutes",
        path.display()
    )]
    NotWav {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such prompt in the locale, its language or English.
    #[error("there is no prompt {name}.wav for {locale}: put it at prompts/{locale}/{name}.wav")]
    Missing {
        /// The prompt that is wanted.
        name: String,
        /// The locale that is wanted.
        locale: String,
    },
    /// The thread that encodes cannot be started.
    #[error("cannot start the thread that encodes prompts: {0}")]
    Thread(std::io::Error),
}

/// What a prompt is, for policies and evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptFacts {
    /// The locale that is really played.
    pub locale: String,
    /// SHA-256 of the WAV file.
    pub sha256: Digest,
    /// Its length in milliseconds.
    pub total_ms: u64,
}

/// A sound with its encodings.
pub(super) struct Clip {
    pub(super) name: String,
    pub(super) locale: String,
    pub(super) sha256: Digest,
    pub(super) total_ms: u64,
    /// How many frames of 20 ms it has, in any codec.
    pub(super) frame_count: usize,
    source: Source,
    encodings: [Encoding; Codec::ALL.len()],
}

enum Source {
    File(Cow<'static, [u8]>),
    Tone(Cadence),
}

#[derive(Default)]
struct Encoding {
    asked_for: AtomicBool,
    /// Whether a call has asked for it.
    awaited: AtomicBool,
    /// `None` inside when it cannot be encoded.
    frames: OnceLock<Option<Frames>>,
}

/// Whether a sound can be sent yet.
#[derive(Debug)]
pub(super) enum Readiness<'a> {
    Ready(&'a Frames),
    /// The encoding thread has been asked.
    Soon,
    Never,
}

impl PromptBook {
    /// The built-in prompts, and over them those of `folder`: `<locale>/<name>.wav`. A file there
    /// takes the place of the built-in prompt of its locale and name.
    ///
    /// # Errors
    ///
    /// [`PromptError`] names the file that cannot be used.
    pub fn load(folder: Option<&Path>, codecs: &[Codec]) -> Result<Self, PromptError> {
        let mut prompts: BTreeMap<String, BTreeMap<String, Arc<Clip>>> = BTreeMap::new();
        let mut insert = |clip: Clip| {
            let locales = prompts.entry(clip.name.clone()).or_default();
            locales.insert(clip.locale.clone(), Arc::new(clip));
        };
        for (locale, name, file) in BUILTIN {
            let path = PathBuf::from(format!("prompts/{locale}/{name}.wav"));
            insert(Clip::from_file(&path, locale, name, Cow::Borrowed(file))?);
        }
        for (path, locale, name) in folder.map(files_below).transpose()?.unwrap_or_default() {
            let file = std::fs::read(&path)
                .map_err(|source| PromptError::Unreadable { path: path.clone(), source })?;
            insert(Clip::from_file(&path, &locale, &name, Cow::Owned(file))?);
        }
        let ringback = CADENCES.iter().map(|tone| Arc::new(Clip::from_tone("ringback", *tone)));
        let ringback = ringback.collect();
        let waiting = Arc::new(Clip::from_tone("waiting", WAITING));
        let beep = Arc::new(Clip::from_tone("beep", BEEP));
        let (jobs, work) = mpsc::channel();
        std::thread::Builder::new()
            .name("prompts".to_owned())
            .spawn(move || encode_all(&work))
            .map_err(PromptError::Thread)?;
        let (codecs, beep_samples) = (codecs.to_vec(), BEEP.samples());
        let book = Book { prompts, ringback, waiting, beep, beep_samples, codecs, jobs };
        Ok(Self { book: Arc::new(book) })
    }

    /// What would be played for this name and locale: the locale's own, else one of the same
    /// language, else the English one.
    ///
    /// # Errors
    ///
    /// [`PromptError::Missing`] names the file that would be needed.
    pub fn find(&self, name: &str, locale: &str) -> Result<PromptFacts, PromptError> {
        self.prompt(name, locale).map(|clip| PromptFacts {
            locale: clip.locale.clone(),
            sha256: clip.sha256,
            total_ms: clip.total_ms,
        })
    }

    /// The WAV file of a prompt that comes with the program, whatever the prompts' folder holds.
    #[must_use]
    pub fn builtin(name: &str, locale: &str) -> Option<&'static [u8]> {
        let found = BUILTIN.iter().find(|(l, n, _)| *l == locale && *n == name);
        found.map(|(.., file)| *file)
    }

    /// Finds everything that a call with this notice may say in `locale`.
    ///
    /// # Errors
    ///
    /// [`PromptError::Missing`] names the first file that would be needed.
    pub fn check(&self, notice: &str, locale: &str) -> Result<(), PromptError> {
        SAID.iter().chain([&notice]).try_for_each(|name| self.prompt(name, locale).map(drop))
    }

    /// The locale to speak to somebody in: `wanted`, if this prompt is there in its language; else
    /// `default`. What is missing even there, is in English.
    #[must_use]
    pub fn settle(&self, name: &str, wanted: String, default: &str) -> String {
        let spoken = self.book.prompts.get(name).is_some_and(|l| of_language(l, &wanted).is_some());
        if spoken { wanted } else { default.to_owned() }
    }

    /// Every prompt that `locale` would hear, and its tones, is encoded in the background: for
    /// the locales that policies name.
    pub fn warm(&self, locale: &str) {
        let prompts = self.book.prompts.keys().filter_map(|name| self.prompt(name, locale).ok());
        let tones = self.ringback(locale).into_iter().chain([self.waiting(), self.beep()]);
        let clips: Vec<_> = prompts.chain(tones).collect();
        for codec in &self.book.codecs {
            for clip in &clips {
                self.ask(clip, *codec, Haste::InTime);
            }
        }
    }

    /// The prompt itself.
    pub(super) fn prompt(&self, name: &str, locale: &str) -> Result<&Arc<Clip>, PromptError> {
        self.book
            .prompts
            .get(name)
            .and_then(|locales| of_language(locales, locale).or_else(|| locales.get(LAST_RESORT)))
            .ok_or_else(|| PromptError::Missing {
                name: name.to_owned(),
                locale: locale.to_owned(),
            })
    }

    /// The ringback of a locale's country. There always is one.
    pub(super) fn ringback(&self, locale: &str) -> Option<&Arc<Clip>> {
        self.book.ringback.get(tone::cadence_of(locale))
    }

    /// The tone for who waits for the other party.
    pub(super) fn waiting(&self) -> &Arc<Clip> {
        &self.book.waiting
    }

    /// The tone of a recording.
    pub(super) fn beep(&self) -> &Arc<Clip> {
        &self.book.beep
    }

    /// The same as samples, mono at 8 kHz.
    pub(super) fn beep_samples(&self) -> &[i16] {
        &self.book.beep_samples
    }

    /// The frames of a sound in a codec, or when they will be there.
    pub(super) fn frames<'a>(&self, clip: &'a Arc<Clip>, codec: Codec) -> Readiness<'a> {
        match clip.encoding(codec).frames.get() {
            Some(Some(frames)) => Readiness::Ready(frames),
            Some(None) => Readiness::Never,
            None => {
                self.ask(clip, codec, Haste::Awaited);
                Readiness::Soon
            }
        }
    }

    fn ask(&self, clip: &Arc<Clip>, codec: Codec, haste: Haste) {
        let encoding = clip.encoding(codec);
        let asked = match haste {
            Haste::InTime => &encoding.asked_for,
            Haste::Awaited => &encoding.awaited,
        };
        if !asked.swap(true, Ordering::Relaxed) {
            // Fails only when the encoding thread is gone, and then the sound never gets ready.
            let _ = self.book.jobs.send(Job { clip: Arc::clone(clip), codec, haste });
        }
    }
}

/// A prompt in a locale or, where there is none, in its language: that of the country that the
/// language is named after (`de-AT` → `de-DE`), then that of no country (`de`), then the first of
/// any other.
fn of_language<'a>(
    locales: &'a BTreeMap<String, Arc<Clip>>,
    locale: &str,
) -> Option<&'a Arc<Clip>> {
    let language = |l: &str| l.split(['-', '_']).next().unwrap_or_default().to_lowercase();
    let wanted = language(locale);
    let home = match wanted.as_str() {
        "en" => LAST_RESORT.to_owned(),
        other => format!("{other}-{}", other.to_uppercase()),
    };
    locales
        .get(locale)
        .or_else(|| locales.get(&home))
        .or_else(|| locales.get(&wanted))
        .or_else(|| locales.iter().find(|(l, _)| language(l) == wanted).map(|(_, clip)| clip))
}

impl std::fmt::Debug for PromptBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PromptBook").field("names", &self.book.prompts.len()).finish()
    }
}

impl Clip {
    fn from_file(
        path: &Path,
        locale: &str,
        name: &str,
        file: Cow<'static, [u8]>,
    ) -> Result<Self, PromptError> {
        let bad = |why: String| PromptError::NotWav { path: path.to_owned(), why };
        let length = wav::length(&file).map_err(|error| bad(error.to_string()))?;
        let total_ms = length.millis();
        if length.samples == 0 {
            return Err(bad("no samples".to_owned()));
        }
        if total_ms > LONGEST_MS {
            return Err(bad("too long".to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            locale: locale.to_owned(),
            sha256: Digest::of(&file),
            total_ms,
            frame_count: length.frames(),
            source: Source::File(file),
            encodings: Default::default(),
        })
    }

    fn from_tone(name: &str, cadence: Cadence) -> Self {
        Self {
            name: name.to_owned(),
            locale: String::new(),
            sha256: Digest([0; 32]),
            total_ms: cadence.millis(),
            frame_count: usize::try_from(cadence.millis() / 20).unwrap_or(0),
            source: Source::Tone(cadence),
            encodings: Default::default(),
        }
    }

    fn encoding(&self, codec: Codec) -> &Encoding {
        let [pcmu, pcma, g722, opus] = &self.encodings;
        match codec {
            Codec::Pcmu => pcmu,
            Codec::Pcma => pcma,
            Codec::G722 => g722,
            Codec::Opus => opus,
        }
    }

    fn encode(&self, codec: Codec) -> Option<Frames> {
        let (samples, rate) = match &self.source {
            Source::File(file) => wav::mono(file).map_err(|e| e.to_string()),
            Source::Tone(cadence) => Ok((cadence.samples(), tone::RATE)),
        }
        .inspect_err(|error| {
            tracing::error!(prompt = %self.name, locale = %self.locale, %error, "unreadable prompt");
        })
        .ok()?;
        Frames::encode(&samples, rate, codec)
            .inspect_err(|error| {
                tracing::error!(prompt = %self.name, locale = %self.locale, %error, "no encoding");
            })
            .ok()
    }
}

/// Runs until the last book is dropped. What a call waits for goes first.
fn encode_all(work: &mpsc::Receiver<Job>) {
    let mut waiting = VecDeque::new();
    loop {
        let next = match waiting.pop_front() {
            Some(job) => job,
            None => match work.recv() {
                Ok(job) => job,
                Err(mpsc::RecvError) => return,
            },
        };
        waiting.push_front(next);
        for job in work.try_iter() {
            match job.haste {
                Haste::Awaited => waiting.push_front(job),
                Haste::InTime => waiting.push_back(job),
            }
        }
        let Some(Job { clip, codec, .. }) = waiting.pop_front() else { continue };
        let encoding = clip.encoding(codec);
        // In the queue twice where a call could not wait.
        if encoding.frames.get().is_none() {
            let frames = catch_unwind(AssertUnwindSafe(|| clip.encode(codec))).unwrap_or(None);
            let _ = encoding.frames.set(frames);
        }
    }
}

/// Path, locale and name of every `<locale>/<name>.wav` below `folder`.
fn files_below(folder: &Path) -> Result<Vec<(PathBuf, String, String)>, PromptError> {
    let mut found = Vec::new();
    for locale in entries(folder)? {
        if !locale.is_dir() {
            continue;
        }
        for file in entries(&locale)? {
            if file.extension().is_none_or(|kind| !kind.eq_ignore_ascii_case("wav")) {
                continue;
            }
            let (Some(locale), Some(name)) = (
                locale.file_name().and_then(|n| n.to_str()),
                file.file_stem().and_then(|n| n.to_str()),
            ) else {
                continue;
            };
            found.push((file.clone(), locale.to_owned(), name.to_owned()));
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, PromptError> {
    let unreadable = |source| PromptError::Unreadable { path: folder.to_owned(), source };
    let listed = std::fs::read_dir(folder).map_err(unreadable)?;
    listed.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>().map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn write_wav(path: &Path, samples: usize) {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 8000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        (0..samples).for_each(|_| writer.write_sample(500i16).unwrap());
        writer.finalize().unwrap();
    }

    #[test]
    fn a_locale_falls_back_to_its_language_and_then_to_english() {
        let book = PromptBook::load(None, &Codec::ALL).unwrap();
        let locale = |wanted| book.find("notice-opt-in", wanted).unwrap().locale;
        assert_eq!(locale("de-DE"), "de-DE");
        assert_eq!(locale("de-AT"), "de-DE");
        assert_eq!(locale("de"), "de-DE");
        assert_eq!(locale("ja-JP"), "en-US");
        assert_eq!(locale(""), "en-US");
    }

    #[test]
    fn the_country_of_the_language_goes_before_its_other_countries() {
        let folder = tempfile::tempdir().unwrap();
        for locale in ["de-CH", "de-DE", "pt", "pt-BR", "nl-BE", "nl-SR", "en-AU"] {
            write_wav(&folder.path().join(locale).join("own.wav"), 8000);
        }
        let book = PromptBook::load(Some(folder.path()), &Codec::ALL).unwrap();
        for (wanted, locale) in [
            ("de-AT", "de-DE"),
            ("de-CH", "de-CH"),
            ("pt-PT", "pt"),
            ("pt-BR", "pt-BR"),
            ("nl-NL", "nl-BE"),
            ("en-GB", "en-AU"),
        ] {
            assert_eq!(book.find("own", wanted).unwrap().locale, locale, "{wanted}");
        }
        assert_eq!(book.find("notice-opt-in", "en-GB").unwrap().locale, "en-US");
    }

    #[test]
    fn a_language_that_nobody_has_recorded_gives_way_to_the_policys_own() {
        let book = PromptBook::load(None, &Codec::ALL).unwrap();
        let settle = |wanted: &str| book.settle("notice-opt-in", wanted.to_owned(), "fr-FR");
        assert_eq!(settle("de-AT"), "de-AT");
        assert_eq!(book.find("notice-opt-in", &settle("de-AT")).unwrap().locale, "de-DE");
        assert_eq!(settle("ja-JP"), "fr-FR");
        assert_eq!(book.settle("notice-opt-in", "ja".to_owned(), "zh-CN"), "zh-CN");
        assert_eq!(book.find("notice-opt-in", "zh-CN").unwrap().locale, "en-US");
    }

    #[test]
    fn a_missing_prompt_names_the_file_to_provide() {
        let book = PromptBook::load(None, &Codec::ALL).unwrap();
        let error = book.find("no-such", "fr-FR").unwrap_err().to_string();
        assert!(error.contains("prompts/fr-FR/no-such.wav"), "{error}");
    }

    #[test]
    fn a_folder_overrides_file_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("en-US/accepted.wav");
        write_wav(&own, 8001);
        write_wav(&folder.path().join("nl-NL/extra.wav"), 80);
        let book = PromptBook::load(Some(folder.path()), &Codec::ALL).unwrap();
        let facts = book.find("accepted", "en-US").unwrap();
        assert_eq!(facts.sha256, Digest::of(&std::fs::read(own).unwrap()));
        assert_eq!(facts.total_ms, 1000);
        assert!(book.find("declined", "en-US").is_ok());
        assert_eq!(book.find("extra", "nl-BE").unwrap().locale, "nl-NL");
    }

    #[test]
    fn a_bad_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let bad = folder.path().join("en-US/accepted.wav");
        write_wav(&bad, 0);
        let error = PromptBook::load(Some(folder.path()), &Codec::ALL).unwrap_err();
        assert!(error.to_string().contains("accepted.wav"), "{error}");
        std::fs::write(&bad, b"not a wav").unwrap();
        let error = PromptBook::load(Some(folder.path()), &Codec::ALL).unwrap_err();
        assert!(matches!(error, PromptError::NotWav { .. }));
        let nowhere = folder.path().join("none");
        let error = PromptBook::load(Some(&nowhere), &Codec::ALL).unwrap_err();
        assert!(matches!(error, PromptError::Unreadable { .. }));
    }

    #[test]
    fn a_prompt_is_encoded_when_it_is_asked_for() {
        let book = PromptBook::load(None, &Codec::ALL).unwrap();
        let clip = book.prompt("accepted", "en-US").unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        for codec in Codec::ALL {
            loop {
                match book.frames(clip, codec) {
                    Readiness::Ready(frames) => {
                        assert_eq!(frames.len(), clip.frame_count, "{codec:?}");
                        break;
                    }
                    Readiness::Soon if Instant::now() < deadline => std::thread::yield_now(),
                    other => panic!("{codec:?}: {other:?}"),
                }
            }
        }
    }
}
