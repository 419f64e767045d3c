//! Names from anybody: what parses prints as it stood, and is as short as the database needs it.

use votum_proto::names::{CoordinatorId, Gid, Gtid, Incarnation, ParticipantName};

/// Any text is a name that prints as it stood, or is refused with an example of one.
pub(crate) fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    round_trip::<Gid>(text);
    round_trip::<Gtid>(text);
    round_trip::<CoordinatorId>(text);
    round_trip::<ParticipantName>(text);
    round_trip::<Incarnation>(text);
    if let Ok(gid) = text.parse::<Gid>() {
        // PostgreSQL refuses names of 200 bytes.
        assert!(text.len() < 200);
        assert!(gid.branches == 0 || gid.branch < gid.branches);
        round_trip::<Gtid>(&gid.gtid.to_string());
        assert_eq!(gid.gtid.to_string().parse::<Gtid>().as_ref(), Ok(&gid.gtid));
    }
}

fn round_trip<T>(text: &str)
where
    T: std::str::FromStr + std::fmt::Display,
    T::Err: std::fmt::Display,
{
    match text.parse::<T>() {
        Ok(name) => assert_eq!(name.to_string(), text),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Examples to begin with.
pub(crate) fn examples() -> Vec<Vec<u8>> {
    [
        "acme",
        "bank-a",
        "3f9ac2",
        "acme-7-3f9ac2-1042",
        "votum_acme_7_3f9ac2_1042_0_2",
        "votum_abcdefghijklmnop_18446744073709551615_ffffff_18446744073709551615_65534_65535",
        "votum_acme_7_3f9ac2_1042_0_0",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
