//! What is found and what is not, and that a stream finds the same.

use std::collections::HashSet;

use super::super::super::meter::cpu_now;
use super::super::regex::cache;
use super::finder::{Finder, KINDS};

fn finder() -> Finder {
    Finder { kinds: (0..KINDS.len()).collect(), patterns: Vec::new(), allow: HashSet::new() }
}

/// `text` with `<kind:finding>` for each finding.
fn marked(finder: &Finder, text: &str) -> String {
    let searched = finder.search::<String>(text, 0, true, || Ok(())).unwrap();
    assert_eq!(searched.settled, text.len());
    mark(text, &searched.findings.iter().map(|found| (found.kind, found.start, found.end)).collect::<Vec<_>>(), 0, text.len())
}

fn mark(text: &str, findings: &[(&str, usize, usize)], mut from: usize, to: usize) -> String {
    let mut marked = String::new();
    for (kind, start, end) in findings {
        marked += &format!("{}<{kind}:{}>", &text[from..*start], &text[*start..*end]);
        from = *end;
    }
    marked + &text[from..to]
}

/// The same for text that comes in pieces, and the most bytes that were held back after one of them.
fn streamed<'a>(finder: &Finder, pieces: impl IntoIterator<Item = &'a str>) -> (String, usize) {
    let (mut held, mut skip, mut result, mut most) = (String::new(), 0, String::new(), 0);
    let mut step = |piece: &str, last: bool| {
        held += piece;
        let searched = finder.search::<String>(&held, skip, last, || Ok(())).unwrap();
        let findings: Vec<_> = searched.findings.iter().map(|found| (found.kind, found.start, found.end)).collect();
        result += &mark(&held, &findings, skip, searched.settled);
        most = most.max(held.len() - searched.settled);
        skip = searched.settled - searched.keep;
        held.drain(..searched.keep);
    };
    pieces.into_iter().for_each(|piece| step(piece, false));
    step("", true);
    (result, most)
}

const PEM: &str =
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAx0Ux2FYyQ1d0\nqqqqqqqqqqqqqqqqqqqq\nAb==\n-----END RSA PRIVATE KEY-----";

#[test]
fn every_kind_is_found_where_it_stands() {
    for expected in [
        "I am <email:ada.lovelace+x@mail.example.co.uk>, not @ada or 3 @ 4, and <<email:bob@x.org>>.",
        "联系<email:ada@example.com>谢谢, <email:o'brien@müller.de>; a@b, a@b.1, x@localhost",
        "mailto:<email:a_b%c@ex-ample.museum>?x=1 -<email:ada@x.org>- see ada@.org @x.org a..@x.org",
        "call <phone:+49 (0) 30 1234567> or <phone:+1 (415) 555-2671>, <phone:+4915112345678>. 5 people",
        "<phone:(415) 555-2671> <phone:415-555-2671>, <phone:1-800-555-0199>; <phone:415.555.2671>.",
        "tel:<phone:030/1234567> <phone:0151 23456789>\n<phone:020 7946 0958>\n<phone:01 23 45 67 89>\n<phone:01.23.45.67.89>\n<phone:(030) 1234567>",
        "from abroad <phone:0049 30 1234567> and <phone:0044 20 7946 0958>",
        "paid with <credit_card:4111 1111 1111 1111> or <credit_card:4111111111111111>, <credit_card:3782-822463-10005> 2028",
        "<credit_card:5555 5555 5555 4444> 123",
        "IBAN <iban:DE89 3704 0044 0532 0130 00>, <iban:GB82WEST12345698765432> and <iban:de89370400440532013000>.",
        "from <ipv4:192.0.2.7>:8080 to <ipv4:10.0.0.0>/8 at http://<ipv4:127.0.0.1>/x",
        "<ipv6:2001:db8::7>, [<ipv6:fe80::1>]:80 and <ipv6:2001:0db8:0000:0000:0000:ff00:0042:8329>: yes",
        "ssn <us_ssn:123-45-6789>.",
        "key=<api_key:sk-proj-abc123DEF456ghi789jkl0> \"<api_key:ghp_abcdefghijklmnopqrstuvwxyz0123456789>\" <api_key:AKIAIOSFODNN7EXAMPLE>",
        "<api_key:AIzaSyA1234567890abcdefghijklmnopqrstuv> <api_key:xoxb-1234567890-abcdef> <api_key:github_pat_11ABCDEFG0123456789abcdefghijkl>",
        "Bearer <api_key:eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U>. Next",
        "postgres://<url_password:app:s3cr@t!>@db.example.org:5432/x and redis://<url_password::pw>@h https://u@h/a:b@c",
    ] {
        let text = unmarked(expected);
        assert_eq!(marked(&finder(), &text), expected);
    }
    assert_eq!(marked(&finder(), &format!("a {PEM} b")), format!("a <api_key:{PEM}> b"));
    let json = format!("{{\"key\":\"{}\\n\"}}", PEM.replace('\n', "\\n"));
    assert_eq!(marked(&finder(), &json), format!("{{\"key\":\"<api_key:{}>\\n\"}}", PEM.replace('\n', "\\n")));
    let cut = PEM.split("\nAb").next().unwrap();
    assert_eq!(marked(&finder(), &format!("{cut}\nend of it")), format!("<api_key:{cut}>\nend of it"));
}

