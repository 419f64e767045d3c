//! What a person has chosen for transactions whose log is gone: options, and a file.

use std::collections::BTreeMap;
use std::path::Path;

use votum_participant::postgres::lost_log::Action;
use votum_proto::names::{CoordinatorId, Gtid};

use crate::failure::Failure;

/// One choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) action: Action,
    /// Why; where the choice has no reason of its own, that of the order.
    pub(crate) reason: Option<String>,
}

/// All of them, by transaction.
pub(crate) type Choices = BTreeMap<Gtid, Choice>;

/// Reads options and file.
///
/// # Errors
/// When the file cannot be read, a line of it means nothing, or two choices contradict each other.
pub(crate) fn choices(
    coordinator: &CoordinatorId,
    commit: &[Gtid],
    roll_back: &[Gtid],
    file: Option<&Path>,
) -> Result<Choices, Failure> {
    let mut all = Choices::new();
    let typed = |gtids: &[Gtid], action: Action| {
        let choice = |gtid: &Gtid| (gtid.clone(), Choice { action, reason: None });
        gtids.iter().map(choice).collect::<Vec<_>>()
    };
    let mut found = typed(commit, Action::Commit);
    found.extend(typed(roll_back, Action::RollBack));
    if let Some(file) = file {
        let name = file.display();
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("the choices in {name} cannot be read: {error}")))?;
        found.extend(lines(&text).map_err(|problem| Failure::usage(format!("{name}, {problem}")))?);
    }
    for (gtid, choice) in found {
        if gtid.coordinator_id != *coordinator {
            return Err(Failure::usage(format!("{gtid} is no transaction of coordinator {coordinator}")));
        }
        if all.get(&gtid).is_some_and(|earlier| earlier.action != choice.action) {
            return Err(Failure::usage(format!(
                "{gtid} is to be committed and to be rolled back: one of the two choices has to go"
            )));
        }
        all.insert(gtid, choice);
    }
    Ok(all)
}

/// The lines of a file: `GTID commit|rollback REASON`; empty ones and those that begin with `#` mean nothing.
fn lines(text: &str) -> Result<Vec<(Gtid, Choice)>, String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        found.push(one(line).map_err(|what| format!("line {}: {what}", number + 1))?);
    }
    Ok(found)
}

fn one(line: &str) -> Result<(Gtid, Choice), String> {
    let expected =
        "write GTID commit|rollback REASON, for example: acme-7-3f9ac2-1042 rollback 4714: not told";
    let (gtid, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (word, reason) = rest.trim_start().split_once(char::is_whitespace).unwrap_or((rest.trim_start(), ""));
    let gtid = gtid.parse::<Gtid>().map_err(|error| error.to_string())?;
    let action = super::action(word).ok_or_else(|| format!("{word:?} is no choice: {expected}"))?;
    let reason = Some(reason.trim()).filter(|reason| !reason.is_empty()).map(str::to_owned);
    let reason = Some(reason.ok_or_else(|| format!("it says no reason: {expected}"))?);
    Ok((gtid, Choice { action, reason }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gtid(seq: u64) -> Gtid {
        format!("acme-7-3f9ac2-{seq}").parse().unwrap()
    }

    fn read(commit: &[Gtid], roll_back: &[Gtid], file: &str) -> Result<Choices, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("choices");
        std::fs::write(&path, file).unwrap();
        choices(&"acme".parse().unwrap(), commit, roll_back, Some(&path))
    }

    #[test]
    fn options_and_lines_are_choices_and_a_line_has_a_reason_of_its_own() {
        let file = "# what the shop says\n\nacme-7-3f9ac2-3  commit  4714: paid, receipt 12\n";
        let all = read(&[gtid(1)], &[gtid(2)], file).unwrap();
        let choice = |action, reason: Option<&str>| Choice { action, reason: reason.map(str::to_owned) };
        let expected = [
            (gtid(1), choice(Action::Commit, None)),
            (gtid(2), choice(Action::RollBack, None)),
            (gtid(3), choice(Action::Commit, Some("4714: paid, receipt 12"))),
        ];
        assert_eq!(all, expected.into());
    }

    #[test]
    fn what_cannot_be_meant_is_a_mistake_with_its_line() {
        for (file, said) in [
            ("acme-7-3f9ac2-1", "line 1"),
            ("acme-7-3f9ac2-1 commit", "no reason"),
            ("\nacme-7-3f9ac2-1 perhaps why", "line 2"),
            ("votum_acme_7_3f9ac2_1_0_2 commit why", "line 1"),
            ("other-7-3f9ac2-1 commit why", "no transaction of coordinator acme"),
            ("acme-7-3f9ac2-1 rollback why\nacme-7-3f9ac2-1 commit why", "one of the two"),
        ] {
            let failure = read(&[], &[], file).unwrap_err();
            assert_eq!(failure.exit.code(), 2, "{file}");
            assert!(failure.message.contains(said), "{file}: {failure}");
        }
        assert!(read(&[gtid(1)], &[gtid(1)], "").is_err());
        assert!(read(&[gtid(1)], &[], "acme-7-3f9ac2-1 commit why").is_ok());
    }
}
