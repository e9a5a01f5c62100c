//! `--prefix-filter`: which prefixes of keys filters hold.

use std::str::FromStr;

use esker::{PrefixRule, UnknownPrefixRule};

use crate::text::with_lower_digits;

/// A rule for prefixes, or that there are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PrefixFilter(pub(crate) Option<PrefixRule>);

impl FromStr for PrefixFilter {
    type Err = UnknownPrefixRule;

    fn from_str(name: &str) -> Result<Self, UnknownPrefixRule> {
        match name {
            "none" => Ok(Self(None)),
            name => with_lower_digits(name).parse().map(Some).map(Self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_named_as_it_is_recorded() {
        let named = |name: &str| name.parse().map(|PrefixFilter(rule)| rule);
        assert_eq!(named("none"), Ok(None));
        assert_eq!(named("first:8"), Ok(Some(PrefixRule::First(8))));
        assert_eq!(named("through:2f"), Ok(Some(PrefixRule::Through(b'/'))));
        assert_eq!(named("through:2F"), Ok(Some(PrefixRule::Through(b'/'))));
        assert_eq!(named("8"), Err(UnknownPrefixRule));
    }
}
