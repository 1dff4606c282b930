//! A tiny MCP server on stdin and stdout, `moongate demo-tools`, so that the tool loop can be seen with nothing else installed.

use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, Write};

use serde_json::{Value, json};

use super::{fingerprint, now};
use crate::chat::Object;

/// The protocol versions that this server speaks, newest first. The wire is the same in all of them for what it offers.
const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Serves until stdin closes: one JSON-RPC message a line, in and out. Fails when stdout is gone.
pub fn serve_stdio() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        if let Some(answer) = answer(&line?) {
            writeln!(out, "{answer}")?;
            out.flush()?;
        }
    }
    Ok(())
}

/// The answer to one line. `None` for notifications, for answers, and for empty lines.
pub fn answer(line: &str) -> Option<String> {
    if line.trim().is_empty() {
        return None;
    }
    let answer = match serde_json::from_str::<Value>(line) {
        Err(error) => failure(&Value::Null, -32700, &format!("Not JSON: {error}.")),
        Ok(message) => {
            let method = message.get("method").and_then(Value::as_str);
            match (message.get("id").filter(|id| !id.is_null()), method) {
                (Some(id), Some(method)) => match call(method, message.get("params").unwrap_or(&Value::Null)) {
                    Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
                    Err((code, why)) => failure(id, code, &why),
                },
                (None, Some(_)) => return None,
                (Some(_), None) if message.get("result").or(message.get("error")).is_some() => return None,
                (id, None) => failure(id.unwrap_or(&Value::Null), -32600, "Not a request of JSON-RPC 2.0."),
            }
        }
    };
    Some(answer.to_string())
}

fn failure(id: &Value, code: i64, why: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": why } })
}

fn call(method: &str, params: &Value) -> Result<Value, (i64, String)> {
    match method {
        "initialize" => {
            let asked = params.get("protocolVersion").and_then(Value::as_str);
            let version = VERSIONS.into_iter().find(|version| asked == Some(version)).unwrap_or(VERSIONS[0]);
            Ok(json!({
                "protocolVersion": version, "capabilities": { "tools": {} },
                "serverInfo": { "name": "moongate-demo-tools", "version": env!("CARGO_PKG_VERSION") },
            }))
        }
        "ping" => Ok(json!({})),
        "tools/list" => Ok(json!({ "tools": tools() })),
        "tools/call" => {
            let none = Object::new();
            let arguments = params.get("arguments").and_then(Value::as_object).unwrap_or(&none);
            let result = match params.get("name").and_then(Value::as_str) {
                Some("get_weather") => weather(arguments),
                Some("get_time") => time(arguments),
                Some("roll_dice") => dice(arguments),
                name => return Err((-32602, format!("Unknown tool: {}.", name.unwrap_or("(no name)")))),
            };
            let (text, is_error) = result.map_or_else(|why| (why, true), |text| (text, false));
            Ok(json!({ "content": [{ "type": "text", "text": text }], "isError": is_error }))
        }
        _ => Err((-32601, format!("Unknown method: {method}."))),
    }
}

fn tools() -> Value {
    json!([
        {
            "name": "get_weather", "description": "The weather in a city. Made up, and always the same for the same city.",
            "inputSchema": {
                "type": "object", "properties": { "city": { "type": "string", "description": "The city's name" } }, "required": ["city"] },
            "annotations": { "readOnlyHint": true },
        },
        {
            "name": "get_time", "description": "The date and time now.",
            "inputSchema": { "type": "object", "properties": {
                "timezone": { "type": "string", "description": "UTC, which is the default, or a distance from it such as +02:00" } } },
            "annotations": { "readOnlyHint": true },
        },
        {
            "name": "roll_dice", "description": "Rolls dice. Truly random.",
            "inputSchema": { "type": "object", "properties": {
                "sides": { "type": "integer", "minimum": 2, "maximum": 1000, "default": 6, "description": "Sides of each die" },
                "count": { "type": "integer", "minimum": 1, "maximum": 100, "default": 1, "description": "How many dice" } } },
            "annotations": { "readOnlyHint": true },
        },
    ])
}

fn weather(arguments: &Object) -> Result<String, String> {
    const SKIES: [&str; 6] = ["sunny", "cloudy", "rainy", "windy", "foggy", "snowy"];
    let city = arguments.get("city").and_then(Value::as_str).map(str::trim).filter(|city| !city.is_empty());
    let city = city.ok_or("get_weather needs `city`, a name.")?;
    let hash = fingerprint(&city.to_lowercase());
    let sky = SKIES[usize::try_from(hash % 6).unwrap_or(0)];
    // Snow stays below 4 degrees, all else between 5 and 30.
    let degrees =
        if sky == "snowy" { i64::try_from(hash / 6 % 12).unwrap_or(0) - 8 } else { i64::try_from(hash / 6 % 26).unwrap_or(0) + 5 };
    Ok(format!("It is {sky} in {city}, {degrees} °C."))
}

fn time(arguments: &Object) -> Result<String, String> {
    let zone = match arguments.get("timezone") {
        None | Some(Value::Null) => "UTC",
        Some(zone) => zone.as_str().ok_or("get_time needs `timezone` to be a text.")?.trim(),
    };
    let offset = offset(zone).ok_or_else(|| format!("get_time does not know `{zone}`: it knows UTC and distances such as +02:00."))?;
    Ok(stamp(i64::try_from(now()).unwrap_or(0), offset))
}

