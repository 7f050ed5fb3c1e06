//! A second decoder, written for clearness alone: the steps of `models/points.go`, one after the
//! other, over the whole text, with a copy wherever one is convenient. What it shares with the
//! real decoder is the wording of reasons, and nothing else.

use super::outcome::{Outcome, Point, Stored};
use gapless::series::Printable;

type Reason = String;
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Decodes a whole text.
pub fn decode(text: &[u8], multiplier: i64, default_time: Option<i64>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut pos = 0;
    while pos < text.len() {
        let end = scan_line(text, pos);
        let block = &text[pos..end];
        let line = 1 + text[..pos].iter().filter(|&&byte| byte == b'\n').count() as u64;
        pos = end + 1;
        let start = skip_whitespace(block, 0);
        if start >= block.len() {
            continue;
        }
        if block[start] == b'#' {
            outcomes.push(Outcome::Comment(block.into()));
            continue;
        }
        let block = block.strip_suffix(b"\n").unwrap_or(block);
        outcomes.push(match parse_point(&block[start..], multiplier, default_time) {
            Ok(point) => Outcome::Row(Point { line, text: block.into(), ..point }),
            Err(mut reason) => {
                if block.ends_with(b"\r") {
                    reason += " (the line ends in CR LF, and the server takes the CR as data)";
                }
                Outcome::Bad { line, text: block.into(), reason }
            }
        });
    }
    outcomes
}

fn scan_line(buf: &[u8], start: usize) -> usize {
    let (mut i, mut quoted, mut fields, mut equals, mut commas) = (start, false, false, 0, 0);
    while i < buf.len() {
        if buf[i] == b'\\' && i + 2 < buf.len() {
            i += 2;
            continue;
        }
        if buf[i] == b' ' {
            fields = true;
        }
        if fields && !quoted && buf[i] == b'=' {
            equals += 1;
        } else if fields && !quoted && buf[i] == b',' {
            commas += 1;
        } else if fields && buf[i] == b'"' && equals > commas {
            quoted = !quoted;
        } else if buf[i] == b'\n' && !quoted {
            break;
        }
        i += 1;
    }
    i
}

fn skip_whitespace(buf: &[u8], mut i: usize) -> usize {
    while i < buf.len() && (buf[i] == b' ' || buf[i] == b'\t' || buf[i] == 0) {
        i += 1;
    }
    i
}

fn parse_point(buf: &[u8], multiplier: i64, default_time: Option<i64>) -> Result<Point, Reason> {
    let (pos, key) = scan_key(buf)?;
    if key.len() > 65535 {
        return Err(format!("max key length exceeded: {} > 65535", key.len()));
    }
    let start = skip_whitespace(buf, pos);
    let pos = scan_fields(buf, start)?;
    let pairs = walk_fields(&buf[start..pos], key.len())?;
    let mut warning = false;
    let time = scan_time(buf, pos, multiplier, default_time, &mut warning)?;
    let name = Printable(&unescape(scan_to(&key, 0, b','), b",\" =")).to_string();
    for (tag, _) in tags(&key) {
        if unescape(&tag, b", =") == b"time" {
            return Err(format!(
                "invalid tag key: input tag \"time\" on measurement \"{name}\" is invalid"
            ));
        }
    }
    let all = pairs.len();
    let pairs: Vec<_> = pairs.into_iter().filter(|pair| pair.0 != b"time").collect();
    if pairs.is_empty() {
        return Err(format!(
            "invalid field name: input field \"time\" on measurement \"{name}\" is invalid"
        ));
    }
    let values: Vec<_> = pairs.iter().map(|pair| value(&pair.1, &mut warning)).collect();
    for (one, left) in pairs.iter().zip(&values) {
        for (two, right) in pairs.iter().zip(&values) {
            let (Ok(left), Ok(right)) = (left, right) else { continue };
            if one.0 == two.0 && std::mem::discriminant(left) != std::mem::discriminant(right) {
                return Err("field type conflict".into());
            }
        }
    }
    warning |= [100, 200, 400, 800, 1600].contains(&tags(&key).len());
    warning |= std::str::from_utf8(scan_to(&key, 0, b',')).is_err();
    warning |= pairs.iter().any(|pair| std::str::from_utf8(&pair.0).is_err());
    let dropped_time_field = all != pairs.len();
    let mut fields = Vec::new();
    for (pair, value) in pairs.into_iter().zip(values) {
        fields.push((pair.0.as_slice().into(), value?));
    }
    let (line, text) = (0, b""[..].into());
    let key = key.as_slice().into();
    Ok(Point { line, text, key, fields, time, dropped_time_field, warning })
}