/// The text within the marks.
fn unmarked(text: &str) -> String {
    let mut text = text.to_owned();
    for kind in KINDS.map(|kind| kind.name) {
        while let Some(start) = text.find(&format!("<{kind}:")) {
            // A mark in a mark's angle brackets belongs to the text.
            let end = start + text[start..].find('>').unwrap();
            text.replace_range(end..=end, "");
            text.replace_range(start..start + kind.len() + 2, "");
        }
    }
    text
}

#[test]
fn what_only_looks_alike_is_left_alone() {
    for text in [
        "order 4155552671, id 20241124112908, #0012345678, 4111111111111112, 1234567890123456",
        "on 2024-11-24 11:29:08, 01.02.2024 10:30, 01/02/2024 1234, 24-11-2024, 11:29:08.123, 2024-11-24T11:29:08+02:00",
        "v1.2.3.4, 1.2.3.4.5, 256.1.1.1, 1.2.3, 01.2.3.4, 3.14159, 1,234,567.89, 10 000 000",
        "std::vec, a::b, dead::beef, 12:30:45, aa:bb:cc:dd:ee:ff, ::1, face::",
        "000-12-3456, 666-12-3456, 900-12-3456, 123-00-4567, 123-45-0000, 1123-45-6789, 123-45-67890",
        "DE89370400440532013001, XX89370400440532013000, GB82 WEST 1234, AT40",
        "sk-learn-is-a-library-for-learning, task-sk-1, eyJ, eyJhbGciOi.x, AKIA, AKIAIOSFODNN7EXAMPLES2, ghp_short",
        "-----BEGIN PRIVATE KEY----- is how a private key begins, -----BEGIN CERTIFICATE-----",
        "https://example.com:8080/a@b, //user@host, http://a:b c@d",
        "+49, +0200, +1 2 3, 5+12345678, 1 415 555, 100-200-3000, 200/300/4000, 123-456-78901",
    ] {
        assert_eq!(marked(&finder(), text), text);
    }
}

#[test]
fn options_decide_what_is_found() {
    let only = Finder { kinds: vec![0], ..finder() };
    assert_eq!(marked(&only, "a@b.org 192.0.2.7"), "<email:a@b.org> 192.0.2.7");
    let allow = Finder { allow: HashSet::from(["help@x.org".to_owned()]), ..finder() };
    assert_eq!(marked(&allow, "help@x.org ask.help@x.org"), "help@x.org <email:ask.help@x.org>");
    let own = Finder {
        patterns: vec![("customer".into(), cache::find(r"\bC-\d+").unwrap()), ("line".into(), cache::find("^x.*$").unwrap())],
        ..finder()
    };
    assert_eq!(marked(&own, "C-12 and C-7@x.org\nx y C-1\n"), "<customer:C-12> and <email:C-7@x.org>\n<line:x y C-1>\n");
}