/// The seconds that a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.is_empty() || ["utc", "z", "gmt"].contains(&zone.to_lowercase().as_str()) {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..=14).contains(&hours) && (0..60).contains(&minutes)).then_some(sign * (hours * 3600 + minutes * 60))
}

/// `seconds` since 1970 as RFC 3339 has it, `offset` seconds ahead of UTC.
fn stamp(seconds: i64, offset: i64) -> String {
    let local = seconds + offset;
    let (mut days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while days >= 365 + i64::from(is_leap(year)) {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let months = [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in months {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let sign = if offset < 0 { '-' } else { '+' };
    let zone = if offset == 0 { "Z".to_owned() } else { format!("{sign}{:02}:{:02}", offset.abs() / 3600, offset.abs() % 3600 / 60) };
    format!("{year}-{month:02}-{:02}T{:02}:{:02}:{:02}{zone}", days + 1, second / 3600, second % 3600 / 60, second % 60)
}

fn dice(arguments: &Object) -> Result<String, String> {
    let number = |name: &str, default: u64, least: u64, most: u64| match arguments.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => {
            value.as_u64().filter(|n| (least..=most).contains(n)).ok_or_else(|| format!("roll_dice needs `{name}` from {least} to {most}."))
        }
    };
    let (sides, count) = (number("sides", 6, 2, 1000)?, number("count", 1, 1, 100)?);
    // Every `RandomState` has keys of its own; below 1000 sides the remainder's bias is nothing.
    let random = RandomState::new();
    let rolls: Vec<u64> = (0..count).map(|i| random.hash_one(i) % sides + 1).collect();
    let list = rolls.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let total = if count > 1 { format!(", {} in all", rolls.iter().sum::<u64>()) } else { String::new() };
    Ok(format!("Rolled {list}{total} ({count}d{sides})."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, params: Value) -> Value {
        let line = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params }).to_string();
        let answer: Value = serde_json::from_str(&answer(&line).expect("an answer")).expect("JSON");
        assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(7)));
        answer
    }

    fn text(name: &str, arguments: Value) -> (String, bool) {
        let result = ask("tools/call", json!({ "name": name, "arguments": arguments }))["result"].clone();
        (result["content"][0]["text"].as_str().expect("text").to_owned(), result["isError"] == json!(true))
    }

    #[test]
    fn it_speaks_the_version_that_the_client_asks_for() {
        for version in VERSIONS {
            assert_eq!(ask("initialize", json!({ "protocolVersion": version }))["result"]["protocolVersion"], version);
        }
        assert_eq!(ask("initialize", json!({ "protocolVersion": "1999-01-01" }))["result"]["protocolVersion"], VERSIONS[0]);
        assert_eq!(ask("ping", json!({}))["result"], json!({}));
    }

    #[test]
    fn every_listed_tool_can_be_called() {
        let listed = ask("tools/list", Value::Null)["result"]["tools"].clone();
        for tool in listed.as_array().expect("a list") {
            assert!(jsonschema::meta::is_valid(&tool["inputSchema"]), "{tool}");
            let (text, is_error) = text(tool["name"].as_str().expect("a name"), json!({ "city": "Paris" }));
            assert!(!is_error, "{text}");
        }
        assert_eq!(listed.as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn weather_is_the_same_for_the_same_city() {
        assert_eq!(text("get_weather", json!({ "city": "Paris" })), text("get_weather", json!({ "city": " Paris" })));
        assert_ne!(text("get_weather", json!({ "city": "Paris" })), text("get_weather", json!({ "city": "Oslo" })));
        assert_eq!(text("get_weather", json!({})), ("get_weather needs `city`, a name.".to_owned(), true));
    }

    #[test]
    fn dice_stay_within_their_sides() {
        let (text, is_error) = text("roll_dice", json!({ "sides": 2, "count": 50 }));
        assert!(!is_error && text.ends_with("(50d2)."), "{text}");
        let rolls = text.trim_start_matches("Rolled ").split(", ").take(50);
        assert!(rolls.clone().all(|roll| ["1", "2"].contains(&roll)), "{text}");
        assert_eq!(rolls.collect::<std::collections::BTreeSet<_>>().len(), 2, "{text}");
        assert!(super::tests::text("roll_dice", json!({ "sides": 1 })).1);
    }

    #[test]
    fn time_is_a_calendars() {
        assert_eq!(stamp(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(stamp(1_709_164_799, 0), "2024-02-28T23:59:59Z");
        assert_eq!(stamp(1_709_164_800, 3600), "2024-02-29T01:00:00+01:00");
        assert_eq!(stamp(4_102_444_799, -(5 * 3600 + 1800)), "2099-12-31T18:29:59-05:30");
        assert!(text("get_time", json!({ "timezone": "Mars/Base" })).1);
        assert!(text("get_time", json!({ "timezone": "+02:00" })).0.ends_with("+02:00"));
    }

    #[test]
    fn what_is_no_request_gets_no_result() {
        assert_eq!(answer(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), None);
        assert_eq!(answer(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), None);
        assert_eq!(answer("  "), None);
        let code = |line: &str| serde_json::from_str::<Value>(&answer(line).expect("an answer")).expect("JSON")["error"]["code"].clone();
        assert_eq!(code("{"), -32700);
        assert_eq!(code("[]"), -32600);
        assert_eq!(ask("server/discover", Value::Null)["error"]["code"], -32601);
        assert_eq!(ask("tools/call", json!({ "name": "rm" }))["error"]["code"], -32602);
    }
}
