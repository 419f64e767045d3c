//! A settlement by hand.

use std::fmt::Write as _;

use super::Style;
use crate::document::Resolution;

/// `votumctl resolve`, for people; `asked` is whether they said --yes.
pub(crate) fn resolution(document: &Resolution, asked: bool, style: Style) -> String {
    let mut text = String::new();
    let heading = match (document.applied, asked) {
        (true, _) => "Settled",
        (false, true) => "Nothing was done",
        (false, false) => "Dry run: nothing is done",
    };
    let _ = writeln!(text, "{}", style.heading(heading));
    for statement in &document.statements {
        let _ = writeln!(text, "statement  {statement}");
    }
    if !document.departs_from.is_empty() {
        let _ = writeln!(text, "decision   {}", document.departs_from);
    }
    let _ = writeln!(text, "judgement  {}", document.judgement);
    if !document.consequence.is_empty() {
        let _ = writeln!(text, "{}", style.alarming(&format!("then       {}", document.consequence)));
    }
    let _ = writeln!(text, "result     {}", document.result);
    if !asked && document.waits_for_a_person() {
        let _ = writeln!(text, "\nTo do it, say the same with --yes.");
    }
    text
}

#[cfg(test)]
mod tests {
    use votum_proto::v1;

    use super::*;

    fn text(applied: bool, asked: bool, judgement: &str, result: &str) -> String {
        let answer = v1::ResolveResponse {
            statements: vec!["bank-a: ROLLBACK PREPARED 'votum_acme_5_aaaaaa_9_0_2'".into()],
            judgement: judgement.into(),
            applied,
            result: result.into(),
            ..Default::default()
        };
        let document = Resolution::new("votum_acme_5_aaaaaa_9_0_2".into(), "bank-a".into(), false, answer);
        resolution(&document, asked, Style::plain(false))
    }

    #[test]
    fn a_dry_run_says_what_would_be_done_and_how_to_do_it() {
        let text = text(
            false,
            false,
            "its record may have been dropped after retention",
            "nothing was done (dry run)",
        );
        assert_eq!(
            text,
            "\
Dry run: nothing is done
statement  bank-a: ROLLBACK PREPARED 'votum_acme_5_aaaaaa_9_0_2'
judgement  its record may have been dropped after retention
result     nothing was done (dry run)

To do it, say the same with --yes.
"
        );
    }

    #[test]
    fn a_departure_shows_the_decision_and_what_becomes_of_the_transaction() {
        let answer = v1::ResolveResponse {
            statements: vec!["bank-b: ROLLBACK PREPARED 'votum_acme_5_aaaaaa_9_1_2'".into()],
            judgement: "departs from the decision".into(),
            decision: "commit".into(),
            consequence: "this transaction is torn: rolled back at bank-b, committed at bank-a".into(),
            result: "nothing was done (dry run)".into(),
            applied: false,
        };
        let document = Resolution::new("votum_acme_5_aaaaaa_9_1_2".into(), "bank-b".into(), false, answer);
        assert_eq!(
            resolution(&document, false, Style::plain(false)),
            "\
Dry run: nothing is done
statement  bank-b: ROLLBACK PREPARED 'votum_acme_5_aaaaaa_9_1_2'
decision   commit
judgement  departs from the decision
then       this transaction is torn: rolled back at bank-b, committed at bank-a
result     nothing was done (dry run)

To do it, say the same with --yes.
"
        );
    }

    #[test]
    fn what_was_done_and_what_needed_no_doing_are_told_apart() {
        assert!(text(true, true, "recorded in the log", "done").starts_with("Settled\n"));
        let agrees = text(false, true, "the decision is abort", "nothing was added: it happens by itself");
        assert!(agrees.starts_with("Nothing was done\n"), "{agrees}");
        assert!(!agrees.contains("--yes"), "{agrees}");
    }
}
