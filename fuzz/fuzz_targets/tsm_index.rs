//! Any bytes are no TSM file, or one whose keys are found as by passing over all of them, and whose
//! blocks are read or refused.

#![no_main]

use gapless::tsm::Points;
use gapless::tsm::index::Tsm;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(tsm) = Tsm::open(bytes) else { return };
    let keys: Vec<_> = tsm.keys().map(|key| key.expect("an index that was checked")).collect();
    assert_eq!(keys.len() as u64, tsm.key_count());
    let mut points = Points::default();
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(tsm.find(key.key).unwrap().map(|key| key.key), Some(key.key));
        let behind = [key.key, b"\0"].concat();
        let next = tsm.keys_from(&behind).unwrap().next().map(|key| key.unwrap().key);
        assert_eq!(next, keys.get(at + 1).map(|key| key.key));
        points.reset(key.field_type);
        for entry in key.entries() {
            let before = points.len();
            let read = tsm.append(entry, &mut points);
            assert_eq!(read.is_err(), points.len() == before);
            assert!(points.times[before..].iter().all(|time| tsm.span().contains(*time)));
        }
        assert_eq!(points.iter().count(), points.len());
    }
});
