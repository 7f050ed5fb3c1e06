//! Any bytes as a tar: whole or refused, its files within it, and unpacked as a shard whose files are
//! opened or refused, without more memory than it is allowed.

#![no_main]

use gapless::source::tsm::packed::{Room, unpack};
use gapless::spill::Place;
use gapless::tarball::read;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

/// Bytes of memory for a shard: little, so that larger files go to disk.
const MEMORY: usize = 4_096;

fuzz_target!(|bytes: &[u8]| {
    let (mut files, mut content) = (0, 0);
    let whole = read(bytes, |name, size, body| {
        assert!(!name.contains('\0'));
        let mut found = Vec::new();
        body.read_to_end(&mut found)?;
        assert!(found.len() as u64 <= size);
        (files, content) = (files + 1, content + found.len());
        Ok(())
    });
    assert!(files * 512 + content <= bytes.len());
    if let Ok(length) = &whole {
        assert_eq!(*length, bytes.len() as u64);
    }
    let room = Room { memory: MEMORY, spill: Place::new(None) };
    if let Ok(unpacked) = unpack(bytes, Path::new("fuzz"), &room) {
        assert_eq!(whole.ok(), unpacked.bytes);
        assert!(unpacked.shard.files.len() <= files);
    }
});
