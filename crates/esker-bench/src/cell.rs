//! What one run of one row on one engine has measured.

use std::fmt::Write as _;

/// The figures. Those that a row does not have are zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cell {
    /// Operations or entries; both of a read and a write count.
    pub(crate) operations: f64,
    pub(crate) seconds: f64,
    /// Until background work was done, after the operations.
    pub(crate) settle_seconds: f64,
    /// Of all threads, until settled where the row writes.
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_bytes: f64,
    /// By `write_bytes` of `/proc/self/io`, until settled.
    pub(crate) written_bytes: f64,
    /// Bytes of keys and values that were written.
    pub(crate) user_bytes: f64,
    /// Space that the files take in the end.
    pub(crate) disk_bytes: f64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
    pub(crate) p999_micros: f64,
    pub(crate) max_micros: f64,
    /// Reads whose value was compared with what it must be.
    pub(crate) verified: f64,
    /// Load average when the row began.
    pub(crate) load: f64,
}

macro_rules! fields {
    ($cell:expr, $with:ident) => {{
        let cell = $cell;
        $with!(
            cell,
            operations,
            seconds,
            settle_seconds,
            cpu_seconds,
            peak_bytes,
            written_bytes,
            user_bytes,
            disk_bytes,
            p50_micros,
            p99_micros,
            p999_micros,
            max_micros,
            verified,
            load
        )
    }};
}

impl Cell {
    /// Every figure with its name.
    pub(crate) fn named(&self) -> Vec<(&'static str, f64)> {
        macro_rules! list {
            ($cell:ident, $($name:ident),*) => { vec![$((stringify!($name), $cell.$name)),*] };
        }
        fields!(self, list)
    }

    /// As one line for the parent process.
    pub(crate) fn to_line(&self) -> String {
        let mut line = String::from("cell");
        for (name, value) in self.named() {
            write!(line, " {name}={value}").expect("a string takes everything");
        }
        line
    }

    /// Reads what [`Cell::to_line`] wrote; `None` for any other line.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let mut cell = Self::default();
        for word in line.strip_prefix("cell ")?.split(' ') {
            let (name, value) = word.split_once('=')?;
            let value: f64 = value.parse().ok()?;
            macro_rules! set {
                ($cell:ident, $($field:ident),*) => {
                    match name {
                        $(stringify!($field) => $cell.$field = value,)*
                        _ => return None,
                    }
                };
            }
            fields!(&mut cell, set);
        }
        Some(cell)
    }

    pub(crate) fn rate(&self) -> f64 {
        self.operations / self.seconds
    }

    /// The rate if the background work that the operations left is counted in.
    pub(crate) fn settled_rate(&self) -> f64 {
        self.operations / (self.seconds + self.settle_seconds)
    }

    /// Operations for each second of processor time.
    pub(crate) fn efficiency(&self) -> f64 {
        self.operations / self.cpu_seconds
    }

    pub(crate) fn cpu_micros(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.operations
    }
}

/// The middle one, or the mean of the two in the middle; NaN of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_comes_back_from_its_line() {
        let cell = Cell { operations: 3.0, p999_micros: 0.125, load: 1.5, ..Cell::default() };
        assert_eq!(Cell::from_line(&cell.to_line()), Some(cell));
        assert_eq!(Cell::from_line("cell nonsense=1"), None);
        assert_eq!(Cell::from_line("anything else"), None);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
