//! Integers and booleans with the errors of Go's `strconv`.

use super::quote::quote;

/// `strconv.ParseInt`; `radix` 0 means by prefix, as in a Go literal.
pub fn parse_int(text: &str, radix: u32) -> Result<i64, String> {
    parse("ParseInt", text, radix, true).and_then(|wide| {
        i64::try_from(wide).map_err(|_| error("ParseInt", text, "value out of range"))
    })
}

/// `strconv.ParseUint`.
pub fn parse_uint(text: &str, radix: u32) -> Result<u64, String> {
    parse("ParseUint", text, radix, false).and_then(|wide| {
        u64::try_from(wide).map_err(|_| error("ParseUint", text, "value out of range"))
    })
}

/// `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(error("ParseBool", text, "invalid syntax")),
    }
}

fn error(function: &str, text: &str, why: &str) -> String {
    format!(
        "strconv.{function}: parsing {}: {why}",
        quote(text.as_bytes())
    )
}

fn parse(function: &str, text: &str, radix: u32, signed: bool) -> Result<i128, String> {
    let invalid = || error(function, text, "invalid syntax");
    let (negative, body) = match text.strip_prefix(['-', '+']) {
        Some(body) if signed => (text.starts_with('-'), body),
        Some(_) => return Err(invalid()),
        None => (false, text),
    };
    let lower = body.to_ascii_lowercase();
    let (radix, digits) = match radix {
        0 if lower.starts_with("0x") => (16, &body[2..]),
        0 if lower.starts_with("0b") => (2, &body[2..]),
        0 if lower.starts_with("0o") => (8, &body[2..]),
        0 if lower.len() > 1 && lower.starts_with('0') => (8, &body[1..]),
        0 => (10, body),
        radix => (radix, body),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(invalid());
    }
    // More digits than this type holds are out of every range.
    let magnitude = i128::from_str_radix(digits, radix).unwrap_or(i128::MAX);
    Ok(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_in_every_radix() {
        assert_eq!(parse_int("-12", 10), Ok(-12));
        assert_eq!(parse_int("0x1f", 0), Ok(31));
        assert_eq!(parse_int("017", 0), Ok(15));
        assert_eq!(parse_uint("ffffffffffffffff", 16), Ok(u64::MAX));
    }

    #[test]
    fn errors_are_gos() {
        let text = "strconv.ParseInt: parsing \"x\": invalid syntax";
        assert_eq!(parse_int("x", 10).unwrap_err(), text);
        let text = "strconv.ParseInt: parsing \"ffffffffffffffff\": value out of range";
        assert_eq!(parse_int("ffffffffffffffff", 16).unwrap_err(), text);
        let text = "strconv.ParseInt: parsing \"0x1\": invalid syntax";
        assert_eq!(parse_int("0x1", 16).unwrap_err(), text);
        let text = "strconv.ParseUint: parsing \"-1\": invalid syntax";
        assert_eq!(parse_uint("-1", 0).unwrap_err(), text);
        let text = "strconv.ParseBool: parsing \"maybe\": invalid syntax";
        assert_eq!(parse_bool("maybe").unwrap_err(), text);
        let text = "strconv.ParseInt: parsing \"99999999999999999999999999999999999999999\": \
                    value out of range";
        let digits = "99999999999999999999999999999999999999999";
        assert_eq!(parse_int(digits, 10).unwrap_err(), text);
    }
}
