//! A cursor over a TOML document that collects every problem and remembers, for each value,
//! whether it came from the file.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::file::{Origin, Origins};
use crate::config::problem::{Problem, Wrong};
use crate::config::units;

/// The text of a configuration, and what has been found out about it so far.
pub(super) struct Document<'d> {
    name: &'d str,
    text: &'d str,
    problems: RefCell<Vec<Problem>>,
    origins: RefCell<BTreeMap<String, Origin>>,
}

impl<'d> Document<'d> {
    pub(super) fn new(name: &'d str, text: &'d str) -> Self {
        Self { name, text, problems: RefCell::default(), origins: RefCell::default() }
    }

    /// Notes a problem with the value at `span`.
    pub(super) fn report(&self, span: Option<Range<usize>>, key: &str, wrong: Wrong) {
        let at = span.map(|span| self.position(span.start));
        self.problems.borrow_mut().push(Problem {
            file: self.name.to_owned(),
            at,
            key: key.to_owned(),
            what: wrong.what,
            remedy: wrong.remedy,
        });
    }

    /// What was found: the problems in the order of the file, and where each value came from.
    pub(super) fn finish(self) -> (Vec<Problem>, Origins) {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.at);
        problems.dedup();
        (problems, Origins(self.origins.into_inner()))
    }

    fn note(&self, key: &str, value: Option<&Spanned<DeValue<'_>>>) {
        let origin = match value {
            Some(value) => Origin::File { line: self.position(value.span().start).0 },
            None => Origin::Default,
        };
        self.origins.borrow_mut().insert(key.to_owned(), origin);
    }

    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    }
}

/// A table of the document, perhaps one that is not there.
pub(super) struct Section<'d> {
    doc: &'d Document<'d>,
    path: String,
    span: Option<Range<usize>>,
    table: Option<&'d DeTable<'d>>,
    known: Vec<&'static str>,
}

impl<'d> Section<'d> {
    pub(super) fn root(doc: &'d Document<'d>, table: &'d DeTable<'d>) -> Self {
        Self { doc, path: String::new(), span: None, table: Some(table), known: Vec::new() }
    }

    /// Renames the section in what is reported about it.
    pub(super) fn rename(&mut self, path: String) {
        self.path = path;
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// How many problems have been reported about the whole document so far.
    pub(super) fn problem_count(&self) -> usize {
        self.doc.problems.borrow().len()
    }

    /// Whether the table says nothing, not even in the tables within it.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_none_or(is_bare)
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// The value of a key, which is a known one from now on.
    pub(super) fn field(&mut self, key: &'static str) -> Field<'d> {
        let (path, value) = self.look(key);
        self.doc.note(&path, value);
        Field { doc: self.doc, path, value, near: self.span.clone() }
    }

    /// The table of a key.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'d> {
        let (path, value) = self.look(key);
        Self::of(self.doc, path, value)
    }

    /// The tables of an array of tables; `None` when the key is not there.
    pub(super) fn sections(&mut self, key: &'static str) -> Option<Vec<Section<'d>>> {
        let (path, value) = self.look(key);
        let DeValue::Array(items) = value?.get_ref() else {
            let wrong = Wrong::new("is not a list of tables", format!("write [[{key}]]"));
            self.doc.report(value.map(Spanned::span), &path, wrong);
            return Some(Vec::new());
        };
        let sections = items
            .iter()
            .enumerate()
            .map(|(index, item)| Self::of(self.doc, format!("{path}[{}]", index + 1), Some(item)));
        Some(sections.collect())
    }

    /// Notes a problem with the table as a whole, or with a key of it.
    pub(super) fn report(&self, key: &str, wrong: Wrong) {
        let path = self.join(key);
        let span = self.table.and_then(|t| t.get(key)).map(Spanned::span);
        self.doc.report(span.or_else(|| self.span.clone()), &path, wrong);
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.table.into_iter().flat_map(DeTable::iter) {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let remedy = match nearest(name, &self.known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
            let wrong = Wrong::new("is not a key that Assent knows", remedy);
            self.doc.report(Some(key.span()), &self.join(&shown), wrong);
        }
    }

    fn of(
        doc: &'d Document<'d>,
        path: String,
        value: Option<&'d Spanned<DeValue<'d>>>,
    ) -> Section<'d> {
        let span = value.map(Spanned::span);
        let table = match value.map(Spanned::get_ref) {
            Some(DeValue::Table(table)) => Some(table),
            Some(other) => {
                let wrong = Wrong::new(
                    format!("is {}, not a table", kind(other)),
                    format!("write [{path}] and its keys below"),
                );
                doc.report(span.clone(), &path, wrong);
                None
            }
            None => None,
        };
        Section { doc, path, span, table, known: Vec::new() }
    }

    fn look(&mut self, key: &'static str) -> (String, Option<&'d Spanned<DeValue<'d>>>) {
        self.known.push(key);
        (self.join(key), self.table.and_then(|table| table.get(key)))
    }

    fn join(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{key}", self.path),
        }
    }
}

/// One value of the document, perhaps one that is not there.
pub(super) struct Field<'d> {
    doc: &'d Document<'d>,
    path: String,
    value: Option<&'d Spanned<DeValue<'d>>>,
    near: Option<Range<usize>>,
}

