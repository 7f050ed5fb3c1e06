//! Behaviours of `compress`.

use super::*;
use std::io::Write;

/// Lines that compress but not to nothing, so that streams have an inside worth cutting.
fn lines(count: u32) -> Vec<u8> {
    let mut text = Vec::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        writeln!(text, "cpu,host=h{number} v={}i {number}", state >> 40).unwrap();
    }
    text
}

fn gz(content: &[u8]) -> Vec<u8> {
    let mut encoder =
        flate2::GzBuilder::new().filename("x").write(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zst(content: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn skippable(length: u8) -> Vec<u8> {
    let mut frame = vec![0x53, 0x2a, 0x4d, 0x18, length, 0, 0, 0];
    frame.resize(8 + usize::from(length), 0xaa);
    frame
}

fn content(stored: &[u8]) -> Result<Vec<u8>> {
    let stored = Box::new(io::Cursor::new(stored.to_vec()));
    decompress(Path::new("f"), stored, 64 << 20)
}

fn reason(stored: &[u8]) -> String {
    let error = content(stored).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Damaged { .. }), "{error}");
    error.to_string()
}

/// Yields one byte a read, each behind an interruption.
struct Dribble(io::Cursor<Vec<u8>>, bool);

impl Read for Dribble {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.0.read(&mut into[..1])
    }
}

#[test]
fn every_kind_of_input_gives_its_content() {
    let text = lines(20_000);
    for stored in [text.clone(), gz(&text), zst(&text)] {
        assert!(content(&stored).unwrap() == text);
    }
    assert_eq!(content(b"").unwrap(), b"");
    assert_eq!(content(&gz(b"")).unwrap(), b"");
    assert_eq!(content(&zst(b"")).unwrap(), b"");
    for short in [&b"\n"[..], b"#", b"ab", b"abc", b"abcd", b"abcde"] {
        assert_eq!(content(short).unwrap(), short);
    }
}

#[test]
fn members_and_frames_follow_one_another() {
    let (one, two) = (lines(300), lines(500));
    let both = [&one[..], &two].concat();
    assert_eq!(content(&[gz(&one), gz(b""), gz(&two)].concat()).unwrap(), both);
    let frames = [skippable(0), zst(&one), skippable(9), zst(b""), zst(&two), skippable(3)];
    assert_eq!(content(&frames.concat()).unwrap(), both);
}

#[test]
fn inputs_that_trickle_are_read_whole() {
    let text = lines(200);
    let gzips = [gz(&text[..100]), gz(&text[100..])].concat();
    let frames = [skippable(5), zst(&text[..100]), zst(&text[100..])].concat();
    for stored in [text.clone(), gzips, frames] {
        let dribble = Box::new(Dribble(io::Cursor::new(stored), false));
        let mut input = Input::from_reader("-".into(), dribble);
        let mut byte = [0];
        let mut read = Vec::new();
        while input.read(&mut byte).unwrap() == 1 {
            read.push(byte[0]);
        }
        assert_eq!(read, text);
        assert_eq!(input.read(&mut byte).unwrap(), 0);
    }
}

/// Every cut of `stored` is an error, but for cuts to `whole.0` bytes, which hold `whole.1`.
fn assert_cuts_are_found(stored: &[u8], whole: &[(usize, &[u8])]) {
    for length in 1..stored.len() {
        let boundary = whole.iter().find(|(at, _)| *at == length);
        match (content(&stored[..length]), boundary) {
            (Ok(read), Some((_, expected))) => assert!(read == *expected, "{length}"),
            (Err(error), None) => {
                let text = error.to_string();
                assert!(text.contains("cut short"), "{length}: {text}");
            }
            (result, _) => panic!("cut at {length}: {:?}", result.map(|read| read.len())),
        }
    }
}

#[test]
fn a_gzip_cut_anywhere_is_an_error() {
    let (one, two) = (lines(40), lines(60));
    assert_cuts_are_found(&gz(&one), &[]);
    let member = gz(&one).len();
    assert_cuts_are_found(&[gz(&one), gz(&two)].concat(), &[(member, &one)]);
}

