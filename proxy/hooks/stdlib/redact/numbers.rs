//! Finds numbers of people: cards, bank accounts, social security. Check digits tell them from the numbers of orders.

use super::cursor::{Cursor, Found, Open};

/// Groups of digits with separators between them: `4111 1111 1111 1111`.
pub(super) struct Groups {
    /// Where each group begins and ends.
    pub places: Vec<(usize, usize)>,
    /// What stands before each group but the first; `(` where there is a bracket.
    pub separators: Vec<char>,
}

impl Groups {
    /// Reads groups of at most `max_digits` digits together. A bracket may stand where `brackets` is set.
    pub(super) fn read(cursor: &mut Cursor, separators: &str, brackets: bool, max_digits: usize) -> Result<Groups, Open> {
        let mut groups = Groups { places: Vec::new(), separators: Vec::new() };
        let is_separator = |c: char| separators.contains(c);
        let mut depth = i32::from(brackets && cursor.pass(|c| c == '(')?);
        let (mut n_digits, mut separator) = (0, None);
        loop {
            let start = cursor.at;
            let length = cursor.pass_all(max_digits + 1, |c| c.is_ascii_digit())?;
            n_digits += length;
            if length == 0 || n_digits > max_digits {
                return Ok(groups);
            }
            groups.places.push((start, cursor.at));
            groups.separators.extend(separator);
            // A separator, or one bracket with at most a separator before the opening one and behind the closing one.
            let next = cursor.peek()?;
            let mut found = if depth > 0 { None } else { next.filter(|next| is_separator(*next)) };
            cursor.pass(|c| Some(c) == found)?;
            if brackets && depth == 0 && cursor.pass(|c| c == '(')? {
                (depth, found) = (1, Some('('));
            } else if depth > 0 && cursor.pass(|c| c == ')')? {
                (depth, found) = (0, Some('('));
                cursor.pass(is_separator)?;
            }
            if found.is_none() {
                return Ok(groups);
            }
            separator = found;
        }
    }

    pub(super) fn length(&self, group: usize) -> usize {
        self.places.get(group).map_or(0, |(start, end)| end - start)
    }

    /// How many digits the first `n_groups` groups have together.
    pub(super) fn n_digits(&self, n_groups: usize) -> usize {
        (0..n_groups).map(|group| self.length(group)).sum()
    }

    /// Where the first `n_groups` groups end.
    pub(super) fn end(&self, n_groups: usize) -> Option<usize> {
        self.places.get(n_groups.checked_sub(1)?).map(|(_, end)| *end)
    }
}

/// A card's number: of a known network, with its length, and the check digit right.
pub(super) fn credit_card(mut cursor: Cursor) -> Found {
    if !cursor.begins(".-") {
        return Ok(None);
    }
    let begin = cursor;
    let groups = Groups::read(&mut cursor, " -", false, 19)?;
    for n_groups in (1..=groups.places.len()).rev() {
        let Some(end) = groups.end(n_groups) else { continue };
        let separators = &groups.separators[..n_groups - 1];
        let even = separators.iter().all(|separator| Some(separator) == separators.first());
        let shaped = n_groups == 1 || (groups.length(0) == 4 && (1..n_groups).all(|group| (2..=7).contains(&groups.length(group))));
        if !even || !shaped || !(13..=19).contains(&groups.n_digits(n_groups)) {
            continue;
        }
        let end = begin.moved(end);
        let digits: Vec<u32> = end.since(begin.at).chars().filter_map(|c| c.to_digit(10)).collect();
        if is_card(&digits) && end.ends("-.")? {
            return Ok(Some(end.at));
        }
    }
    Ok(None)
}

fn is_card(digits: &[u32]) -> bool {
    let prefix = |n: usize| digits.iter().take(n).fold(0, |number, digit| number * 10 + digit);
    let lengths: &[usize] = match (prefix(1), prefix(2), prefix(4)) {
        (4, _, _) => &[13, 16, 19],
        (_, 51..=55, _) | (_, _, 2221..=2720) => &[16],
        (_, 34 | 37, _) => &[15],
        (_, 30 | 36 | 38, _) => &[14, 16],
        (_, 35, _) | (_, _, 6011) | (_, 64 | 65, _) => &[16, 17, 18, 19],
        (_, 50 | 56..=58 | 62 | 63 | 67, _) => &[16, 17, 18, 19],
        _ => &[],
    };
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(n, &digit)| if n % 2 == 0 { digit } else { digit * 2 / 10 + digit * 2 % 10 }).sum();
    lengths.contains(&digits.len()) && sum.is_multiple_of(10)
}

/// `123-45-6789`, without the numbers that are never given out.
pub(super) fn us_ssn(mut cursor: Cursor) -> Found {
    if !cursor.begins(".-/") {
        return Ok(None);
    }
    let start = cursor.at;
    let groups = Groups::read(&mut cursor, "-", false, 13)?;
    if groups.places.iter().map(|(start, end)| end - start).ne([3, 2, 4]) {
        return Ok(None);
    }
    let Some(end) = groups.end(3) else { return Ok(None) };
    cursor.at = end;
    let number = cursor.since(start);
    let is_given = !["000", "666", "9"].iter().any(|area| number.starts_with(area)) && &number[4..6] != "00" && &number[7..] != "0000";
    Ok((is_given && cursor.ends("-.")?).then_some(end))
}

/// How long an account number is, check digits and country included, by country.
const IBAN_LENGTHS: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 \
     FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 \
     MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 \
     VG24 XK20 YE30";

/// An account's number of a known country, with its length, and the check digits right; with or without spaces.
pub(super) fn iban(mut cursor: Cursor) -> Found {
    if !cursor.begins("") || !cursor.pass(|c| c.is_ascii_alphabetic())? || !cursor.pass(|c| c.is_ascii_alphabetic())? {
        return Ok(None);
    }
    if !cursor.peek()?.is_some_and(|c| c.is_ascii_digit()) {
        return Ok(None);
    }
    let country = cursor.since(cursor.at - 2).to_ascii_uppercase();
    let length = IBAN_LENGTHS.split_whitespace().find_map(|entry| entry.strip_prefix(country.as_str())?.parse::<usize>().ok());
    let Some(length) = length else { return Ok(None) };
    let mut letters = country;
    while letters.len() < length {
        let start = cursor.at;
        let digits_only = letters.len() < 4;
        if cursor.pass(|c| if digits_only { c.is_ascii_digit() } else { c.is_ascii_alphanumeric() })? {
            letters.push_str(cursor.since(start));
        } else if !(letters.len() >= 4
            && cursor.pass(|c| " -\u{a0}".contains(c))?
            && cursor.peek()?.is_some_and(|c| c.is_ascii_alphanumeric()))
        {
            return Ok(None);
        }
    }
    // ISO 7064: the first four to the end, letters as 10 to 35, and the remainder is one.
    let rotated = letters[4..].chars().chain(letters[..4].chars());
    let remainder = rotated.filter_map(|c| c.to_digit(36)).fold(0, |rest, value| (rest * if value > 9 { 100 } else { 10 } + value) % 97);
    Ok((remainder == 1 && cursor.ends("")?).then_some(cursor.at))
}
