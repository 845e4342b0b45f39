//! The only writer of stdout; and the one place where an error is printed.

use std::io::{self, Write};

use serde::Serialize;

use crate::error::{Error, Result};

/// Prints data followed by a newline. A reader that went away is no failure of ours.
pub(super) fn line(text: &str) -> Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints one JSON document.
pub(super) fn json<T: Serialize>(document: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|source| Error::bug("cannot write the result as JSON").because(source))?;
    line(&text)
}

/// Prints bytes as they are.
pub(super) fn bytes(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("cannot write to standard output", error))
        }
        _ => Ok(()),
    }
}

/// Prints `text` after `head`, wrapped at 80 columns and aligned below itself.
pub(super) fn wrapped(head: &str, text: &str) -> Result<()> {
    const COLUMNS: usize = 80;
    let indent = " ".repeat(head.chars().count());
    let mut current = head.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && current.chars().count() + 1 + word.chars().count() > COLUMNS {
            line(current.trim_end())?;
            current.clone_from(&indent);
            empty = true;
        }
        if !empty {
            current.push(' ');
        }
        current.push_str(word);
        empty = false;
    }
    line(current.trim_end())
}

/// Tells people something, on stderr.
pub(super) fn note(text: &str) {
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints an error with its causes and its hint, on stderr.
pub(super) fn error(error: &Error) {
    note(&error.report());
}

/// A table without borders that fits the terminal; columns are separated by two spaces.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    let text = table.to_string();
    let unpadded = |line: &str| line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned();
    text.lines().map(unpadded).collect::<Vec<_>>().join("\n")
}
