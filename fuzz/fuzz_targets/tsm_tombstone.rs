//! Any bytes as tombstones: what is collected by key is what is read one by one.

#![no_main]

use gapless::tsm::tombstone::{Tombstones, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut all = Vec::new();
    let one_by_one = read(bytes, |key, span| all.push((key.to_vec(), span)));
    let collected = Tombstones::collect(bytes);
    assert_eq!(one_by_one.is_err(), collected.is_err());
    let Ok(collected) = collected else { return };
    assert_eq!(collected.len(), all.len());
    for (key, span) in &all {
        assert!(collected.of(key).any(|found| found == *span));
        let alike = all.iter().filter(|(other, _)| other == key).count();
        assert_eq!(collected.of(key).count(), alike);
    }
});
