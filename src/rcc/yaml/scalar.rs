//! The meaning of plain scalars by the rules of yaml.v2 2.4: text, a boolean, a number, or null.
//!
//! This answers two questions: what a scalar that was read means, and whether a text can be written without quotes and read back
//! unchanged. yaml.v2 uses the same rule for both, except for dates (read as text, written with quotes) and numbers of base 60.

/// The meaning of a plain scalar that is not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Null.
    Nothing,
    /// True or false.
    Truth(bool),
    /// Any number.
    Number,
}

/// The meaning of a plain scalar in yaml.v2; `None` for text, which includes dates.
pub(super) fn meaning(word: &str) -> Option<Word> {
    let spelled = |lower: &str| {
        let mut capital = lower.to_owned();
        capital[..1].make_ascii_uppercase();
        word == lower || word == capital || word == lower.to_ascii_uppercase()
    };
    match word.bytes().next() {
        None => Some(Word::Nothing),
        Some(b'~' | b'n' | b'N') if word == "~" || spelled("null") => Some(Word::Nothing),
        Some(b'y' | b'Y' | b't' | b'T' | b'o' | b'O')
            if ["y", "yes", "true", "on"].iter().any(|it| spelled(it)) =>
        {
            Some(Word::Truth(true))
        }
        Some(b'n' | b'N' | b'f' | b'F' | b'o' | b'O')
            if ["n", "no", "false", "off"].iter().any(|it| spelled(it)) =>
        {
            Some(Word::Truth(false))
        }
        Some(b'.') if matches!(word, ".nan" | ".NaN" | ".NAN") || is_infinite(word) || is_float(word) => {
            Some(Word::Number)
        }
        Some(b'+' | b'-' | b'0'..=b'9') if !is_date(word) && is_number(word) => Some(Word::Number),
        _ => None,
    }
}

/// True if yaml.v2 writes the text without quotes, as far as its meaning is concerned.
pub fn is_text(text: &str) -> bool {
    meaning(text).is_none() && !is_date(text) && !is_base_60(text)
}

fn is_infinite(word: &str) -> bool {
    matches!(word, ".inf" | ".Inf" | ".INF")
}

fn is_number(word: &str) -> bool {
    if is_infinite(word.trim_start_matches(['+', '-'])) && word.len() == 5 {
        return true;
    }
    let plain = word.replace('_', "");
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    is_integer(unsigned, plain.starts_with('-')) || is_float(unsigned)
}

/// Go's `strconv.ParseInt` and `ParseUint` of base 0.
fn is_integer(digits: &str, negative: bool) -> bool {
    let prefixes = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)];
    let prefixed = prefixes.iter().find_map(|&(prefix, radix)| Some((digits.strip_prefix(prefix)?, radix)));
    let (digits, radix) = match prefixed {
        Some(found) => found,
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return false;
    }
    match u64::from_str_radix(digits, radix) {
        Ok(value) => !negative || value <= 1 << 63,
        Err(_) => false,
    }
}

/// The pattern of yaml.v2: digits, an optional point, an optional exponent.
fn is_float(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let exponent = exponent.map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|text| !text.is_empty() && digits(text))
}

/// Numbers such as `190:20:30`, which yaml.v2 reads as text but never writes without quotes.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = unsigned.split(':');
    let first = parts.next().unwrap_or_default();
    let mut rest: Vec<&str> = parts.collect();
    let Some(last) = rest.pop() else { return false };
    let (last, fraction) = last.split_once('.').unwrap_or((last, ""));
    let digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'_';
    let sixty = |part: &str| match part.as_bytes() {
        [one] => one.is_ascii_digit(),
        [ten, one] => matches!(ten, b'0'..=b'5') && one.is_ascii_digit(),
        _ => false,
    };
    first.starts_with(|c: char| c.is_ascii_digit())
        && first.as_bytes().iter().all(digit)
        && rest.into_iter().chain([last]).all(sixty)
        && fraction.as_bytes().iter().all(digit)
}

/// The four time formats that yaml.v2 recognizes.
fn is_date(word: &str) -> bool {
    let Some((date, time)) = word.find(['T', 't', ' ']).map(|at| word.split_at(at)).or(Some((word, "")))
    else {
        return false;
    };
    let mut parts = date.splitn(3, '-');
    let (Some(year), Some(month), Some(day)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let (Some(month), Some(day)) = (short(month), short(day)) else { return false };
    if year.len() != 4 || !year.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let year: u32 = year.parse().unwrap_or_default();
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    (1..=12).contains(&month) && (1..=days[month as usize - 1]).contains(&day) && is_time(time)
}

/// The part after the date, including the separator.
fn is_time(text: &str) -> bool {
    let Some(mark) = text.chars().next() else { return true };
    let (clock, zone) = match (mark, text[1..].find(['Z', '+', '-'])) {
        (' ', None) => (&text[1..], "Z"),
        ('T' | 't', Some(at)) => text[1..].split_at(at),
        _ => return false,
    };
    let (clock, fraction) =
        clock.find(['.', ',']).map_or((clock, "0"), |at| (&clock[..at], &clock[at + 1..]));
    let parts: Vec<Option<u32>> = clock.split(':').map(short).collect();
    let zone = zone == "Z"
        || zone[1..].split_once(':').is_some_and(|(hours, minutes)| {
            [hours, minutes].iter().all(|part| part.len() == 2 && short(part).is_some())
        });
    let [Some(hour), Some(minute), Some(second)] = parts[..] else { return false };
    hour < 24
        && minute < 60
        && second < 60
        && zone
        && !fraction.is_empty()
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
}

/// A number of one or two digits.
fn short(text: &str) -> Option<u32> {
    let fits = matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}
