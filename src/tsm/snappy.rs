//! Snappy blocks: content in one piece, behind its length (not the framed format of streams).
//!
//! Owns the limit on what a length that was read may allocate, and the question whether bytes are
//! the beginning of a block.

use super::input::Input;
use snap::raw;

/// A copy, the element that grows most, makes 64 bytes of three.
const GROWTH_MAX: usize = 22;

/// Appends the content of a block.
pub(super) fn decompress(block: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let length = raw::decompress_len(block).map_err(|error| reason(&error))?;
    if length > block.len().saturating_mul(GROWTH_MAX) {
        return Err(format!("{} compressed bytes cannot hold {length}", block.len()));
    }
    let before = out.len();
    if before == 0 && out.capacity() < length {
        // Neither doubled nor held beside the old room, and enough for the next block, too.
        *out = Vec::new();
        out.reserve_exact(length + length / 8);
    }
    out.resize(before + length, 0);
    let done = raw::Decoder::new().decompress(block, &mut out[before..]);
    if done != Ok(length) {
        out.truncate(before);
    }
    match done {
        Ok(found) if found == length => Ok(()),
        Ok(found) => Err(format!("{found} bytes where {length} were announced")),
        Err(error) => Err(reason(&error)),
    }
}

fn reason(error: &snap::Error) -> String {
    format!("the compressed bytes are damaged ({error})")
}

/// Bytes of the content of a block, as it says itself; 0 where it does not.
pub(super) fn announced(block: &[u8]) -> u64 {
    raw::decompress_len(block).unwrap_or(0) as u64
}

/// True where the bytes could be the beginning of a block that goes on behind them.
///
/// Reads the elements (`format_description.txt` of snappy) without making their content: a literal
/// or copy that cannot stand there, and a content that is complete already, say no.
pub(super) fn begins_block(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes, 0);
    let Ok(length) = input.uvarint("length") else {
        // A length of 32 bits takes five bytes at most.
        return bytes.len() < 5 && bytes.iter().all(|byte| *byte >= 0x80);
    };
    let mut made = 0_u64;
    while !input.is_empty() {
        if made >= length {
            return false;
        }
        let Some(element) = Element::read(&mut input) else { return true };
        if element.distance.is_some_and(|distance| distance == 0 || distance > made) {
            return false;
        }
        made += element.makes;
    }
    u32::try_from(length).is_ok() && made < length
}

struct Element {
    /// Bytes of content.
    makes: u64,
    /// How far back a copy reaches.
    distance: Option<u64>,
}

impl Element {
    /// `None` where the bytes end within it.
    fn read(input: &mut Input<'_>) -> Option<Self> {
        let tag = u64::from(input.byte("tag").ok()?);
        let mut little = |count: u64| {
            let bytes = input.take_long(count, "a number").ok()?;
            Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        };
        let (short, long) = (tag >> 2, (tag >> 2) + 1);
        Some(match tag & 3 {
            0 => {
                let makes = if short < 60 { long } else { little(short - 59)? + 1 };
                input.take_long(makes, "a literal").ok()?;
                Self { makes, distance: None }
            }
            1 => Self { makes: 4 + (short & 7), distance: Some(tag >> 5 << 8 | little(1)?) },
            2 => Self { makes: long, distance: Some(little(2)?) },
            _ => Self { makes: long, distance: Some(little(4)?) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compress(content: &[u8]) -> Vec<u8> {
        raw::Encoder::new().compress_vec(content).unwrap()
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_before_it_is_allocated() {
        let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, b'a'];
        assert!(decompress(&bomb, &mut Vec::new()).unwrap_err().contains("cannot hold"));
        let zeros = compress(&vec![0; 1 << 20]);
        let mut out = b"before".to_vec();
        decompress(&zeros, &mut out).unwrap();
        assert_eq!(out.len(), (1 << 20) + 6);
        assert!(decompress(&zeros[..zeros.len() - 1], &mut out).is_err());
        assert_eq!(out.len(), (1 << 20) + 6);
    }

    #[test]
    fn every_beginning_of_a_block_is_told_from_a_whole_one() {
        let mut content: Vec<u8> = (0..5000_u32).flat_map(|n| (n * 7919).to_be_bytes()).collect();
        content.extend(b"again and again and again and again and again, and then some".repeat(9));
        let block = compress(&content);
        for cut in 0..block.len() {
            assert!(begins_block(&block[..cut]), "{cut}");
        }
        assert!(!begins_block(&block));
        assert!(!begins_block(&[&block[..], b"more"].concat()));
    }

    #[test]
    fn a_copy_from_before_the_content_begins_no_block() {
        assert!(begins_block(&[9, 0, b'a', 0b0000_0001]));
        assert!(!begins_block(&[9, 0, b'a', 0b0000_0001, 2]));
        assert!(!begins_block(&[9, 0, b'a', 0b0000_0001, 0]));
    }
}
