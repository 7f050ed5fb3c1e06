//! Any bytes as a meta store, in each of its frames, and as a manifest.

#![no_main]

use gapless::meta;
use gapless::meta::backup::{Manifest, framed, packet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let windows = |bytes: &[u8]| {
        let Ok(meta) = meta::decode(bytes) else { return };
        let rps = meta.databases.iter().flat_map(|database| &database.rps);
        for group in rps.flat_map(|rp| &rp.groups) {
            assert!(group.window().start >= gapless::window::TIME_MIN);
        }
    };
    windows(bytes);
    if let Ok(framed) = framed(bytes) {
        windows(framed.meta);
    }
    if let Ok(inner) = packet(bytes) {
        windows(&inner);
    }
    if let Err(damage) = Manifest::read(bytes) {
        assert!(damage.offset <= bytes.len() as u64, "{damage}");
    }
});
