//! `votumctl doctor`

use std::path::Path;

use tokio::runtime::Builder;
use votum_coordinator::config::Config;
use votum_participant::AgentConfig;
use votum_participant::postgres::preflight::{CoordinatorSeen, Examined, examine, judge};
use votum_proto::runtime::Seams;
use votum_proto::service::config::ConfigErrors;

use crate::cli::DoctorArgs;
use crate::document::Doctor;
use crate::failure::{Exit, Failure};
use crate::render::{self, Screen};

pub(super) fn run(args: &DoctorArgs, screen: &mut Screen<'_>) -> Result<Exit, Failure> {
    let mut mistakes = Vec::new();
    let mut noted = |errors: ConfigErrors| mistakes.push(errors.to_string());
    let mut agents: Vec<(&Path, AgentConfig)> = Vec::new();
    for file in &args.agent_config {
        match AgentConfig::load(file) {
            Ok(config) => agents.push((file, config)),
            Err(errors) => noted(errors),
        }
    }
    let coordinator = match args.coordinator_config.as_deref().map(|file| (file, Config::load(file))) {
        None => None,
        Some((file, Ok(config))) => Some(seen(file, config)),
        Some((_, Err(errors))) => {
            noted(errors);
            None
        }
    };
    if !mistakes.is_empty() {
        return Err(Failure::usage(mistakes.join("\n")));
    }
    let examined = examine_all(&agents)?;
    let findings = judge(&examined, coordinator.as_ref());
    let document = Doctor::new(&examined, findings);
    screen.answer(&document, render::doctor)?;
    Ok(document.exit())
}

fn seen(file: &Path, config: Config) -> CoordinatorSeen {
    CoordinatorSeen {
        file: file.display().to_string(),
        coordinator_id: config.coordinator_id,
        participants: config.participants.into_iter().map(|participant| participant.name).collect(),
    }
}

fn examine_all(agents: &[(&Path, AgentConfig)]) -> Result<Vec<Examined>, Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(format!("the runtime cannot be started: {error}")))?;
    runtime.block_on(async {
        let seams = Seams::production();
        let mut all = Vec::new();
        for (file, config) in agents {
            let file = file.display().to_string();
            let examined = examine(config, &file, &seams).await;
            all.extend(examined.map_err(|problem| Failure::usage(format!("{file}: {problem}")))?);
        }
        Ok(all)
    })
}
