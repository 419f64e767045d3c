//! Who is measured.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::arguments::Wait;
use crate::carrier::{Setting, Way};
use crate::floor::{Direct, Piped};
use crate::shape::Shape;

/// Who carries out the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    /// A client without a coordinator: the floor, of which everybody else is a part.
    Direct,
    /// The same, with as few round trips as there can be.
    DirectPiped,
    /// Votum, in one of its shapes.
    Votum(Shape, Wait),
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::DirectPiped => f.write_str("direct-piped"),
            Self::Votum(shape, wait) => write!(f, "{shape}-{wait}"),
        }
    }
}

impl Serialize for Contender {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Contender {
    /// Both floors first, then every shape with every wait, each once.
    pub(crate) fn all(shapes: &[Shape], waits: &[Wait]) -> Vec<Self> {
        let mut all = vec![Self::Direct, Self::DirectPiped];
        for votum in shapes.iter().flat_map(|shape| waits.iter().map(|wait| Self::Votum(*shape, *wait))) {
            if !all.contains(&votum) {
                all.push(votum);
            }
        }
        all
    }

    /// Its way, for a whole run.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub(crate) async fn open(self, setting: &Setting) -> anyhow::Result<Box<dyn Way>> {
        match self {
            Self::Direct => Ok(Box::new(Direct::new(setting))),
            Self::DirectPiped => Ok(Box::new(Piped::new(setting))),
            Self::Votum(shape, wait) => shape.open(setting, wait).await,
        }
    }
}

/// The contenders in an order that differs from round to round, so that none of them always follows the same
/// other.
pub(crate) fn in_turn(contenders: &[Contender], round: u32) -> impl Iterator<Item = Contender> {
    let first = usize::try_from(round).unwrap_or(0);
    contenders.iter().copied().cycle().skip(first % contenders.len().max(1)).take(contenders.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_floors_are_measured_and_nobody_twice() {
        let all = Contender::all(&[Shape::Hosted, Shape::Hosted], &[Wait::Decided]);
        let names: Vec<String> = all.iter().map(Contender::to_string).collect();
        assert_eq!(names, ["direct", "direct-piped", "hosted-decided"]);
    }

    #[test]
    fn each_round_has_everybody_and_begins_with_another() {
        let all = Contender::all(&[Shape::Hosted], &[Wait::Decided]);
        let rounds: Vec<Vec<Contender>> = (1..=3).map(|round| in_turn(&all, round).collect()).collect();
        for round in &rounds {
            assert!(all.iter().all(|contender| round.contains(contender)), "{round:?}");
        }
        assert!(rounds[0][0] != rounds[1][0] && rounds[1][0] != rounds[2][0]);
    }
}
