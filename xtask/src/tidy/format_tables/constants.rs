//! The value of a constant of a Rust file, if it is plain arithmetic.
//!
//! Integers, `+ - * /`, casts, brackets and other constants of the same file; nothing else.

use syn::visit::{self, Visit};
use syn::{BinOp, Expr, Lit};

/// The value of `NAME` or `Type::NAME` in `text`.
///
/// # Errors
/// A phrase, if the file does not parse, has no such constant, or has more than arithmetic.
pub(crate) fn value(text: &str, name: &str) -> Result<u64, String> {
    let file = syn::parse_file(text).map_err(|error| format!("does not parse: {error}"))?;
    let mut constants = Constants::default();
    constants.visit_file(&file);
    constants.value(name, None, 0)
}

/// A constant: type that it is associated with, name, expression.
type Constant<'ast> = (Option<String>, String, &'ast Expr);

#[derive(Default)]
struct Constants<'ast> {
    owner: Option<String>,
    found: Vec<Constant<'ast>>,
}

/// Longest chain of constants that name each other; a longer one is a cycle.
const DEPTH_MAX: usize = 16;

impl Constants<'_> {
    fn value(&self, name: &str, owner: Option<&str>, depth: usize) -> Result<u64, String> {
        if depth > DEPTH_MAX {
            return Err(format!("{name} names itself"));
        }
        let (wanted, plain) = match name.rsplit_once("::") {
            Some(("Self", plain)) => (owner, plain),
            Some((wanted, plain)) => (Some(wanted), plain),
            None => (None, name),
        };
        let mut fits = self.found.iter().filter(|(found, constant, _)| {
            constant == plain && (wanted.is_none() || wanted == found.as_deref())
        });
        let (Some((owner, _, expression)), None) = (fits.next(), fits.next()) else {
            return Err(format!("there is not exactly one constant {name}"));
        };
        self.evaluate(expression, owner.as_deref(), depth).map_err(|what| format!("{name}: {what}"))
    }

    fn evaluate(&self, e: &Expr, owner: Option<&str>, depth: usize) -> Result<u64, String> {
        let too_much = || String::from("says more than arithmetic on constants of its file");
        match e {
            Expr::Lit(lit) => match &lit.lit {
                Lit::Int(int) => int.base10_parse().map_err(|error| error.to_string()),
                _ => Err(too_much()),
            },
            Expr::Paren(inner) => self.evaluate(&inner.expr, owner, depth),
            Expr::Group(inner) => self.evaluate(&inner.expr, owner, depth),
            Expr::Cast(inner) => self.evaluate(&inner.expr, owner, depth),
            Expr::Path(path) => {
                let parts: Vec<_> =
                    path.path.segments.iter().map(|s| s.ident.to_string()).collect();
                self.value(&parts.join("::"), owner, depth + 1)
            }
            Expr::Binary(binary) => {
                let left = self.evaluate(&binary.left, owner, depth)?;
                let right = self.evaluate(&binary.right, owner, depth)?;
                let result = match binary.op {
                    BinOp::Add(_) => left.checked_add(right),
                    BinOp::Sub(_) => left.checked_sub(right),
                    BinOp::Mul(_) => left.checked_mul(right),
                    BinOp::Div(_) => left.checked_div(right),
                    BinOp::Shl(_) => u32::try_from(right).ok().and_then(|by| left.checked_shl(by)),
                    _ => None,
                };
                result.ok_or_else(too_much)
            }
            _ => Err(too_much()),
        }
    }
}

impl<'ast> Visit<'ast> for Constants<'ast> {
    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.found.push((None, item.ident.to_string(), &item.expr));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.owner = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|s| s.ident.to_string()),
            _ => None,
        };
        visit::visit_item_impl(self, item);
        self.owner = None;
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.found.push((self.owner.clone(), item.ident.to_string(), &item.expr));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
        const A: usize = 0x10;
        pub(crate) const B: u64 = (A + 2) as u64 * 3;
        const LOOP: u8 = LOOP;
        const CALL: u8 = f();
        impl X { pub const LEN: usize = Self::PART + 4; const PART: usize = 1 << 3; }
        impl Y { const LEN: usize = 7; }
    ";

    #[test]
    fn arithmetic_is_evaluated() {
        assert_eq!(value(TEXT, "A"), Ok(16));
        assert_eq!(value(TEXT, "B"), Ok(54));
        assert_eq!(value(TEXT, "X::LEN"), Ok(12));
        assert_eq!(value(TEXT, "Y::LEN"), Ok(7));
    }

    #[test]
    fn everything_else_is_refused() {
        for name in ["LEN", "GONE", "LOOP", "CALL", "Z::LEN"] {
            assert!(value(TEXT, name).is_err(), "{name}");
        }
    }
}
