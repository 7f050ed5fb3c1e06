//! Behaviours of `archive`.

use super::*;
use crate::window::DAY;
use proptest::prelude::*;

fn namespace(database: &str, rp: &str) -> Namespace {
    Namespace { database: database.into(), retention_policy: rp.into() }
}

fn part(file: &str) -> Part {
    Part {
        file: file.into(),
        rows: 3,
        cells: 4,
        bytes: 60,
        plain_bytes: 50,
        blake3: blake3::hash(b"x").to_hex().to_string(),
        first_series: "cpu".into(),
        last_series: "mem".into(),
    }
}

fn unit(start: i64, parts: Vec<Part>) -> Unit {
    let digest = Node { cells: 4, keys: [u64::MAX, 1], values: [0, u64::MAX - 1] };
    Unit { start, end: start + DAY, digest: Some(digest), parts }
}

fn header() -> Header {
    Header {
        window: Window::ALL,
        source: "a test".into(),
        filter: FilterEntry::default(),
        created: 5,
        namespaces: Vec::new(),
    }
}

fn contents() -> Contents {
    let mut entry = Entry {
        settings: Some(RpSettings {
            duration: Some(0),
            shard_duration: Some(7 * DAY),
            replication: Some(2),
            default: None,
        }),
        ..Entry::default()
    };
    entry.record_field("cpu".into(), "v".into(), FieldType::Float);
    entry.record_field("cpu".into(), "v".into(), FieldType::Integer);
    entry.record_field("cpu".into(), "v".into(), FieldType::Float);
    for unit in [unit(0, vec![part("a%2Fb/_/1970-01-01.0000.lp.zst")]), unit(DAY, Vec::new())] {
        entry.units.insert(unit.window(), unit);
    }
    Contents::from([(namespace("a/b", ""), entry), (namespace("c", "d"), Entry::default())])
}

fn parse(bytes: &[u8]) -> Result<Contents> {
    Manifest::parse(Path::new("m"), bytes)?.contents(Path::new("d"))
}

#[test]
fn every_name_becomes_one_safe_component() {
    for (name, component) in [
        ("", "_"),
        ("_", "%5F"),
        ("__", "__"),
        (".", "%2E"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("-rf", "%2Drf"),
        ("a/b", "a%2Fb"),
        ("Wetter Köln", "Wetter%20K%C3%B6ln"),
        ("100%", "100%25"),
        ("a\0b", "a%00b"),
        ("manifest.json", "%6Danifest.json"),
        ("telegraf-1.autogen_2", "telegraf-1.autogen_2"),
    ] {
        assert_eq!(encode_name(name), component);
        assert_eq!(decode_name(component).as_deref(), Some(name));
    }
}

#[test]
fn components_that_no_name_makes_are_refused() {
    for component in ["", "%", "%4", "%zz", "%61", "a/b", ".", "..", "%2e", "%FF", "ö", "%+1"] {
        assert_eq!(decode_name(component), None, "{component}");
    }
}

#[test]
fn names_too_long_for_a_file_system_stay_apart() {
    let [one, two] = ["a", "b"].map(|end| encode_name(&("ü".repeat(300) + end)));
    assert_ne!(one, two);
    for component in [one, two] {
        assert!(component.len() <= NAME_MAX && component.contains('~'), "{component}");
        assert_eq!(decode_name(&component), None);
    }
}

proptest! {
    #[test]
    fn names_round_trip(name in any::<String>().prop_filter("short", |name| name.len() < 60)) {
        let component = encode_name(&name);
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.%".contains(&byte);
        prop_assert!(component.bytes().all(safe) && !component.starts_with('.'));
        prop_assert_ne!(&component, MANIFEST);
        prop_assert_eq!(decode_name(&component), Some(name));
    }
}

#[test]
fn parts_are_named_by_namespace_day_and_number() {
    assert_eq!(part_file(&namespace("nab", "a.b"), DAY - 1, 12), "nab/a.b/1970-01-01.0012.lp.zst");
    assert_eq!(day(i64::MIN), "1677-09-21");
    assert_eq!(day(i64::MAX), "2262-04-11");
}

#[test]
fn a_manifest_reads_back_as_it_was_written() {
    let bytes = Manifest::new(&header(), &contents()).seal().unwrap();
    let manifest = Manifest::parse(Path::new("m"), &bytes).unwrap();
    assert_eq!(manifest.created, "1970-01-01T00:00:00.000000005Z");
    let read = manifest.contents(Path::new("d")).unwrap();
    assert_eq!(Manifest::new(&header(), &read).seal().unwrap(), bytes);
    let entry = &read[&namespace("a/b", "")];
    assert_eq!(entry.units.len(), 2);
    assert!(entry.settings.as_ref().is_some_and(|known| known.replication == Some(2)));
    assert_eq!(entry.schema["cpu"].len(), 2);
}

#[test]
fn no_flipped_bit_and_no_cut_of_a_manifest_goes_unnoticed() {
    let bytes = Manifest::new(&header(), &contents()).seal().unwrap();
    for at in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(parse(&flipped).is_err(), "bit {at}");
    }
    for length in 0..bytes.len() {
        assert!(parse(&bytes[..length]).is_err(), "cut at {length}");
    }
    assert!(parse(&[&bytes[..], b"\n"].concat()).is_err());
}