impl<'d> Field<'d> {
    pub(super) fn is_set(&self) -> bool {
        self.value.is_some()
    }

    /// Notes a problem with the value, or with its absence.
    pub(super) fn report(&self, wrong: Wrong) {
        let span = self.value.map(Spanned::span).or_else(|| self.near.clone());
        self.doc.report(span, &self.path, wrong);
    }

    /// The value as text; `None` when it is absent, or reported as something else.
    pub(super) fn text(&self) -> Option<&'d str> {
        let value = self.value?;
        match value.get_ref() {
            DeValue::String(text) => Some(text.as_ref()),
            other => {
                self.unlike(other, "a text in quotes");
                None
            }
        }
    }

    /// The value as texts: one in quotes, or a list of them.
    pub(super) fn texts(&self) -> Option<Vec<(&'d str, Range<usize>)>> {
        let value = self.value?;
        match value.get_ref() {
            DeValue::String(text) => Some(vec![(text.as_ref(), value.span())]),
            DeValue::Array(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::String(text) => texts.push((text.as_ref(), item.span())),
                        _ => self.item_unlike(item, "a list of texts in quotes"),
                    }
                }
                Some(texts)
            }
            other => {
                self.unlike(other, "a list of texts in quotes");
                None
            }
        }
    }

    /// The value as a table of texts.
    pub(super) fn table(&self) -> Option<Vec<(&'d str, &'d str, Range<usize>)>> {
        let value = self.value?;
        let DeValue::Table(table) = value.get_ref() else {
            self.unlike(value.get_ref(), "a table such as { name = \"text\" }");
            return None;
        };
        let mut texts = Vec::with_capacity(table.len());
        for (key, item) in table.iter() {
            match item.get_ref() {
                DeValue::String(text) => {
                    texts.push((key.get_ref().as_ref(), text.as_ref(), item.span()))
                }
                _ => self.item_unlike(item, "a table of texts in quotes"),
            }
        }
        Some(texts)
    }

    /// The value as a table of weights.
    pub(super) fn weights(&self) -> Option<Vec<(&'d str, u16)>> {
        let value = self.value?;
        let DeValue::Table(table) = value.get_ref() else {
            self.unlike(value.get_ref(), "a table such as { \"name\" = 1 }");
            return None;
        };
        let mut weights = Vec::with_capacity(table.len());
        for (key, item) in table.iter() {
            let weight = match item.get_ref() {
                DeValue::Integer(number) => {
                    u16::from_str_radix(number.as_str(), number.radix()).ok()
                }
                _ => None,
            };
            match weight {
                Some(weight) => weights.push((key.get_ref().as_ref(), weight)),
                None => self.item_unlike(item, "weights: whole numbers from 0 to 65535"),
            }
        }
        (weights.len() == table.len()).then_some(weights)
    }

    /// Whether the value is a table.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.value.map(Spanned::get_ref), Some(DeValue::Table(_)))
    }

    /// The value, read by `read`; `default` when it is absent or wrong (which is reported).
    pub(super) fn read<T>(&self, default: T, read: impl Fn(&str) -> Result<T, Wrong>) -> T {
        self.optional(read).unwrap_or(default)
    }

    /// The value, read by `read`; `None` when it is absent or wrong (which is reported).
    pub(super) fn optional<T>(&self, read: impl Fn(&str) -> Result<T, Wrong>) -> Option<T> {
        read(self.text()?).map_err(|wrong| self.report(wrong)).ok()
    }

    /// Each of the texts, read by `read`; `None` when the key is absent.
    pub(super) fn each<T>(&self, read: impl Fn(&str) -> Result<T, Wrong>) -> Option<Vec<T>> {
        let texts = self.texts()?;
        let mut values = Vec::with_capacity(texts.len());
        for (text, span) in texts {
            match read(text) {
                Ok(value) => values.push(value),
                Err(wrong) => self.doc.report(Some(span), &self.path, wrong),
            }
        }
        Some(values)
    }

    /// One of the words, and what it stands for.
    pub(super) fn word<T: Clone>(&self, default: T, words: &[(&str, T)]) -> T {
        self.read(default, |text| one_of(text, words))
    }

    pub(super) fn boolean(&self, default: bool) -> bool {
        match self.value.map(Spanned::get_ref) {
            None => default,
            Some(DeValue::Boolean(value)) => *value,
            Some(other) => {
                self.unlike(other, "true or false");
                default
            }
        }
    }

    pub(super) fn integer(&self, default: u64, range: std::ops::RangeInclusive<u64>) -> u64 {
        let number = match self.value.map(Spanned::get_ref) {
            None => return default,
            Some(DeValue::Integer(number)) => u64::from_str_radix(number.as_str(), number.radix()),
            Some(other) => {
                self.unlike(other, "a whole number");
                return default;
            }
        };
        match number {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.report(Wrong::new(
                    "is out of range",
                    format!("write a number from {} to {}", range.start(), range.end()),
                ));
                default
            }
        }
    }

    pub(super) fn span(
        &self,
        default: Duration,
        shortest: Duration,
        longest: Duration,
    ) -> Duration {
        self.read(default, |text| span_within(text, shortest, longest))
    }

    pub(super) fn path(&self) -> Option<PathBuf> {
        self.optional(|text| match text {
            "" => Err(Wrong::new("is empty", "write a path")),
            _ if text.contains('\0') => Err(Wrong::new("is not a path", "write a path")),
            _ => Ok(PathBuf::from(text)),
        })
    }

    fn unlike(&self, value: &DeValue<'_>, wanted: &str) {
        self.report(Wrong::new(format!("is {}", kind(value)), format!("write {wanted}")));
    }

    fn item_unlike(&self, item: &Spanned<DeValue<'_>>, wanted: &str) {
        let wrong =
            Wrong::new(format!("holds {}", kind(item.get_ref())), format!("write {wanted}"));
        self.doc.report(Some(item.span()), &self.path, wrong);
    }
}

