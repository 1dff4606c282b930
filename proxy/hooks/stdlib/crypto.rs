//! The native half of `std.crypto`: hashes, encodings, and what nobody can guess.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use mlua::{Lua, LuaString, Table, Value};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::argument::{self, wrong};

/// The most bytes of one random token.
const MAX_RANDOM: i64 = 1024;

/// Both alphabets are read with and without `=` at the end; the url-safe one is written without.
const STANDARD: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_encode_padding(false),
);

/// Fills the native half.
pub(super) fn install(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.raw_set("sha256", lua.create_function(sha256)?)?;
    native.raw_set("hmac_sha256", lua.create_function(hmac_sha256)?)?;
    native.raw_set("hex", lua.create_function(|_, text: Value| Ok(hex(&argument::bytes("crypto.hex", "the text", &text)?)))?)?;
    native.raw_set("base64_encode", lua.create_function(base64_encode)?)?;
    native.raw_set("base64_decode", lua.create_function(base64_decode)?)?;
    native.raw_set("uuid", lua.create_function(|_, ()| Ok(Uuid::new_v4().to_string()))?)?;
    native.raw_set("equal", lua.create_function(equal)?)?;
    native.raw_set("random", lua.create_function(random)?)
}

fn sha256(_: &Lua, text: Value) -> mlua::Result<String> {
    Ok(hex(&Sha256::digest(&*argument::bytes("crypto.sha256", "the text", &text)?)))
}

fn hmac_sha256(_: &Lua, (key, text): (Value, Value)) -> mlua::Result<String> {
    const NAME: &str = "crypto.hmac_sha256";
    let key = argument::bytes(NAME, "the key", &key)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|error| wrong(NAME, error))?;
    mac.update(&argument::bytes(NAME, "the text", &text)?);
    Ok(hex(&mac.finalize().into_bytes()))
}

fn base64_encode(_: &Lua, (text, options): (Value, Value)) -> mlua::Result<String> {
    let engine = alphabet("crypto.base64_encode", &options)?;
    Ok(engine.encode(&*argument::bytes("crypto.base64_encode", "the text", &text)?))
}

fn base64_decode(lua: &Lua, (text, options): (Value, Value)) -> mlua::Result<LuaString> {
    const NAME: &str = "crypto.base64_decode";
    let engine = alphabet(NAME, &options)?;
    let decoded = engine.decode(&*argument::bytes(NAME, "the text", &text)?);
    lua.create_string(decoded.map_err(|error| wrong(NAME, format_args!("the text is not base64: {error}")))?)
}

/// The alphabet that `{ url = true }` asks for.
fn alphabet(function: &str, options: &Value) -> mlua::Result<GeneralPurpose> {
    let Some(options) = argument::optional_table(function, "the options", options)? else { return Ok(STANDARD) };
    argument::known(function, options, &["url"])?;
    Ok(if options.raw_get::<bool>("url")? { URL_SAFE } else { STANDARD })
}

fn equal(_: &Lua, (a, b): (Value, Value)) -> mlua::Result<bool> {
    let a = argument::bytes("crypto.equal", "the first text", &a)?;
    let b = argument::bytes("crypto.equal", "the second text", &b)?;
    Ok(a.as_ref().ct_eq(b.as_ref()).into())
}

fn random(_: &Lua, length: Value) -> mlua::Result<String> {
    let length = argument::whole("crypto.random", "the number of bytes", &length)?;
    if !(1..=MAX_RANDOM).contains(&length) {
        return Err(wrong("crypto.random", format_args!("the number of bytes is from 1 to {MAX_RANDOM}")));
    }
    let length = usize::try_from(length).unwrap_or_default();
    let mut bytes = Vec::with_capacity(length + 32);
    // Three ids of 122 random bits each, hashed, are 256 bits without the ids' fixed ones.
    while bytes.len() < length {
        let ids = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
        bytes.extend_from_slice(&Sha256::digest(ids.map(Uuid::into_bytes).concat()));
    }
    Ok(hex(&bytes[..length]))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).collect()
}
