//! Asks the databases. Everything prepared is listed everywhere first; then, in later statements, the markers are
//! read; then everything is listed once more, and has to be as it was.

use std::collections::BTreeSet;

use futures::future::join_all;
use votum_participant::postgres::lost_log::{Listed, Markers, Place};
use votum_proto::names::{CoordinatorId, Gid, Gtid};

use super::evidence::Answer;
use crate::failure::Failure;

/// How often what is prepared may change while it is read.
const ROUNDS: usize = 3;

/// Reads every database. `also` are transactions whose markers are wanted whatever is prepared.
///
/// # Errors
/// When what is prepared goes on changing: somebody else settles it at this moment. A database that cannot be read
/// is part of the answer.
pub(crate) async fn everything(
    places: &[Place],
    coordinator: &CoordinatorId,
    also: &BTreeSet<Gtid>,
) -> Result<Vec<Answer>, Failure> {
    for _ in 0..ROUNDS {
        let listed = join_all(places.iter().map(|place| listing(place, coordinator, None))).await;
        let mut gtids = named(&listed, coordinator);
        gtids.extend(also.iter().cloned());
        let marked = join_all(places.iter().zip(&listed).map(async |(place, listed)| match listed {
            Ok(_) => place.markers(&gtids).await.map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        }));
        let marked = marked.await;
        let again = join_all(places.iter().map(|place| listing(place, coordinator, None))).await;
        if listed.iter().zip(&again).all(|(before, after)| same(before, after)) {
            let answers = places.iter().zip(listed).zip(marked);
            return Ok(answers.map(|((place, listed), marked)| answer(place, listed, marked)).collect());
        }
    }
    Err(Failure::broken(
        "",
        format!(
            "what is prepared under the names of coordinator {coordinator} changes while it is read: somebody \
             settles it at this moment. Stop every coordinator of that id, and every agent, and look again"
        ),
    ))
}

/// Reads what `places` hold of one transaction.
pub(crate) async fn once_more(places: &[&Place], gtid: &Gtid) -> Vec<Answer> {
    let only = Some(gtid);
    let listed = join_all(places.iter().map(|place| listing(place, &gtid.coordinator_id, only))).await;
    let of = BTreeSet::from([gtid.clone()]);
    let marked = places.iter().map(async |place| place.markers(&of).await.map_err(|error| error.to_string()));
    let marked = join_all(marked).await;
    places
        .iter()
        .zip(listed)
        .zip(marked)
        .map(|((place, listed), marked)| answer(place, listed, marked))
        .collect()
}

async fn listing(place: &Place, coordinator: &CoordinatorId, only: Option<&Gtid>) -> Result<Listed, String> {
    place.list(coordinator, only).await.map_err(|error| error.to_string())
}

fn named(listed: &[Result<Listed, String>], coordinator: &CoordinatorId) -> BTreeSet<Gtid> {
    let prepared = listed.iter().flatten().flat_map(|listed| &listed.prepared);
    let gids = prepared.filter_map(|seen| seen.gid.parse::<Gid>().ok());
    gids.map(|gid| gid.gtid).filter(|gtid| gtid.coordinator_id == *coordinator).collect()
}

/// Whether two readings of a database show the same.
fn same(before: &Result<Listed, String>, after: &Result<Listed, String>) -> bool {
    match (before, after) {
        (Ok(before), Ok(after)) => {
            let names = |listed: &Listed| {
                let seen = listed.prepared.iter();
                seen.map(|seen| (seen.database.clone(), seen.gid.clone(), seen.xid)).collect::<BTreeSet<_>>()
            };
            before.identity == after.identity && names(before) == names(after)
        }
        (Err(_), _) => true,
        (Ok(_), Err(_)) => false,
    }
}

fn answer(place: &Place, listed: Result<Listed, String>, marked: Result<Markers, String>) -> Answer {
    Answer {
        participant: place.participant.to_string(),
        file: place.file.clone(),
        server: place.address.clone(),
        database: place.database.clone(),
        read: listed.and_then(|listed| Ok((listed, marked?))),
    }
}