/// True where `buf[i]` is one of `bytes` and the byte before it is no backslash.
fn bare(buf: &[u8], i: usize, bytes: &[u8]) -> bool {
    bytes.contains(&buf[i]) && (i == 0 || buf[i - 1] != b'\\')
}

fn scan_key(buf: &[u8]) -> Result<(usize, Vec<u8>), Reason> {
    if buf[0] == b',' {
        return Err("missing measurement".into());
    }
    let mut i = 1;
    while i < buf.len() && !bare(buf, i, b", ") {
        i += 1;
    }
    let measurement = buf[..i].to_vec();
    let mut tags: Pairs = Vec::new();
    loop {
        if i >= buf.len() {
            return Err("missing fields".into());
        }
        if buf[i] == b' ' {
            break;
        }
        let start = i + 1;
        if start >= buf.len() || b" ,=".contains(&buf[start]) {
            return Err("missing tag key".into());
        }
        i = start + 1;
        while i < buf.len() && !bare(buf, i, b" ,=") {
            i += 1;
        }
        if i >= buf.len() || buf[i] != b'=' {
            return Err("missing tag value".into());
        }
        let equals = i;
        i += 1;
        if i >= buf.len() || b" ,".contains(&buf[i]) {
            return Err("missing tag value".into());
        }
        i += 1;
        while i < buf.len() && !bare(buf, i, b" ,=") {
            i += 1;
        }
        if i < buf.len() && buf[i] == b'=' {
            return Err("invalid tag format".into());
        }
        tags.push((buf[start..equals].to_vec(), buf[equals + 1..i].to_vec()));
    }
    tags.sort();
    let mut key = measurement;
    for (at, (name, value)) in tags.iter().enumerate() {
        if at > 0 && tags[at - 1].0 == *name {
            return Err("duplicate tags".into());
        }
        key.extend([b",", &name[..], b"=", value].concat());
    }
    Ok((i, key))
}

fn scan_fields(buf: &[u8], start: usize) -> Result<usize, Reason> {
    let (mut i, mut quoted, mut equals, mut commas) = (start, false, 0, 0);
    while i < buf.len() {
        if buf[i] == b'\\' && i + 1 < buf.len() {
            i += 2;
            continue;
        }
        if buf[i] == b'"' && equals > commas {
            quoted = !quoted;
            i += 1;
            continue;
        }
        if buf[i] == b'=' && !quoted {
            equals += 1;
            if (buf[i - 1] == b' ' || buf[i - 1] == b',') && buf[i - 2] != b'\\' {
                return Err("missing field key".into());
            }
            if i + 1 >= buf.len() || buf[i + 1] == b',' || buf[i + 1] == b' ' {
                return Err("missing field value".into());
            }
            if buf[i + 1] != b'"' {
                let mut end = i + 1;
                while end < buf.len() && buf[end] != b',' && buf[end] != b' ' {
                    end += 1;
                }
                scan_value(&buf[i + 1..end])?;
                i = end;
                continue;
            }
        }
        if buf[i] == b',' && !quoted {
            commas += 1;
        }
        if buf[i] == b' ' && !quoted {
            break;
        }
        i += 1;
    }
    if quoted {
        return Err("unbalanced quotes".into());
    }
    if equals == 0 || commas != equals - 1 {
        return Err("invalid field format".into());
    }
    Ok(i)
}

