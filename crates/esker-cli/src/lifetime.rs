//! Durations as people write them: `500ms`, `90s`, `5m`, `2h`, `7d`.

use std::time::Duration;

/// Parses a duration: a whole number and its unit.
///
/// # Errors
/// A phrase that says what is wrong with the text.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("'{text}' is not a time like 500ms, 90s, 5m, 2h or 7d");
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().ok().ok_or_else(wrong)?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_a_unit_and_nothing_else() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in
            ["", "5", "s", "-5s", "1.5h", "5 s", "99999999999999999999s", "9999999999999999d"]
        {
            let what = format!("'{wrong}' is not a time like 500ms, 90s, 5m, 2h or 7d");
            assert_eq!(parse(wrong), Err(what));
        }
    }
}
