//! However a text is cut into chunks, it gives the same items, also when an item is too long.
//! The first byte is the number of cuts and the limit; as many bytes say where to cut.

#![no_main]

use gapless::line::decode::Options;
use gapless_fuzz::{options, outcome};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&head, rest)) = data.split_first() else { return };
    let Some((places, text)) = rest.split_at_checked(usize::from(head & 15)) else { return };
    let line_bytes_max = if head & 16 == 0 { usize::MAX } else { usize::from(head >> 5) * 8 + 4 };
    let options = Options { line_bytes_max, ..options() };
    let mut cuts: Vec<usize> =
        places.iter().map(|&place| usize::from(place) * (text.len() + 1) / 256).collect();
    cuts.sort_unstable();
    let whole = outcome::decode(text, &[], options);
    assert_eq!(outcome::decode(text, &cuts, options), whole);
    let each: Vec<usize> = (0..text.len()).collect();
    assert_eq!(outcome::decode(text, &each, options), whole);
});
