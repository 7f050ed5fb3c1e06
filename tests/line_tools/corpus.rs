//! `testdata/line/tricky.json`: lines of which it is known what a server does with them.

use super::outcome::{Bytes, Stored};
use serde_json::Value;

/// One text, mostly of one line.
pub struct Case {
    pub text: Vec<u8>,
    pub items: Vec<Expected>,
    /// A server panics on it.
    pub kills: bool,
}

/// What becomes of one item.
pub enum Expected {
    Row {
        key: Bytes,
        fields: Vec<(Bytes, Stored)>,
        /// `None` for the server's clock.
        time: Option<i64>,
        warning: bool,
        dropped_time_field: bool,
    },
    Bad(String),
    Comment,
}

/// All cases of the file.
pub fn cases() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/line/tricky.json");
    let file = std::fs::read(path).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&file).unwrap();
    cases.iter().map(case).collect()
}

fn case(value: &Value) -> Case {
    Case {
        text: bytes(value, "line", "hex"),
        items: value["items"].as_array().unwrap().iter().map(expected).collect(),
        kills: value["kills"] == true,
    }
}

fn bytes(value: &Value, text: &str, hex: &str) -> Vec<u8> {
    match value[text].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => unhex(value[hex].as_str().unwrap()),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn expected(value: &Value) -> Expected {
    if let Some(reason) = value["bad"].as_str() {
        return Expected::Bad(reason.into());
    }
    let Some(row) = value.get("row") else {
        assert_eq!(value["comment"], true);
        return Expected::Comment;
    };
    Expected::Row {
        key: Bytes(bytes(row, "key", "key_hex")),
        fields: row["fields"].as_array().unwrap().iter().map(field).collect(),
        time: row["time"].as_i64(),
        warning: row["warning"] == true,
        dropped_time_field: row["dropped_time"] == true,
    }
}

fn field(value: &Value) -> (Bytes, Stored) {
    let text = |at: usize| value[at].as_str().unwrap();
    let stored = match text(1) {
        "float" => Stored::Float(text(2).parse::<f64>().unwrap().to_bits()),
        "integer" => Stored::Integer(text(2).parse().unwrap()),
        "unsigned" => Stored::Unsigned(text(2).parse().unwrap()),
        "boolean" => Stored::Boolean(text(2) == "true"),
        "string" => Stored::String(text(2).into()),
        "string_hex" => Stored::String(unhex(text(2))),
        other => panic!("unknown type {other}"),
    };
    (Bytes(text(0).into()), stored)
}
