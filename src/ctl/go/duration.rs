//! Durations such as `1h2m3.5s`.

/// Reads a duration; nanoseconds. The error is Go's.
pub fn parse(text: &str) -> Result<i64, String> {
    let quoted = || super::quote::quote(text.as_bytes());
    let invalid = || format!("time: invalid duration {}", quoted());
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                .len();
        let (digits, tail) = rest.split_at(number);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let unit_end = tail
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quoted()));
        }
        let nanoseconds: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => {
                let unit = super::quote::quote(unit.as_bytes());
                return Err(format!(
                    "time: unknown unit {unit} in duration {}",
                    quoted()
                ));
            }
        };
        let whole: i128 = match whole {
            "" => 0,
            _ => whole.parse().map_err(|_| invalid())?,
        };
        total = total
            .checked_add(whole.checked_mul(nanoseconds).ok_or_else(invalid)?)
            .ok_or_else(invalid)?;
        // Digits below a nanosecond are cut off.
        let fraction = &fraction[..fraction.len().min(18)];
        if !fraction.is_empty() {
            let parsed: i128 = fraction.parse().map_err(|_| invalid())?;
            total += parsed * nanoseconds / 10_i128.pow(fraction.len() as u32);
        }
        rest = next;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// Writes nanoseconds as a duration.
pub fn print(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    let scaled = |unit: u64, name: &str| format!("{sign}{}{name}", decimal(total, unit));
    match total {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{sign}{total}ns"),
        1_000..1_000_000 => return scaled(1_000, "µs"),
        1_000_000..1_000_000_000 => return scaled(1_000_000, "ms"),
        _ => {}
    }
    let (minutes, below) = (total / 60_000_000_000, total % 60_000_000_000);
    let (hours, minutes_left) = (minutes / 60, minutes % 60);
    let seconds = format!("{}s", decimal(below, 1_000_000_000));
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, _) => format!("{sign}{minutes}m{seconds}"),
        _ => format!("{sign}{hours}h{minutes_left}m{seconds}"),
    }
}

/// A quotient with as many decimals as it needs.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    let fraction = format!("{rest:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_survive_both_ways() {
        for (text, nanoseconds) in [
            ("0s", 0),
            ("15ns", 15),
            ("1.5µs", 1_500),
            ("1.234567ms", 1_234_567),
            ("2s", 2_000_000_000),
            ("1m0s", 60_000_000_000),
            ("1h0m0.5s", 3_600_500_000_000),
            ("-1.5s", -1_500_000_000),
        ] {
            assert_eq!(print(nanoseconds), text);
            assert_eq!(parse(text), Ok(nanoseconds));
        }
        assert_eq!(parse("1.5h"), Ok(5_400_000_000_000));
        assert_eq!(parse("0"), Ok(0));
    }

    #[test]
    fn bad_durations_say_what_is_wrong() {
        let error = |text| parse(text).unwrap_err();
        assert_eq!(error("5"), "time: missing unit in duration \"5\"");
        assert_eq!(error(""), "time: invalid duration \"\"");
        assert_eq!(error("x"), "time: invalid duration \"x\"");
        assert_eq!(error("5y"), "time: unknown unit \"y\" in duration \"5y\"");
        assert_eq!(error("9999999h"), "time: invalid duration \"9999999h\"");
    }
}
