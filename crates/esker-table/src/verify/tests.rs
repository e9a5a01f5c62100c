//! Whole-table checks: sound tables pass, and each kind of lie is named.
