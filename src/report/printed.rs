//! A report as it is given out: as text, as JSON, and as a page, on paper or in a file; and values in it.

use super::{Report, html};
use crate::error::{Error, Result};
use crate::files;
use crate::series::Printable;
use crate::value::Value;
use std::path::Path;

/// A report as it is given out.
#[derive(Clone, Debug)]
pub struct Printed {
    /// For people at a terminal.
    pub text: String,
    /// For programs, ended by a line feed.
    pub json: String,
    /// For people: a page that needs nothing but itself.
    pub html: String,
    /// Exit status of the command.
    pub exit_status: u8,
}

/// What a report is written as to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For programs.
    Json,
    /// For people.
    Html,
}

impl Form {
    /// The form that a file's name asks for.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "json" => Some(Self::Json),
            "html" => Some(Self::Html),
            _ => None,
        }
    }
}

impl Report {
    /// The report as it is given out.
    ///
    /// # Errors
    /// As [`Report::json`].
    pub fn printed(&self) -> Result<Printed> {
        let (text, json, html) = (self.to_string(), self.json()?, html::page(self));
        Ok(Printed { text, json, html, exit_status: self.exit_status })
    }
}

impl Printed {
    /// A report of which only text and JSON were kept.
    #[must_use]
    pub fn kept(text: String, json: String, exit_status: u8) -> Self {
        let html = html::page_of_text(&text, &json, exit_status);
        Self { text, json, html, exit_status }
    }

    /// Writes the report to a file, in the form that its name asks for, whole or not at all.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let stands = "the verdict above stands: only the report's file is missing";
        let bytes = match Form::of(path) {
            Some(Form::Html) => &self.html,
            Some(Form::Json) | None => &self.json,
        };
        files::replace(path, bytes.as_bytes())
            .map_err(|error| Error::io(path, "write", error).with_next(stands))
    }
}

/// A value with its type visible, as line protocol writes it; control characters made visible.
pub(super) fn print_value(value: Value<'_>) -> String {
    match value {
        Value::Float(float) => format!("{float:?}"),
        Value::Integer(integer) => format!("{integer}i"),
        Value::Unsigned(unsigned) => format!("{unsigned}u"),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::String(bytes) => format!("\"{}\"", Printable(bytes)),
    }
}
