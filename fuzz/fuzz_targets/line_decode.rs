//! Any text gives the items that the second, simple decoder gives.

#![no_main]

use gapless_fuzz::{NOW, naive, options, outcome};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    assert_eq!(outcome::decode(text, &[], options()), naive::decode(text, 1, Some(NOW)));
});