#[test]
fn a_newer_version_is_named_before_anything_else() {
    let text = br#"{"format": "gapless archive", "version": 3, "shape": "unknown"}"#;
    let error = parse(text).unwrap_err();
    assert!(error.to_string().contains("made by a newer version"), "{error}");
    assert!(error.next_step().is_some());
    assert!(parse(br#"{"format": "another", "version": 1}"#).is_err());
    let error = parse(br#"{"format": "gapless archive", "version": 1}"#).unwrap_err();
    assert!(error.to_string().contains("does not say which series"), "{error}");
}

/// The error of a well-sealed manifest whose contents were changed.
fn contradiction(change: impl FnOnce(&mut Manifest)) -> String {
    let mut manifest = Manifest::new(&header(), &contents());
    change(&mut manifest);
    parse(&manifest.seal().unwrap()).unwrap_err().to_string()
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    for file in [
        "../../etc/passwd",
        "/etc/passwd",
        "a%2Fb/_/../x.lp.zst",
        "a%2Fb/_/.lp.zst",
        "c/d/1970-01-01.0000.lp.zst",
    ] {
        let text = contradiction(|m| m.namespaces[0].units[0].parts[0].file = file.into());
        assert!(text.contains("is not where parts"), "{text}");
    }
    let text = contradiction(|m| {
        let part = m.namespaces[0].units[0].parts[0].clone();
        m.namespaces[0].units[1].parts.push(part);
    });
    assert!(text.contains("stands twice"), "{text}");
    let text = contradiction(|m| m.namespaces[0].units[1].start -= 1);
    assert!(text.contains("overlaps"), "{text}");
    let text = contradiction(|m| m.namespaces[0].units[1].end = DAY);
    assert!(text.contains("empty"), "{text}");
    let text = contradiction(|m| m.namespaces[1] = m.namespaces[0].clone());
    assert!(text.contains("stands twice"), "{text}");
    let text = contradiction(|m| {
        m.namespaces[0].units[0].parts[0].blake3 = "é".repeat(32);
    });
    assert!(text.contains("no BLAKE3"), "{text}");
}

#[test]
fn the_units_that_meet_a_window_are_found() {
    let entry = contents().remove(&namespace("a/b", "")).unwrap();
    let meeting = |start, end| {
        let units = entry.meeting(Window { start, end });
        units.map(|unit| unit.start / DAY).collect::<Vec<_>>()
    };
    assert_eq!(meeting(-5, 1), [0]);
    assert_eq!(meeting(-5, 0), [0_i64; 0]);
    assert_eq!(meeting(5, DAY), [0]);
    assert_eq!(meeting(5, DAY + 1), [0, 1]);
    assert_eq!(meeting(DAY, DAY + 1), [1]);
    assert_eq!(meeting(2 * DAY, 3 * DAY), [0_i64; 0]);
    assert_eq!(meeting(5, 5), [0_i64; 0]);
    assert_eq!(meeting(i64::MIN, i64::MAX), [0, 1]);
}

#[test]
fn a_schema_too_large_is_cut_and_says_so() {
    let mut entry = Entry::default();
    for number in 0..40_000 {
        entry.record_field("m".repeat(60), format!("f{number}"), FieldType::Float);
    }
    assert!(entry.schema_cut && entry.schema_bytes <= SCHEMA_BYTES_MAX);
    let contents = Contents::from([(namespace("a", "b"), entry)]);
    let bytes = Manifest::new(&header(), &contents).seal().unwrap();
    assert!(parse(&bytes).unwrap()[&namespace("a", "b")].schema_cut);
}

#[test]
fn an_archive_is_known_by_its_manifest() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!is_archive(dir.path()).unwrap());
    let error = Manifest::read(dir.path()).unwrap_err();
    assert!(error.to_string().contains("no complete archive"), "{error}");
    let path = dir.path().join(MANIFEST);
    std::fs::write(&path, b"{\"name\": \"other\"}").unwrap();
    assert!(!is_archive(dir.path()).unwrap());
    let bytes = Manifest::new(&header(), &contents()).seal().unwrap();
    std::fs::write(&path, &bytes).unwrap();
    assert!(is_archive(dir.path()).unwrap());
    assert!(Manifest::read(dir.path()).is_ok());
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(is_archive(dir.path()).unwrap(), "damaged, but an archive");
}

#[test]
fn a_manifest_that_cannot_be_read_is_no_missing_one() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(MANIFEST)).unwrap();
    let error = is_archive(dir.path()).unwrap_err();
    assert!(error.to_string().contains("manifest.json: read failed"), "{error}");
    assert!(!is_archive(&dir.path().join("absent")).unwrap());
}