/// The first scanner's opinion of a value that is no string.
fn scan_value(value: &[u8]) -> Result<(), Reason> {
    if !b"0123456789.-Nn".contains(&value[0]) {
        let spellings: [&[u8]; 10] =
            [b"t", b"T", b"true", b"True", b"TRUE", b"f", b"F", b"false", b"False", b"FALSE"];
        return if spellings.contains(&value) { Ok(()) } else { Err("invalid boolean".into()) };
    }
    let invalid = || Err("invalid number".to_string());
    for (i, byte) in value.iter().enumerate() {
        let after_e = i > 0 && b"eE".contains(&value[i - 1]);
        let fits = match byte {
            b'0'..=b'9' | b'.' => true,
            b'-' => i == 0 || after_e,
            b'+' => after_e,
            b'e' | b'E' | b'i' => i > 0,
            _ => false,
        };
        if !fits {
            return invalid();
        }
    }
    let count = |bytes: &[u8]| value.iter().filter(|byte| bytes.contains(byte)).count();
    let minus = usize::from(value[0] == b'-');
    let is_integer = count(b"i") > 0;
    if count(b"i") > 1 || count(b".") > 1 || value.len() == minus + count(b"i") + count(b".") {
        return invalid();
    }
    if is_integer && (count(b".eE") > 0 || !value.ends_with(b"i")) {
        return invalid();
    }
    let text = std::str::from_utf8(value).unwrap();
    if is_integer {
        let digits = &text[..text.len() - 1];
        return parse_int(digits)
            .map(|_| ())
            .map_err(|reason| format!("unable to parse integer {digits}: {reason}"));
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(()),
        _ => Err("invalid float".into()),
    }
}

fn parse_int(text: &str) -> Result<i64, Reason> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let words = if digits.is_empty() || digits.contains(|digit: char| !digit.is_ascii_digit()) {
        "invalid syntax"
    } else {
        match text.parse() {
            Ok(value) => return Ok(value),
            Err(_) => "value out of range",
        }
    };
    Err(format!("strconv.ParseInt: parsing \"{text}\": {words}"))
}

fn scan_to(buf: &[u8], start: usize, stop: u8) -> &[u8] {
    let mut i = start;
    while i < buf.len() && !bare(&buf[start..], i - start, &[stop]) {
        i += 1;
    }
    &buf[start..i]
}

/// Unescaped keys and raw values, as the second scanner sees them.
fn walk_fields(mut buf: &[u8], key_bytes: usize) -> Result<Pairs, Reason> {
    let mut pairs = Vec::new();
    while !buf.is_empty() {
        let key = scan_to(buf, 0, b'=');
        if key.len() + 2 > buf.len() {
            return Err(format!("invalid value: field-key={}", Printable(key)));
        }
        let size = key_bytes + 4 + key.len();
        if size > 65535 {
            return Err(format!("max key length exceeded: {size} > 65535"));
        }
        buf = &buf[key.len() + 1..];
        let mut quoted = false;
        let mut i = 0;
        while i < buf.len() {
            if buf[i] == b'\\' && i + 1 < buf.len() && b"\"\\".contains(&buf[i + 1]) {
                i += 2;
                continue;
            }
            if buf[i] == b'"' {
                quoted = !quoted;
            }
            if buf[i] == b',' && !quoted {
                break;
            }
            i += 1;
        }
        pairs.push((unescape(key, b",\" ="), buf[..i].to_vec()));
        buf = buf.get(i + 1..).unwrap_or_default();
    }
    Ok(pairs)
}

