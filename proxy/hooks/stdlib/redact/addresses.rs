//! Finds IP addresses.

use std::net::Ipv6Addr;

use super::cursor::{Cursor, Found};

/// `192.0.2.7`, not a part of a longer row of numbers.
pub(super) fn ipv4(mut cursor: Cursor) -> Found {
    if !cursor.begins(".") {
        return Ok(None);
    }
    for n in 0..4 {
        if n > 0 && !cursor.pass(|c| c == '.')? {
            return Ok(None);
        }
        let start = cursor.at;
        cursor.pass_all(4, |c| c.is_ascii_digit())?;
        let octet = cursor.since(start);
        if octet.parse::<u8>().is_err() || (octet.len() > 1 && octet.starts_with('0')) {
            return Ok(None);
        }
    }
    Ok(cursor.ends(".")?.then_some(cursor.at))
}

/// `2001:db8::7`. Eight groups, or a first group as real networks have it: `dead::beef` in a program is a name.
pub(super) fn ipv6(mut cursor: Cursor) -> Found {
    const LONGEST: usize = 45;
    if !cursor.begins(".:") {
        return Ok(None);
    }
    let start = cursor.at;
    cursor.pass_all(4, |c| c.is_ascii_hexdigit())?;
    let first = cursor.at - start;
    if first == 0 || cursor.peek()? != Some(':') {
        return Ok(None);
    }
    cursor.pass_all(LONGEST + 1, |c| c.is_ascii_hexdigit() || c == ':' || c == '.')?;
    let run = cursor.since(start);
    // The end of a sentence, or a colon behind the address.
    let address = run.strip_suffix('.').unwrap_or(run);
    let address = if address.ends_with("::") { address } else { address.strip_suffix(':').unwrap_or(address) };
    if address.len() > LONGEST || address.parse::<Ipv6Addr>().is_err() || !cursor.ends("")? {
        return Ok(None);
    }
    let is_network = first >= 3 && address.bytes().any(|byte| byte.is_ascii_digit());
    Ok((is_network || !address.contains("::")).then_some(start + address.len()))
}
