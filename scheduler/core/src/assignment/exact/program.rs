//! A linear program in whole numbers: columns with a start, rows, and sums of columns.
//!
//! Every column takes a whole number in some best answer, whether the solver is told so or not: those that follow from others
//! are left to it as real numbers. So a row may be divided by what all its factors share, and what it allows rounded.

/// A sum of columns, each times a factor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::assignment) struct Sum {
    /// What is there without any column.
    pub(in crate::assignment) constant: i128,
    terms: Vec<(usize, i128)>,
}

impl Sum {
    pub(in crate::assignment) const fn of(constant: i128) -> Self {
        Self { constant, terms: Vec::new() }
    }

    pub(in crate::assignment) fn add(&mut self, factor: i128, other: &Self) {
        if factor != 0 {
            self.constant += factor * other.constant;
            self.terms.extend(other.terms.iter().map(|(column, of)| (*column, factor * of)));
        }
    }

    pub(in crate::assignment) fn plus(mut self, factor: i128, other: &Self) -> Self {
        self.add(factor, other);
        self
    }

    /// The factors, one for each column that has any.
    pub(super) fn factors(&self) -> Vec<(usize, i128)> {
        let mut terms = self.terms.clone();
        terms.sort_unstable_by_key(|(column, _)| *column);
        terms.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        terms.retain(|(_, factor)| *factor != 0);
        terms
    }
}

/// What is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) low: i128,
    pub(super) high: i128,
    /// Whether the solver has to be told that it is a whole number.
    pub(super) whole: bool,
    pub(super) start: i128,
}

/// `least <= factors <= most`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) factors: Vec<(usize, i128)>,
    pub(super) least: Option<i128>,
    pub(super) most: i128,
}

/// Columns and rows.
#[derive(Debug, Clone, Default)]
pub(in crate::assignment) struct Program {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
    /// Whether a row without columns can't hold.
    pub(super) impossible: bool,
}

impl Program {
    /// How many columns and rows there are.
    pub(in crate::assignment) const fn size(&self) -> (usize, usize) {
        (self.columns.len(), self.rows.len())
    }

    fn column(&mut self, column: Column) -> Sum {
        self.columns.push(column);
        Sum { constant: 0, terms: vec![(self.columns.len() - 1, 1)] }
    }

    /// Something that is or is not.
    pub(in crate::assignment) fn choice(&mut self, start: bool) -> Sum {
        self.column(Column { low: 0, high: 1, whole: true, start: start.into() })
    }

    /// What a sum comes to with what a column says.
    fn with(sum: &Sum, value: impl Fn(usize, i128) -> i128) -> i128 {
        sum.constant + sum.terms.iter().map(|(column, factor)| factor * value(*column, *factor)).sum::<i128>()
    }

    /// What a sum comes to at the start.
    pub(in crate::assignment) fn start(&self, sum: &Sum) -> i128 {
        Self::with(sum, |column, _| self.columns[column].start)
    }

    /// No less than a sum can come to, each column for itself.
    fn least(&self, sum: &Sum) -> i128 {
        Self::with(
            sum,
            |column, factor| {
                if factor > 0 { self.columns[column].low } else { self.columns[column].high }
            },
        )
    }

    /// No more than a sum can come to, each column for itself.
    pub(in crate::assignment) fn most(&self, sum: &Sum) -> i128 {
        Self::with(
            sum,
            |column, factor| {
                if factor > 0 { self.columns[column].high } else { self.columns[column].low }
            },
        )
    }

    /// A sum has to be nothing or less; no row where it can't be more.
    pub(in crate::assignment) fn at_most_nothing(&mut self, sum: &Sum) {
        if self.most(sum) > 0 {
            self.row(sum, false);
        }
    }

    /// A sum has to be nothing.
    pub(in crate::assignment) fn nothing(&mut self, sum: &Sum) {
        self.row(sum, true);
    }

    fn row(&mut self, sum: &Sum, equal: bool) {
        let factors = sum.factors();
        let shared = shared(factors.iter().map(|(_, factor)| *factor));
        if shared == 0 {
            self.impossible |= sum.constant > 0 || (equal && sum.constant != 0);
            return;
        }
        let most = (-sum.constant).div_euclid(shared);
        self.impossible |= equal && sum.constant % shared != 0;
        let factors = factors.into_iter().map(|(column, factor)| (column, factor / shared)).collect();
        self.rows.push(Row { factors, least: equal.then_some(most), most });
    }

    /// The least that is no less than nothing and no less than each of some sums, if it is minimised.
    pub(in crate::assignment) fn above(&mut self, sums: &[Sum]) -> Sum {
        let low = sums.iter().map(|sum| self.least(sum)).max().unwrap_or(0).max(0);
        let high = sums.iter().map(|sum| self.most(sum)).max().unwrap_or(0).max(0);
        if low == high {
            return Sum::of(low);
        }
        if let [sum] = sums
            && self.least(sum) >= 0
        {
            return sum.clone();
        }
        let start = sums.iter().map(|sum| self.start(sum)).max().unwrap_or(0).max(0);
        let above = self.column(Column { low, high, whole: false, start });
        for sum in sums {
            self.at_most_nothing(&sum.clone().plus(-1, &above));
        }
        above
    }

    /// One if a sum of things that are or are not is any, if it is maximised.
    pub(in crate::assignment) fn any(&mut self, sum: &Sum) -> Sum {
        if self.least(sum) >= 1 || self.most(sum) <= 0 {
            return Sum::of(self.least(sum).clamp(0, 1));
        }
        let start = self.start(sum).min(1);
        let any = self.column(Column { low: 0, high: 1, whole: false, start });
        self.at_most_nothing(&any.clone().plus(-1, sum));
        any
    }

    /// For each two of things of which one is and of others of which one is, whether both are.
    pub(in crate::assignment) fn both(&mut self, ones: &[Sum], others: &[Sum]) -> Vec<Vec<Sum>> {
        let both: Vec<Vec<Sum>> = ones
            .iter()
            .map(|one| {
                let of = |program: &mut Self, other: &Sum| {
                    let start = program.start(one) * program.start(other);
                    program.column(Column { low: 0, high: 1, whole: false, start })
                };
                others.iter().map(|other| of(self, other)).collect()
            })
            .collect();
        for (one, row) in ones.iter().zip(&both) {
            let sum = row.iter().fold(Sum::default(), |sum, both| sum.plus(1, both));
            self.nothing(&sum.plus(-1, one));
        }
        for (at, other) in others.iter().enumerate() {
            let sum = both.iter().fold(Sum::default(), |sum, row| sum.plus(1, &row[at]));
            self.nothing(&sum.plus(-1, other));
        }
        both
    }

    /// One if a sum is to be let be more than nothing, which costs something.
    pub(in crate::assignment) fn given_up(&mut self, sum: &Sum) -> Sum {
        let most = self.most(sum);
        if most <= 0 {
            return Sum::default();
        }
        let start = self.start(sum) > 0;
        let given_up = self.choice(start);
        self.at_most_nothing(&sum.clone().plus(-most, &given_up));
        given_up
    }
}

/// The largest number that divides all; nothing if there are none.
pub(super) fn shared(factors: impl Iterator<Item = i128>) -> i128 {
    factors.fold(0, |shared, factor| {
        let (mut one, mut other) = (shared, factor.abs());
        while other != 0 {
            (one, other) = (other, one % other);
        }
        one
    })
}