/// Every way to cut each sample into two pieces, many into three, and single characters.
#[test]
fn a_stream_finds_the_same_however_it_is_cut() {
    let samples = [
        "I am ada.lovelace+x@mail.example.co.uk. Call +49 (0) 30 1234567 or (415) 555-2671, card 4111 1111 1111 1111 2025.".to_owned(),
        "联系ada@example.com谢谢 é@ü.de DE89 3704 0044 0532 0130 00, 123-45-6789 – 192.0.2.7.5 10.0.0.1. 2001:db8::7:".to_owned(),
        "redis://:p@ss@host/ sk-proj-abc123DEF456ghi789jkl0 eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0 x"
            .to_owned(),
        format!("a@b.cd\n{PEM}\nC-12 x@y.zz C-3\n+1 415 555 2671 20\n-----BEGIN PRIVATE KEY----- is\n01 23 45 67 89 1"),
        "eyJ-eyJ.eyJ 12 12 12 12 +1+1 1.1.1.1.1 a@a@a.aa@a.aa 0151 23456789 123456 DE89DE89 ::://:@@".to_owned(),
    ];
    let own =
        || vec![("customer".to_owned(), cache::find(r"C-\d+").unwrap()), ("span".to_owned(), cache::find(r"\d@|b\.cd|MIIE\w+$").unwrap())];
    for patterns in [vec![], own()] {
        let finder = Finder { patterns, ..finder() };
        for sample in &samples {
            let expected = marked(&finder, sample);
            let places: Vec<usize> = sample.char_indices().map(|(place, _)| place).chain([sample.len()]).collect();
            for (n, &first) in places.iter().enumerate() {
                assert_eq!(streamed(&finder, [&sample[..first], &sample[first..]]).0, expected, "cut at {first}");
                for &second in places[n..].iter().step_by(7) {
                    let pieces = [&sample[..first], &sample[first..second], &sample[second..]];
                    assert_eq!(streamed(&finder, pieces).0, expected, "cut at {first} and {second}");
                }
            }
            for size in 1..20 {
                let pieces = places
                    .chunks(size)
                    .map(|chunk| &sample[chunk[0]..chunk.last().map_or(0, |last| sample.ceil_char_boundary((last + 1).min(sample.len())))]);
                assert_eq!(streamed(&finder, pieces).0, expected, "pieces of {size}");
            }
        }
    }
}

#[test]
fn little_is_held_back() {
    let finder = finder();
    let prose = "The quick brown fox, 42 of them, jumps over http://example.org/a/b on 2024-11-24 at 11:29. ".repeat(20);
    let pieces = |text: &str| text.chars().map(|c| c.to_string()).collect::<Vec<_>>();
    assert!(streamed(&finder, pieces(&prose).iter().map(String::as_str)).1 < 30);
    for hostile in [
        "a.".repeat(500),
        "1 ".repeat(500),
        "a@b.".repeat(300),
        "http://a:".to_owned() + &"b@".repeat(500),
        "+1-".repeat(500),
        "0:".repeat(500),
    ] {
        let held = streamed(&finder, pieces(&hostile).iter().map(String::as_str)).1;
        assert!(held <= 260, "{held} bytes of {}", &hostile[..20]);
    }
}

/// A text made to be slow costs about what any other does.
#[test]
fn no_text_takes_long() {
    let finder = finder();
    for hostile in [
        "eyJ-",
        "eyJaaaaaaaa.",
        "a.",
        "a@a.",
        "sk-",
        "1 ",
        "1-",
        "-----BEGIN PRIVATE KEY-----\n",
        "DE89 ",
        "://a:",
        "1:",
        "0151 ",
        "a+",
        "(0",
        "+4",
        "-",
        "AAAAAAAAAAAAAAAAAAAAAAAA ",
        "_",
    ] {
        let text = hostile.repeat((64 << 10) / hostile.len());
        let began = cpu_now();
        _ = finder.search::<String>(&text, 0, true, || Ok(()));
        let took = (cpu_now() - began) / 1_000_000;
        assert!(took < 1500, "{hostile}: {took} ms");
    }
    let text = "-----BEGIN PRIVATE KEY-----".to_owned() + &"\nAAAAAAAAAAAAAAAAAAAAAAAA".repeat(20_000);
    assert!(marked(&finder, &text).starts_with("<api_key:-----BEGIN"));
}
