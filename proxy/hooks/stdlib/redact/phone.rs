//! Finds telephone numbers: international ones, and national ones that are written as people write them. Not dates, not bare numbers.

use super::cursor::{Cursor, Found};
use super::numbers::Groups;

/// The most digits of a number, with a `00` before it.
const MAX_DIGITS: usize = 17;

/// `+49 30 1234567`, `0044 20 7946 0958`, `030/1234567`, `01 23 45 67 89`, `(415) 555-2671`, `1-800-555-0199`.
pub(super) fn phone(mut cursor: Cursor) -> Found {
    if !cursor.begins(".-/") {
        return Ok(None);
    }
    let begin = cursor;
    let is_international = cursor.pass(|c| c == '+')?;
    let digits = cursor.at + usize::from(!is_international && cursor.peek()? == Some('('));
    let groups = Groups::read(&mut cursor, " -./\u{a0}", true, MAX_DIGITS)?;
    let Some(&(first, first_end)) = groups.places.first() else { return Ok(None) };
    if first != digits {
        return Ok(None);
    }
    let lead = begin.moved(first_end).since(first);
    let n_groups = if is_international {
        if lead.starts_with('0') { None } else { whole_groups(&groups, 8, 15) }
    } else if lead.starts_with("00") {
        let is_country = (3..=6).contains(&lead.len()) && !lead.starts_with("000");
        if is_country { whole_groups(&groups, 10, MAX_DIGITS).filter(|n_groups| *n_groups > 1) } else { None }
    } else if lead.starts_with('0') {
        national(&groups)
    } else {
        american(&groups, lead, begin)
    };
    let Some(end) = n_groups.and_then(|n_groups| groups.end(n_groups)) else { return Ok(None) };
    let end = begin.moved(end);
    Ok(end.ends(if is_international { "" } else { ":" })?.then_some(end.at))
}

/// The most groups that have from `min` to `max` digits together. A single digit behind a number that is whole is another number.
fn whole_groups(groups: &Groups, min: usize, max: usize) -> Option<usize> {
    let mut best = None;
    for n_groups in 1..=groups.places.len() {
        let n_digits = groups.n_digits(n_groups);
        let stray = best.is_some() && groups.length(n_groups - 1) == 1;
        if n_digits > max || stray {
            break;
        }
        if n_digits >= min {
            best = Some(n_groups);
        }
    }
    best
}

/// A number that begins with the zero of its area: with separators, and no date.
fn national(groups: &Groups) -> Option<usize> {
    if !(2..=6).contains(&groups.length(0)) {
        return None;
    }
    let pairs = groups.places.len() >= 5 && (0..5).all(|group| groups.length(group) == 2);
    if pairs {
        return Some(5);
    }
    let is_date = groups.length(0) == 2 && groups.length(1) == 2 && groups.length(2) >= 2;
    if is_date || groups.separators.contains(&'.') {
        return None;
    }
    whole_groups(groups, 9, 12).filter(|n_groups| *n_groups > 1)
}

/// Three, three and four digits, after a 1 or not.
fn american(groups: &Groups, lead: &str, begin: Cursor) -> Option<usize> {
    let area = usize::from(lead == "1");
    let n_groups = area + 3;
    if groups.places.len() < n_groups || (0..3).map(|n| groups.length(area + n)).ne([3, 3, 4]) {
        return None;
    }
    let separators = &groups.separators[area..n_groups - 1];
    let even = separators[0] == '(' || separators[0] == separators[1];
    let is_code = |group: usize| {
        let (start, end) = groups.places[group];
        begin.moved(end).since(start).starts_with(|c| ('2'..='9').contains(&c))
    };
    let goes_on = groups.separators.get(n_groups - 1).is_some_and(|next| *next != ' ');
    (even && !separators.contains(&'/') && is_code(area) && is_code(area + 1) && !goes_on).then_some(n_groups)
}
