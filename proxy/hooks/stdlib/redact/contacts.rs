//! Finds e-mail addresses, and credentials in URLs.

use super::cursor::{Cursor, Found, is_word};

/// The longest local part and domain, in bytes.
const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 190;

/// The longest credentials in a URL, in bytes.
const MAX_CREDENTIALS: usize = 250;

/// `ada.lovelace+x@mail.example.org`.
pub(super) fn email(mut cursor: Cursor) -> Found {
    // Most words of a text are not followed by any `@`; the longest local part ends in a character of at most four bytes.
    if cursor.lacks(b'@', MAX_LOCAL + 8) || cursor.before().is_some_and(is_word) || !cursor.pass(is_word)? {
        return Ok(None);
    }
    cursor.pass_all(MAX_LOCAL, |c| is_word(c) || "._%+-'".contains(c))?;
    if cursor.is_behind(".") || !cursor.pass(|c| c == '@')? {
        return Ok(None);
    }
    let domain = cursor.at;
    let (mut n_labels, mut end) = (0, None);
    loop {
        let label = cursor.at;
        let room = (domain + MAX_DOMAIN).saturating_sub(label).min(63);
        cursor.pass_all(room, |c| is_word(c) || c == '-')?;
        let name = cursor.since(label).trim_end_matches('-');
        if name.is_empty() || name.starts_with('-') {
            break;
        }
        n_labels += 1;
        let is_top = name.chars().next().is_some_and(char::is_alphabetic) && name.chars().nth(1).is_some();
        if n_labels > 1 && is_top {
            end = Some(label + name.len());
        }
        let goes_on = cursor.peek()? == Some('.') && cursor.peek_second()?.is_some_and(is_word);
        if !goes_on || cursor.at - domain >= MAX_DOMAIN {
            break;
        }
        cursor.at += 1;
    }
    Ok(end)
}

/// `user:password` of `postgres://user:password@host/`.
pub(super) fn url_password(mut cursor: Cursor) -> Found {
    if !cursor.is_behind("://") {
        return Ok(None);
    }
    let start = cursor.at;
    // A password may have an `@` of its own: the last one before the path counts.
    let (mut colon, mut end) = (None, None);
    while cursor.at - start < MAX_CREDENTIALS {
        match cursor.peek()? {
            Some(':') if colon.is_none() => colon = Some(cursor.at),
            Some('@') if colon.is_some_and(|colon| colon + 1 < cursor.at) => end = Some(cursor.at),
            None | Some('/' | '"' | '\'' | '`' | '<' | '>' | '\\') => break,
            Some(c) if c.is_whitespace() => break,
            Some(_) => {}
        }
        cursor.pass(|_| true)?;
    }
    Ok(end)
}
