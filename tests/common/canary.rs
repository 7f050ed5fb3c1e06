//! A secret that must be nowhere, and the search for it in every form that it could have.

use super::http::{base64, encode};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A secret with its forms: as it is, escaped, percent-encoded, in hexadecimal and in base64.
#[derive(Clone, Debug)]
pub struct Canary {
    pub text: String,
    forms: Vec<(&'static str, Vec<u8>)>,
}

impl Canary {
    /// A secret that holds `mark`, which no other test uses, and characters that encodings change.
    pub fn new(mark: &str) -> Self {
        let text = format!("{mark}%3A/+\"ü: 9Zq{mark}");
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![
            ("plain", text.clone().into_bytes()),
            ("its mark", mark.as_bytes().to_vec()),
            ("escaped", text.escape_default().to_string().into_bytes()),
            ("escaped for people", text.escape_debug().to_string().into_bytes()),
            ("percent-encoded", encode(&text).into_bytes()),
            ("percent-encoded in lower case", encode(&text).to_lowercase().into_bytes()),
            ("as a form", encode(&text).replace("%20", "+").into_bytes()),
            ("hexadecimal", hex.clone().into_bytes()),
            ("hexadecimal in upper case", hex.to_uppercase().into_bytes()),
        ];
        for before in 0..3 {
            let form = base64_inside(mark, before);
            forms.push(("base64 for URLs", form.replace('+', "-").replace('/', "_").into_bytes()));
            forms.push(("base64", form.into_bytes()));
        }
        Self { text, forms }
    }

    /// The form in which the secret is in these bytes.
    pub fn form_in(&self, bytes: &[u8]) -> Option<&'static str> {
        let holds = |form: &[u8]| bytes.windows(form.len()).any(|window| window == form);
        self.forms.iter().find(|(_, form)| holds(form)).map(|(name, _)| *name)
    }

    #[track_caller]
    pub fn assert_not_in(&self, bytes: &[u8], place: &str) {
        if let Some(form) = self.form_in(bytes) {
            panic!("the secret is in {place} ({form}):\n{}", String::from_utf8_lossy(bytes));
        }
    }

    /// Looks at the names and contents of all files below, decompressed where they are compressed,
    /// and returns how many there were.
    #[track_caller]
    pub fn assert_not_below(&self, dir: &Path) -> usize {
        let mut files = 0;
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            self.assert_not_in(path.as_os_str().as_encoded_bytes(), "a file's name");
            if path.is_dir() {
                files += self.assert_not_below(&path);
                continue;
            }
            files += 1;
            let stored = fs::read(&path).expect("a file");
            self.assert_not_in(&stored, &path.display().to_string());
            self.assert_not_in(&plain(&stored), &format!("{}, decompressed", path.display()));
        }
        files
    }

    /// Looks at the arguments of all processes until told to stop.
    pub fn watch_arguments(&self) -> Watch {
        let (canary, stop) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !stopped.load(Ordering::Relaxed) {
                canary.look_at_arguments(&mut seen);
            }
            seen
        });
        Watch { stop, thread: Some(thread) }
    }

    fn look_at_arguments(&self, seen: &mut Seen) {
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            // A process may have ended meanwhile.
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            seen.gapless |= line.windows(8).any(|window| window == b"/gapless");
            if self.form_in(&line).is_some() {
                seen.found.push(String::from_utf8_lossy(&line).into_owned());
            }
        }
    }
}

/// What was seen among the arguments of processes.
#[derive(Debug, Default)]
pub struct Seen {
    /// A process of the command was among them.
    pub gapless: bool,
    /// Command lines with the secret.
    pub found: Vec<String>,
}

/// Looks until it is stopped.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Watch {
    pub fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("a thread").join().expect("what was seen")
    }
}

/// What stands in any base64 text that encodes `text` behind a number of bytes which leaves the
/// rest `before` when divided by three, whatever those bytes are and whatever follows.
fn base64_inside(text: &str, before: usize) -> String {
    let padded = [&vec![0; before], text.as_bytes()].concat();
    let whole = padded.len() * 8 / 6;
    base64(&padded)[(before * 8).div_ceil(6)..whole].to_owned()
}

fn plain(stored: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if stored.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut decoder = zstd::Decoder::new(stored).expect("zstd");
        decoder.read_to_end(&mut out).expect("zstd");
    } else if stored.starts_with(&[0x1f, 0x8b]) {
        flate2::bufread::MultiGzDecoder::new(stored).read_to_end(&mut out).expect("gzip");
    }
    out
}