/// The word of `words` that `text` is.
pub(super) fn one_of<T: Clone>(text: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(value.clone());
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let remedy = match nearest(text, &known) {
        Some(near) => format!("did you mean {near:?}? It takes {}", known.join(", ")),
        None => format!("write one of {}", known.join(", ")),
    };
    Err(Wrong::new(format!("{text:?} is not one of its values"), remedy))
}

/// A span of time within limits.
pub(super) fn span_within(
    text: &str,
    shortest: Duration,
    longest: Duration,
) -> Result<Duration, Wrong> {
    let span = units::duration(text)?;
    if span < shortest || span > longest {
        let (shortest, longest) = (units::span_text(shortest), units::span_text(longest));
        return Err(Wrong::new(
            format!("{text:?} is out of range"),
            format!("write a span from {shortest} to {longest}"),
        ));
    }
    Ok(span)
}

/// The known word that a mistyped one is nearest to, if any is near.
pub(super) fn nearest<'w>(text: &str, known: &[&'w str]) -> Option<&'w str> {
    if text.len() > 64 {
        return None;
    }
    let distance = |word: &str| strsim::damerau_levenshtein(&text.to_lowercase(), word);
    let (far, near) = known.iter().map(|word| (distance(word), *word)).min()?;
    let limit = (near.len().max(text.len()) / 3).max(2);
    (far <= limit && far < near.len()).then_some(near)
}

fn is_bare(table: &DeTable<'_>) -> bool {
    table.values().all(|value| match value.get_ref() {
        DeValue::Table(inner) => is_bare(inner),
        _ => false,
    })
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
