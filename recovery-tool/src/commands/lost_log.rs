//! `votumctl lost-log`

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Builder;
use votum_coordinator::config::Config;
use votum_participant::AgentConfig;
use votum_participant::postgres::lost_log::{Place, Run, places};
use votum_proto::names::Gtid;
use votum_proto::runtime::Seams;
use votum_proto::service::config::ConfigErrors;

use crate::cli::LostLogArgs;
use crate::document::{Acted, Considered, LostLog};
use crate::failure::{Exit, Failure};
use crate::lost_log::advice::words;
use crate::lost_log::choices::{Choices, choices};
use crate::lost_log::evidence::{Answer, Evidence, Sight, Survey, gather};
use crate::lost_log::judge::judge;
use crate::lost_log::plan::{Plan, plan};
use crate::lost_log::read;
use crate::lost_log::report::{Earlier, Entry, Looked, Report, earlier};
use crate::lost_log::settle::{Done, Settling, Task};
use crate::render::{self, Screen};

pub(super) fn run(args: &LostLogArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let chosen = choices(&args.coordinator_id, &args.commit, &args.rollback, args.choices.as_deref())?;
    if let Some(typed) = args.really.as_ref().filter(|typed| *typed != args.coordinator_id.as_str()) {
        let message = format!(
            "--really {typed} is not the coordinator_id {}: type out whose transactions are to be settled",
            args.coordinator_id
        );
        return Err(Failure::broken("", message));
    }
    let operator = if args.yes { args.operator()? } else { String::new() };
    let seams = Seams::production();
    let (places, missed) = configured(args, &seams)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(format!("the runtime cannot be started: {error}")))?;
    let work =
        Work { args, chosen: &chosen, operator: &operator, places: &places, missed: &missed, seams: &seams };
    let document = runtime.block_on(work.done())?;
    screen.answer(&document, render::lost_log)?;
    Ok(document.exit())
}

