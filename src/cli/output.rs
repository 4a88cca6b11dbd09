//! Results on standard output: lines and tables for people, JSON for programs.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};

use serde::Serialize;

/// Where results go, and in which form.
pub struct Output {
    out: BufWriter<Box<dyn Write>>,
    json: bool,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("json", &self.json).finish_non_exhaustive()
    }
}

impl Output {
    pub(super) fn stdout(json: bool) -> Self {
        Self::into(Box::new(io::stdout()), json)
    }

    pub(super) fn into(out: Box<dyn Write>, json: bool) -> Self {
        Self { out: BufWriter::new(out), json }
    }

    /// Whether a program reads along: then nothing but JSON is printed.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// A line for people. Control characters of what others sent are escaped.
    ///
    /// # Errors
    ///
    /// When the output cannot be written.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "{}", printable(&text.to_string()))
    }

    /// A line for programs: one JSON value.
    ///
    /// # Errors
    ///
    /// When the output cannot be written.
    pub fn value(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    /// A line as it is: JSON that is written already.
    ///
    /// # Errors
    ///
    /// When the output cannot be written.
    pub fn verbatim(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// A table for people, its columns as wide as what is in them.
    ///
    /// # Errors
    ///
    /// When the output cannot be written.
    pub fn table<const N: usize>(
        &mut self,
        heads: [&str; N],
        rows: &[[String; N]],
    ) -> io::Result<()> {
        let mut widths = heads.map(|head| head.chars().count());
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(printable(cell).chars().count());
            }
        }
        self.row(heads, &widths)?;
        for row in rows {
            self.row(row.each_ref().map(String::as_str), &widths)?;
        }
        Ok(())
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    ///
    /// When the output cannot be written.
    pub fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn row<const N: usize>(&mut self, cells: [&str; N], widths: &[usize; N]) -> io::Result<()> {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let cell = printable(cell);
            let padding = width.saturating_sub(cell.chars().count()) + 2;
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', padding));
        }
        writeln!(self.out, "{}", line.trim_end())
    }
}

/// The text with control characters escaped: a terminal obeys some of them.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn a_peer_does_not_write_to_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r"), "a\\u{1b}[2Jb\\r");
        assert_eq!(printable("+49 30 äß"), "+49 30 äß");
    }
}
