//! Cycles that must be found, and what must not be taken for one.

use super::*;
use crate::tidy::failures_of;

fn run(files: &[(&str, &str)]) -> Vec<String> {
    let mut all =
        vec![("c/src/lib.rs", "mod a; mod b; mod c; pub use b::Thing; pub use c::Other;")];
    all.extend_from_slice(files);
    failures_of(check, &all)
}

#[test]
fn cycle_is_printed_with_its_files() {
    let failures = run(&[
        ("c/src/a.rs", "use crate::b::X;"),
        ("c/src/b.rs", "mod inner;"),
        ("c/src/b/inner.rs", "use super::super::c::{Y, Z};"),
        ("c/src/c.rs", "fn f() { crate::a::g(); }"),
    ]);
    assert_eq!(
        failures,
        ["c/src/: modules form a cycle: \
          a -> b (c/src/a.rs), b -> c (c/src/b/inner.rs), c -> a (c/src/c.rs)"]
    );
}

#[test]
fn cycle_of_modules_below_another_is_printed() {
    let failures = run(&[
        ("c/src/a.rs", "mod x; mod y; mod z; pub struct Own;"),
        ("c/src/a/x.rs", "use super::y::X; use crate::a::Own;"),
        ("c/src/a/y.rs", "use crate::a::x::{Y, Z};"),
        ("c/src/a/z.rs", "use super::x::X; use super::Own;"),
    ]);
    assert_eq!(
        failures,
        ["c/src/: modules form a cycle: a::x -> a::y (c/src/a/x.rs), a::y -> a::x (c/src/a/y.rs)"]
    );
}

#[test]
fn exception_takes_one_edge_out() {
    let files = [
        ("c/src/lib.rs", "mod a; mod b;"),
        ("c/src/a.rs", "use crate::b::X;"),
        ("c/src/b.rs", "use crate::a::X;"),
    ];
    let failures = |exceptions: &[Exception]| {
        let mut report = Report::default();
        check_package(&Tree::of(&files), "c/", exceptions, &mut report);
        report.failure_count()
    };
    assert_eq!(failures(&[("d", "b", "a", "another crate")]), 1);
    assert_eq!(failures(&[("c", "b", "a", "the reason")]), 0);
}

#[test]
fn every_way_to_name_a_module_counts() {
    for (a, b) in [
        ("use crate::{b::X, c::Y};", "use crate::a;"),
        ("use super::b::X;", "fn f(x: crate::a::X) {}"),
        ("use crate::Thing;", "use super::a::*;"),
        ("fn f() { assert!(crate::b::X > 0) }", "use crate::a as other;"),
        ("mod inner { use super::super::b::X; }", "pub use crate::a::X;"),
    ] {
        let failures = run(&[("c/src/a.rs", a), ("c/src/b.rs", b), ("c/src/c.rs", "")]);
        assert_eq!(failures.len(), 1, "{a} / {b}");
    }
}

#[test]
fn tests_children_and_straight_lines_are_no_cycle() {
    for (a, b) in [
        ("use crate::b::X;", "use crate::c::Y; use std::a::X; use other::a;"),
        ("use crate::b::X;", "#[cfg(test)] mod tests { use crate::a::X; }"),
        ("use crate::b::X;", "#[cfg(test)] mod model;"),
        ("use crate::b::X;", "mod a { } use self::a::X;"),
        ("mod b { use super::X; } use self::b::Y;", "use crate::a::X;"),
    ] {
        let model = ("c/src/b/model.rs", "use crate::c::Y;");
        let failures = run(&[("c/src/a.rs", a), ("c/src/b.rs", b), ("c/src/c.rs", ""), model]);
        assert!(failures.is_empty(), "{a} / {b}: {failures:?}");
    }
}

#[test]
fn test_only_file_is_left_out() {
    let files = [
        ("c/src/a.rs", "use crate::b::X;"),
        ("c/src/b.rs", "#[cfg(test)] mod model;"),
        ("c/src/b/model.rs", "use crate::a::X;"),
    ];
    assert!(run(&files).is_empty());
    assert_eq!(run(&[files[0], ("c/src/b.rs", "mod model;"), files[2]]).len(), 1);
}

#[test]
fn text_that_does_not_parse_fails() {
    assert_eq!(run(&[("c/src/a.rs", "fn {")]).len(), 1);
}
