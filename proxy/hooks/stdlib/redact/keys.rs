//! Finds API keys, tokens and private keys by how their makers let them begin.

use super::cursor::{Cursor, Found, Open};

/// The longest secret, in bytes. Of a longer one the rest is taken for text.
pub(super) const MAX_SECRET: usize = 16 << 10;

/// A maker's keys: what they begin with, and at least and at most how many characters follow.
struct Maker {
    prefix: &'static str,
    min: usize,
    max: usize,
    alphabet: fn(char) -> bool,
}

const fn maker(prefix: &'static str, min: usize) -> Maker {
    Maker { prefix, min, max: MAX_SECRET, alphabet: is_token }
}

const MAKERS: [Maker; 29] = [
    maker("sk-", 20),
    maker("sk_live_", 16),
    maker("sk_test_", 16),
    maker("rk_live_", 16),
    maker("rk_test_", 16),
    maker("whsec_", 16),
    maker("ghp_", 30),
    maker("gho_", 30),
    maker("ghu_", 30),
    maker("ghs_", 30),
    maker("ghr_", 30),
    maker("github_pat_", 30),
    maker("glpat-", 20),
    maker("xoxb-", 10),
    maker("xoxp-", 10),
    maker("xoxa-", 10),
    maker("xoxr-", 10),
    maker("xoxs-", 10),
    maker("xoxe-", 10),
    maker("xapp-", 10),
    maker("hf_", 30),
    maker("gsk_", 30),
    maker("npm_", 30),
    maker("pypi-", 40),
    maker("dop_v1_", 40),
    maker("AIza", 35),
    maker("ya29.", 20),
    Maker { prefix: "AKIA", min: 16, max: 16, alphabet: is_upper },
    Maker { prefix: "ASIA", min: 16, max: 16, alphabet: is_upper },
];

/// A key of one of the makers, a JWT, or a private key in PEM.
pub(super) fn api_key(cursor: Cursor) -> Found {
    if cursor.before().is_some_and(is_token) {
        return Ok(None);
    }
    match cursor.peek()? {
        Some('-') => private_key(cursor),
        Some('e') => jwt(cursor),
        Some(first) if first.is_ascii_alphabetic() => {
            for maker in MAKERS.iter().filter(|maker| maker.prefix.starts_with(first)) {
                if let Some(end) = key(cursor, maker)? {
                    return Ok(Some(end));
                }
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

fn key(mut cursor: Cursor, maker: &Maker) -> Found {
    if !cursor.pass_word(maker.prefix)? {
        return Ok(None);
    }
    let start = cursor.at;
    let length = cursor.pass_all(maker.max, maker.alphabet)?;
    let is_exact = maker.max == MAX_SECRET || !cursor.peek()?.is_some_and(is_token);
    // Words with hyphens between them have no digit.
    let is_key = length >= maker.min && cursor.since(start).bytes().any(|byte| byte.is_ascii_digit());
    Ok((is_key && is_exact).then_some(cursor.at))
}

/// `eyJ...`, a point, and up to four more parts: signed and encrypted tokens.
fn jwt(mut cursor: Cursor) -> Found {
    let start = cursor.at;
    if !cursor.pass_word("eyJ")? || cursor.pass_all(MAX_SECRET, is_token)? < 8 || cursor.peek()? != Some('.') {
        return Ok(None);
    }
    let mut end = None;
    for _ in 0..4 {
        let room = MAX_SECRET.saturating_sub(cursor.at - start);
        if room == 0 || cursor.peek()? != Some('.') || !cursor.peek_second()?.is_some_and(is_token) {
            break;
        }
        cursor.at += 1;
        let length = cursor.pass_all(room, is_token)?;
        if end.is_some() || length >= 8 {
            end = Some(cursor.at);
        }
    }
    Ok(end)
}

/// From `-----BEGIN ... PRIVATE KEY-----` to its end; without one, as far as it looks like a key. A line may end in `\n` as JSON has it.
fn private_key(mut cursor: Cursor) -> Found {
    const BEGIN: &str = "-----BEGIN ";
    const MAX_LABEL: usize = 40;
    let start = cursor.at;
    if !cursor.pass_word(BEGIN)? {
        return Ok(None);
    }
    let label = cursor.at;
    cursor.pass_all(MAX_LABEL, |c| c.is_ascii_uppercase() || c == ' ')?;
    if !cursor.since(label).ends_with("PRIVATE KEY") || !cursor.pass_word("-----")? {
        return Ok(None);
    }
    let mut end = None;
    while cursor.at - start < MAX_SECRET {
        pass_space(&mut cursor, start)?;
        if cursor.pass_word("-----END ")? {
            cursor.pass_all(MAX_LABEL, |c| c.is_ascii_uppercase() || c == ' ')?;
            cursor.pass_word("-----")?;
            return Ok(Some(cursor.at));
        }
        if cursor.pass_word("Proc-Type:")? || cursor.pass_word("DEK-Info:")? {
            cursor.pass_all(100, |c| c != '\n' && c != '\\')?;
            continue;
        }
        let room = MAX_SECRET.saturating_sub(cursor.at - start);
        let length = cursor.pass_all(room, |c| c.is_ascii_alphanumeric() || "+/=".contains(c))?;
        let is_body = length >= 16 || (length > 0 && is_at_end(cursor, start)?);
        if !is_body {
            break;
        }
        end = Some(cursor.at);
    }
    Ok(end)
}

fn pass_space(cursor: &mut Cursor, start: usize) -> Result<(), Open> {
    while cursor.at - start < MAX_SECRET {
        let escaped = cursor.peek()? == Some('\\') && cursor.peek_second()?.is_some_and(|c| c == 'n' || c == 'r');
        if escaped {
            cursor.at += 2;
        } else if !cursor.pass(|c| c.is_ascii_whitespace())? {
            break;
        }
    }
    Ok(())
}

/// Whether the key's end follows: its last line is short.
fn is_at_end(mut cursor: Cursor, start: usize) -> Result<bool, Open> {
    pass_space(&mut cursor, start)?;
    cursor.pass_word("-----END ")
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn is_upper(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit()
}
