//! A row that was read is written as a line that is read as the same row, or not at all; and what
//! may not be written is what no server should be sent.

#![no_main]

use gapless::line::decode::{Decoder, Item};
use gapless::line::{encode, key};
use gapless_fuzz::options;
use gapless_fuzz::outcome::{Outcome, Point, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let mut decoder = Decoder::new(options());
    decoder.feed(text);
    decoder.finish();
    while let Ok(Some(item)) = decoder.next_item() {
        let Item::Row(row) = item else { continue };
        let series = key::parse(row.key);
        assert_eq!(series.key(), row.key);
        let fields: Vec<_> = row.fields().collect();
        let mut line = Vec::new();
        let Err(refused) = encode::row(&mut line, row.key, &fields, row.time) else {
            let read = decode(&line, &[], options());
            let [Outcome::Row(read)] = &read[..] else { panic!("{read:?}") };
            let point: Point = (&row).into();
            assert_eq!((&read.key, &read.fields, read.time), (&point.key, &point.fields, row.time));
            continue;
        };
        // A server stores these few, but they cannot be said in a line of their own.
        let known = ["empty key", "unsigned", "unsupported value", "re-parse", "max key length"];
        assert!(known.iter().any(|words| refused.reason.contains(words)), "{refused}: {row:?}");
    }
});