fn scan_time(
    buf: &[u8],
    pos: usize,
    multiplier: i64,
    default_time: Option<i64>,
    warning: &mut bool,
) -> Result<i64, Reason> {
    let start = skip_whitespace(buf, pos);
    let mut i = start;
    while i < buf.len() && buf[i] != b'\n' && buf[i] != b' ' {
        if !(buf[i].is_ascii_digit() || i == start && buf[i] == b'-') {
            return Err("bad timestamp".into());
        }
        i += 1;
    }
    if i == start {
        *warning |= i < buf.len();
        return default_time.ok_or_else(|| {
            "no timestamp: a server would take its own clock, and each attempt would make another \
             point; --default-time gives such lines one"
                .into()
        });
    }
    let time = parse_int(std::str::from_utf8(&buf[start..i]).unwrap())?;
    let time = i128::from(time) * i128::from(multiplier);
    let max = i128::from(i64::MAX) - 1;
    if time < -max || time > max {
        return Err(format!("time outside range {} - {max}", -max));
    }
    if buf[i..].iter().any(|&byte| byte != b' ') {
        return Err("point is invalid".into());
    }
    Ok(i64::try_from(time).unwrap())
}

fn unescape(text: &[u8], special: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut i = 0;
    while i < text.len() {
        if text[i] == b'\\' && i + 1 < text.len() && special.contains(&text[i + 1]) {
            i += 1;
        }
        out.push(text[i]);
        i += 1;
    }
    out
}

fn tags(key: &[u8]) -> Pairs {
    let mut tags = Vec::new();
    let mut i = scan_to(key, 0, b',').len() + 1;
    while i < key.len() {
        let name = scan_to(key, i, b'=');
        i += name.len() + 1;
        let value = scan_to(key, i, b',');
        i += value.len() + 1;
        tags.push((name.to_vec(), value.to_vec()));
    }
    tags
}

/// What is stored for a raw value.
fn value(raw: &[u8], warning: &mut bool) -> Result<Stored, Reason> {
    let shown = Printable(raw);
    if raw.is_empty() {
        return Err("unknown field type: the value is empty".into());
    }
    if raw[0] == b'"' {
        if raw.len() == 1 {
            return Err("a value of one quote: the server panics on this line".into());
        }
        let mut i = 1;
        while i < raw.len() && raw[i] != b'"' {
            let pair = raw[i] == b'\\' && i + 1 < raw.len() && b"\"\\".contains(&raw[i + 1]);
            i += if pair { 2 } else { 1 };
        }
        *warning |= i + 1 != raw.len();
        return Ok(Stored::String(unescape(&raw[1..raw.len() - 1], b"\"\\")));
    }
    if !b"0123456789-.nNiIu".contains(&raw[0]) {
        return match raw {
            b"t" | b"T" | b"true" | b"True" | b"TRUE" => Ok(Stored::Boolean(true)),
            b"f" | b"F" | b"false" | b"False" | b"FALSE" => Ok(Stored::Boolean(false)),
            _ => Err(format!("unable to parse bool value \"{shown}\": invalid syntax")),
        };
    }
    let text = String::from_utf8_lossy(raw).into_owned();
    if let Some(digits) = text.strip_suffix('i') {
        let shown = Printable(&raw[..raw.len() - 1]).to_string();
        // Parsed as it is shown, so that the reason shows it in the same way.
        return match (parse_int(digits), parse_int(&shown)) {
            (Ok(value), _) => Ok(Stored::Integer(value)),
            (_, words) => {
                Err(format!("unable to parse integer value \"{shown}\": {}", words.unwrap_err()))
            }
        };
    }
    if let Some(digits) = text.strip_suffix('u') {
        return match digits.parse() {
            Ok(value) if !digits.starts_with('+') => Ok(Stored::Unsigned(value)),
            _ => Err(format!("unable to parse unsigned value \"{shown}\"")),
        };
    }
    let special = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
    match text.parse::<f64>() {
        Ok(value) if value.is_nan() && text.eq_ignore_ascii_case("nan") => {
            Ok(Stored::Float(0x7ff8_0000_0000_0001))
        }
        Ok(value) if value.is_finite() || special == "inf" || special == "infinity" => {
            Ok(Stored::Float(value.to_bits()))
        }
        _ => Err(format!("unable to parse floating point value \"{shown}\"")),
    }
}
