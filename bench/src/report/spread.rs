//! How far rounds spread, and what one contender's are of another's.

use serde::Serialize;

/// The middle of some rounds, and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = match values.len() % 2 {
            0 => f64::midpoint(upper, *values.get(middle - 1)?),
            _ => upper,
        };
        Some(Self { median, least: *values.first()?, most: *values.last()? })
    }

    /// Of each round's value divided by the floor's in the same round: rounds are numbered, and lie side by
    /// side in time. A round whose floor is missing or nothing is left out.
    pub(crate) fn of_ratios(values: &[(u32, f64)], floor: &[(u32, f64)]) -> Option<Self> {
        let beside = |number: u32| floor.iter().find(|(round, of)| *round == number && *of > 0.0);
        Self::of(values.iter().filter_map(|(number, value)| Some(value / beside(*number)?.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_lies_between_its_two() {
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_ratio_compares_the_rounds_that_lie_side_by_side() {
        let floor = [(1, 1000.0), (2, 500.0), (3, 100.0), (4, 0.0)];
        let values = [(3, 90.0), (1, 800.0), (2, 300.0), (4, 70.0), (5, 60.0)];
        let ratios = Spread::of_ratios(&values, &floor).unwrap();
        assert_eq!(ratios, Spread { median: 0.8, least: 0.6, most: 0.9 });
        assert_eq!(Spread::of_ratios(&values, &[]), None);
    }
}