/// The databases that the agents' configurations name, and the participants that only the coordinator's does.
fn configured(args: &LostLogArgs, seams: &Seams) -> Result<(Vec<Place>, Vec<Answer>), Failure> {
    let run = Run::new(seams);
    let mut mistakes = Vec::new();
    let mut all = Vec::new();
    for file in &args.config {
        let name = file.display().to_string();
        let loaded = AgentConfig::load(file).map_err(|errors: ConfigErrors| errors.to_string());
        let named = loaded.and_then(|config| {
            places(&config, &name, &run, seams).map_err(|problem| format!("{name}: {problem}"))
        });
        match named {
            Ok(places) => all.extend(places),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    let missed = match args.coordinator_config.as_deref().map(|file| missed(args, file, &all)) {
        None => Vec::new(),
        Some(Ok(missed)) => missed,
        Some(Err(mistake)) => {
            mistakes.push(mistake);
            Vec::new()
        }
    };
    let mut names = BTreeSet::new();
    for place in &all {
        if !names.insert(&place.participant) {
            mistakes.push(format!(
                "{}: participant {} is in another configuration too: give each agent's once",
                place.file, place.participant
            ));
        }
    }
    if mistakes.is_empty() { Ok((all, missed)) } else { Err(Failure::usage(mistakes.join("\n"))) }
}

fn missed(args: &LostLogArgs, file: &Path, places: &[Place]) -> Result<Vec<Answer>, String> {
    let config = Config::load(file).map_err(|errors: ConfigErrors| errors.to_string())?;
    let file = file.display().to_string();
    if config.coordinator_id != args.coordinator_id {
        return Err(format!(
            "{file} is of coordinator {}, not of {}",
            config.coordinator_id, args.coordinator_id
        ));
    }
    let named: BTreeSet<_> = places.iter().map(|place| &place.participant).collect();
    let missed = config.participants.iter().filter(|participant| !named.contains(&participant.name));
    let answer = |name: &votum_proto::names::ParticipantName| Answer {
        participant: name.to_string(),
        file: file.clone(),
        server: String::new(),
        database: String::new(),
        read: Err("no --config names it: give the configuration of its agent".into()),
    };
    Ok(missed.map(|participant| answer(&participant.name)).collect())
}

/// Everything that was typed, made ready.
struct Work<'a> {
    args: &'a LostLogArgs,
    chosen: &'a Choices,
    operator: &'a str,
    places: &'a [Place],
    missed: &'a [Answer],
    seams: &'a Seams,
}

impl Work<'_> {
    async fn done(&self) -> Result<LostLog, Failure> {
        let id = &self.args.coordinator_id;
        let (report, earlier) = match (&self.args.report, self.args.yes) {
            (Some(path), true) => {
                let (report, earlier) = Report::open(path, id)?;
                (Some(report), earlier)
            }
            (Some(path), false) => (None, earlier(path, id)?),
            (None, _) => (None, Earlier::default()),
        };
        let open = earlier.open.iter().map(|(gtid, _)| gtid.clone()).collect();
        let mut answers = read::everything(self.places, id, &open).await?;
        answers.extend(self.missed.iter().cloned());
        let given_up = self.args.without.iter().map(ToString::to_string).collect();
        let survey = gather(id, &answers, &given_up);
        let mut considered = self.considered(&survey, &earlier)?;
        let mut acted = Acted::default();
        if let Some(mut report) = report {
            self.nobody_else(&survey)?;
            acted = self.act(&survey, &mut considered, &earlier, &mut report).await?;
        }
        Ok(LostLog::new(id, self.args.report.as_deref(), &survey, considered, acted))
    }

    /// Judges and plans everything; or refuses, before anything is done.
    fn considered(&self, survey: &Survey, earlier: &Earlier) -> Result<Vec<Considered>, Failure> {
        let reason = self.args.reason.as_deref().unwrap_or_default();
        let mut refused = self.refused(survey, earlier);
        let mut considered = Vec::new();
        for (gtid, evidence) in &survey.transactions {
            let judgement = judge(evidence, &survey.view);
            match plan(gtid, evidence, &judgement, earlier, self.chosen.get(gtid), reason) {
                Ok(plan) => considered.push(Considered {
                    gtid: gtid.clone(),
                    evidence: evidence.clone(),
                    words: words(&judgement.why),
                    judgement,
                    plan,
                    done: None,
                }),
                Err(why) => refused.push(why),
            }
        }
        if refused.is_empty() {
            return Ok(considered);
        }
        Err(Failure::broken("", format!("nothing is done: {}", refused.join("; "))))
    }

    /// What was typed and does not fit what was found.
    fn refused(&self, survey: &Survey, earlier: &Earlier) -> Vec<String> {
        let there =
            |gtid: &&Gtid| !survey.transactions.contains_key(*gtid) && !earlier.decided.contains_key(*gtid);
        let absent = self.chosen.keys().filter(there);
        let absent =
            absent.map(|gtid| format!("nothing of {gtid} is prepared in the databases that were read"));
        let without = self.args.without.iter().filter(|name| {
            let read = |sight: &Sight| match sight {
                Sight::Read { .. } | Sight::SameAs(_) => true,
                Sight::Unread(_) => false,
            };
            survey.databases.iter().any(|one| one.participant == name.as_str() && read(&one.sight))
        });
        let without = without.map(|name| format!("{name} can be read: leave out --without {name}"));
        absent.chain(without).collect()
    }

    /// Refuses while somebody may be at what is to be settled.
    fn nobody_else(&self, survey: &Survey) -> Result<(), Failure> {
        let connected = LostLog::connected(survey);
        if connected.is_empty() || self.args.despite_sessions {
            return Ok(());
        }
        Err(Failure::broken(
            "",
            format!(
                "nothing is done: {}. A coordinator that runs, or an agent that still carries out an order, would \
                 end the same branches. Stop every coordinator with the id {}, then the agents, and see that \
                 their sessions have ended; --despite-sessions acts all the same",
                connected.join("; "),
                self.args.coordinator_id
            ),
        ))
    }

    async fn act(
        &self,
        survey: &Survey,
        considered: &mut [Considered],
        earlier: &Earlier,
        report: &mut Report,
    ) -> Result<Acted, Failure> {
        let read: BTreeSet<&str> = survey
            .databases
            .iter()
            .filter_map(|one| match one.sight {
                Sight::Read { .. } => Some(one.participant.as_str()),
                Sight::SameAs(_) | Sight::Unread(_) => None,
            })
            .collect();
        let places = self.places.iter().map(|place| (place.participant.to_string(), place));
        let places: BTreeMap<_, _> = places.filter(|(name, _)| read.contains(name.as_str())).collect();
        let mut settling = Settling {
            places,
            report,
            seams: self.seams,
            operator: self.operator,
            despite_sessions: self.args.despite_sessions,
        };
        settling.note(&Entry::Run {
            coordinator_id: self.args.coordinator_id.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            operator: self.operator.to_owned(),
            reason: self.args.reason.clone().unwrap_or_default(),
            databases: survey.databases.iter().map(Looked::from).collect(),
        })?;
        let prepared = survey.transactions.values().flat_map(|evidence: &Evidence| &evidence.prepared);
        let prepared = prepared.map(|branch| (branch.participant.clone(), branch.gid.to_string())).collect();
        let interrupted = settling.left_open(earlier, &prepared).await?;
        let bar = bar(considered.iter().filter(|one| matches!(one.plan, Plan::Settle { .. })).count());
        let mut settled = 0;
        for one in considered.iter_mut() {
            let Plan::Settle { action, by } = &one.plan else { continue };
            bar.set_message(one.gtid.to_string());
            let done = settling
                .transaction(&Task {
                    gtid: &one.gtid,
                    evidence: &one.evidence,
                    verdict: one.judgement.verdict,
                    words: &one.words,
                    action: *action,
                    by,
                })
                .await?;
            settled += usize::from(match &done {
                Done::Ended(ended) => ended.iter().all(|ended| ended.is_as_decided(*action)),
                Done::Held(_) => false,
            });
            one.done = Some(done);
            bar.inc(1);
        }
        bar.finish_and_clear();
        settling.note(&Entry::End { settled, left: considered.len() - settled })?;
        Ok(Acted { applied: true, interrupted })
    }
}

/// Drawn on standard error, where that is a terminal.
fn bar(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    let style = ProgressStyle::with_template("  settling {wide_bar} {pos}/{len}  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━╌"));
    bar
}
