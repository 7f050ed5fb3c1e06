//! Any bytes as a segment of a log: every entry that is handed out is whole, items never reach
//! behind the segment, and after damage the next entry that is found can be read.

#![no_main]

use gapless::tsm::wal::{Item, Segment};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut segment = Segment::new(bytes);
    let mut last = 0;
    loop {
        match segment.next_item() {
            Ok(Some(Item::Write(writes))) => {
                for written in writes {
                    let points = written.points();
                    let of_type = |(_, value): (i64, gapless::value::Value<'_>)| {
                        assert_eq!(value.field_type(), written.field_type);
                    };
                    assert_eq!(points.map(of_type).count(), written.count as usize);
                }
            }
            Ok(Some(Item::Delete(deletes))) => {
                deletes.keys().count();
            }
            Ok(Some(Item::Zeros { offset, length })) => {
                let (start, end) = (offset as usize, (offset + length) as usize);
                assert!(bytes[start..end].iter().all(|byte| *byte == 0));
                assert!(bytes.get(end) != Some(&0));
            }
            Ok(Some(Item::Incomplete { offset, length })) => {
                assert_eq!(offset + length, bytes.len() as u64);
                assert!(matches!(segment.next_item(), Ok(None)));
            }
            Ok(None) => return,
            Err(damage) => {
                assert!(damage.offset >= last);
                let Some(found) = segment.resync() else { return };
                assert!(found > damage.offset);
                last = found;
                assert!(matches!(segment.next_item(), Ok(Some(_))));
            }
        }
    }
});
