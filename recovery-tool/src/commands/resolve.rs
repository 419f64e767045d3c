//! `votumctl resolve`

use std::time::Duration;

use votum_proto::address::Address;
use votum_proto::v1;
use votum_proto::v1::resolve_request::Action;

use crate::cli::ResolveArgs;
use crate::document::Resolution;
use crate::failure::{Exit, Failure};
use crate::online::Coordinator;
use crate::render::{self, Screen};

/// How long the database may take to carry it out before the answer is given up. The order stands all the
/// same: it is in the log.
const DATABASE: Duration = Duration::from_secs(50);

pub(super) fn run(address: &Address, args: &ResolveArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let operator = operator(args.operator.as_deref(), std::env::var("USER").ok())?;
    let action = if args.commit { Action::Commit } else { Action::Rollback };
    let request = v1::ResolveRequest {
        gid: args.gid.to_string(),
        participant: args.participant.to_string(),
        action: action.into(),
        operator,
        reason: args.reason.clone(),
        apply: args.yes,
    };
    let answer = Coordinator::connect(address, DATABASE)?.resolve(request)?;
    let document = Resolution::new(args.gid.to_string(), args.participant.to_string(), args.commit, answer);
    screen.answer(&document, |document, style| render::resolution(document, args.yes, style))?;
    Ok(Exit::Fine)
}

/// Who settles the branch: as typed, else who is logged in.
fn operator(typed: Option<&str>, user: Option<String>) -> Result<String, Failure> {
    let named = typed.map(str::to_owned).or(user).filter(|name| !name.trim().is_empty());
    named.ok_or_else(|| {
        Failure::usage(
            "who settles the branch is kept in the log, and $USER is empty: say it with --operator NAME",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_settles_a_branch_without_a_name() {
        assert_eq!(operator(Some("ada"), Some("root".into())).unwrap(), "ada");
        assert_eq!(operator(None, Some("root".into())).unwrap(), "root");
        for (typed, user) in [(None, None), (None, Some(String::new())), (Some(" "), Some("root".into()))] {
            assert_eq!(operator(typed, user).unwrap_err().exit, Exit::Usage);
        }
    }
}