#[test]
fn a_zstd_cut_anywhere_is_an_error() {
    let (one, two) = (lines(40), lines(60));
    assert_cuts_are_found(&zst(&one), &[]);
    let first = zst(&one).len();
    let stored = [zst(&one), skippable(7), zst(&two)].concat();
    assert_cuts_are_found(&stored, &[(first, &one), (first + 15, &one)]);
    assert_cuts_are_found(&[skippable(2), zst(&one)].concat(), &[(10, b"")]);
}

#[test]
fn a_flipped_bit_never_changes_the_content() {
    let text = lines(60);
    let gzips = [gz(&text[..500]), gz(&text[500..])].concat();
    let frames = [zst(&text[..500]), zst(&text[500..])].concat();
    for stored in [gzips, frames] {
        for at in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            if let Ok(read) = content(&flipped) {
                // Without its magic it is no compressed file but plain, and no line protocol.
                assert!(read == text || (at < 32 && read == flipped), "bit {at}");
            }
        }
    }
}

#[test]
fn what_follows_the_stream_is_never_ignored() {
    let text = lines(10);
    for tail in [&b"\0"[..], b"\0\0\0\0\0\0\0\0", b"cpu v=1 1\n"] {
        for stored in [gz(&text), zst(&text)] {
            let text = reason(&[&stored[..], tail].concat());
            assert!(text.contains("appended"), "{text}");
            assert!(text.contains(&format!("byte {}", stored.len())), "{text}");
        }
    }
}

#[test]
fn checksums_are_verified_and_named() {
    let text = lines(100);
    let mut stored = gz(&text);
    let crc = stored.len() - 8;
    stored[crc] ^= 1;
    assert!(reason(&stored).contains("gzip checksum does not match"));
    let mut stored = zst(&text);
    let last = stored.len() - 1;
    stored[last] ^= 1;
    assert!(reason(&stored).contains("zstd checksum does not match"));
}

#[test]
fn a_window_beyond_the_limit_is_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.write_all(b"m v=1 1\n").unwrap();
    assert!(reason(&encoder.finish().unwrap()).contains("128 MiB"));
}

#[test]
fn damage_is_reported_again_at_every_later_read() {
    let mut input =
        Input::from_reader("f".into(), Box::new(io::Cursor::new(gz(b"m v=1 1\n")[..15].to_vec())));
    let mut buffer = [0; 64];
    while input.read(&mut buffer).is_ok_and(|read| read > 0) {}
    for _ in 0..3 {
        let error = input.read(&mut buffer).unwrap_err();
        assert!(error.to_string().contains("cut short"), "{error}");
    }
}

/// Fails after some bytes.
struct Failing(io::Cursor<Vec<u8>>);

impl Read for Failing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::Error::other("the disk is on fire")),
            read => Ok(read),
        }
    }
}

#[test]
fn read_errors_are_told_apart_from_damage() {
    let text = lines(50);
    for stored in [text.clone(), gz(&text), zst(&text)] {
        for length in [0, 2, 5, 100] {
            let failing = Failing(io::Cursor::new(stored[..length].to_vec()));
            let error = decompress(Path::new("f"), Box::new(failing), 1 << 20).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error}");
            assert!(error.to_string().contains("f: read failed: the disk is on fire"));
        }
    }
}

#[test]
fn directories_and_missing_files_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_path_buf();
    let error = Input::open(&path).and_then(|mut input| input.read(&mut [0])).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io { path: named, .. } if *named == path));
    let error = Input::open(&path.join("none")).unwrap_err();
    assert!(error.to_string().contains("none: open failed"), "{error}");
}

#[test]
fn content_beyond_the_limit_is_refused() {
    let stored = Box::new(io::Cursor::new(gz(&[b'a'; 1 << 20])));
    let error = decompress(Path::new("f"), stored, 1000).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Limit { .. }), "{error}");
}
