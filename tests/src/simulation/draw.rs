//! Draws what is to happen in one run from its seed.

use std::time::Duration;

use super::database::{Change, Doing, Manners};
use super::disk::{Down, Failure};
use super::plan::{Ending, Fault, LogPlan, NetworkPlan, Plan, What, Work};
use super::random::Random;

/// How much a plan holds.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// The most pieces of work.
    pub work: u64,
    /// The most faults.
    pub faults: u64,
}

impl Default for Size {
    fn default() -> Self {
        Self { work: 20, faults: 8 }
    }
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64, size: Size) -> Self {
        let random = &mut Random::new(seed, "plan");
        let databases = random.index(2) + 2;
        let agents = if random.chance(250) {
            vec![(0..databases).collect()]
        } else {
            (0..databases).map(|database| vec![database]).collect()
        };
        let calm_at = random.millis(4_000, 16_000);
        let work_count = random.between(4, size.work + 1);
        let work = (0..work_count).map(|n| draw_work(random, n as usize, databases, calm_at)).collect();
        let mut plan = Self {
            seed,
            shuffled: random.chance(700),
            log: draw_log(random),
            manners: draw_manners(random),
            slots: if random.chance(100) { random.index(4) } else { 64 },
            sessions: random.index(8) + 2,
            sweep_ms: random.between(200, 2_000),
            network: draw_network(random),
            calm_at,
            work,
            faults: Vec::new(),
            rows: false,
            markers: Random::new(seed, "markers").chance(500),
            agents,
        };
        let fault_count = random.below(size.faults + 1);
        for _ in 0..fault_count {
            let at = random.millis(200, u64::try_from(calm_at.as_millis()).unwrap_or(1_000));
            let what = draw_fault(random, plan.agents.len(), databases);
            plan.faults.push(Fault { at, what });
        }
        if plan.log.retention_ms < 1_500 && random.chance(400) {
            plan.outlast_retention(random);
        }
        // Two seeds of five, and from a stream of their own: what the others draw stays what it is, so that seeds
        // which once found something keep their schedules.
        if matches!(seed % 5, 1 | 4) {
            plan.people_come(&mut Random::new(seed, "people"), databases);
        }
        plan.depart(&mut Random::new(seed, "heuristic"));
        // Two seeds of seven, for the same reason.
        if matches!(seed % 7, 1 | 3) {
            plan.attach(&mut Random::new(seed, "attached"));
        }
        plan
    }

    /// Some clients work at a database on connections of their own.
    fn attach(&mut self, random: &mut Random) {
        for work in &mut self.work {
            let first = work.statements.first().map(|(participant, _)| *participant);
            work.attached = first.filter(|_| !work.read_only && random.chance(500));
        }
    }

    /// Persons come, and what calls for them: failovers that lose a commit, a log that is lost for good.
    fn people_come(&mut self, random: &mut Random, databases: usize) {
        self.rows = random.chance(500);
        if random.chance(300) {
            self.log.retention_ms = draw_retention(random);
        }
        let end = u64::try_from(self.calm_at.as_millis()).unwrap_or(1_000);
        let mut what = Vec::new();
        for _ in 0..random.below(3) {
            what.push(What::Overtaken {
                database: random.index(databases),
                behind: random.index(4) + 1,
                away: random.millis(5, 2_000),
                others: random.below(4),
            });
        }
        if random.chance(400) {
            what.push(What::LogLost { anew: random.chance(300), stale: random.millis(0, 3_000) });
        }
        if random.chance(700) {
            what.push(What::Operator { lasts: random.millis(1_000, 12_000) });
        }
        for what in what {
            self.faults.push(Fault { at: random.millis(200, end), what });
        }
    }

    /// Operators who depart from decisions, drawn apart from everything else.
    fn depart(&mut self, random: &mut Random) {
        if !random.chance(500) {
            return;
        }
        let calm_at = u64::try_from(self.calm_at.as_millis()).unwrap_or(1_000);
        for _ in 0..random.between(1, 4) {
            let at = random.millis(100, calm_at);
            self.faults.push(Fault { at, what: What::Departs { database: random.index(self.databases()) } });
        }
    }

    /// An outage that outlasts retention: branches wait for an agent that is cut off, prepared and undecided,
    /// while younger transactions are carried out beside them and forgotten; then the coordinator dies.
    fn outlast_retention(&mut self, random: &mut Random) {
        for work in &mut self.work {
            work.timeout = work.timeout.max(Duration::from_secs(7));
        }
        let agent = random.index(self.agents.len());
        let at = random.millis(300, 2_000);
        let cut = Duration::from_secs(6);
        let what = What::Cut { agent, there: true, back: true, lasts: cut, noticed: cut * 2 };
        self.faults.push(Fault { at, what });
        let what = What::CoordinatorDies { how: Down::PowerLost, away: random.millis(5, 300), again: None };
        self.faults.push(Fault { at: at + random.millis(2_500, 6_000), what });
    }
}

fn draw_log(random: &mut Random) -> LogPlan {
    let slow = random.chance(200);
    LogPlan {
        half_bytes: *random.pick(&[4 << 10, 4 << 10, 8 << 10, 32 << 10]).unwrap_or(&(8 << 10)),
        lease: *random.pick(&[4, 8, 32, 1024]).unwrap_or(&8),
        retention_ms: if random.chance(300) { draw_retention(random) } else { 24 * 60 * 60 * 1000 },
        pace: if slow { (1_000, 40_000) } else { (20, 400) },
        counting_ms: if random.chance(300) { random.between(1, 2_000) } else { 0 },
        latches: random.chance(300),
    }
}

/// Shorter than what goes wrong lasts, often by far.
fn draw_retention(random: &mut Random) -> u64 {
    let most = *random.pick(&[200, 1_500, 6_000]).unwrap_or(&6_000);
    random.between(0, most)
}

fn draw_manners(random: &mut Random) -> Manners {
    let rough = random.chance(500);
    Manners {
        travel: (20, *random.pick(&[100, 500, 3_000]).unwrap_or(&100)),
        flush: (50, *random.pick(&[300, 1_000, 8_000]).unwrap_or(&300)),
        slow: if rough { 20 } else { 0 },
        breaks: if rough { random.between(0, 60) } else { 0 },
        listing_fails: if rough { random.between(0, 300) } else { 0 },
        serialization: if rough { 30 } else { 0 },
        synchronous: random.chance(200),
    }
}

fn draw_network(random: &mut Random) -> NetworkPlan {
    let rough = random.chance(500);
    let chance = |random: &mut Random, most| if rough { random.between(0, most) } else { 0 };
    NetworkPlan {
        travel: (20, *random.pick(&[100, 1_000, 10_000]).unwrap_or(&1_000)),
        loses_request: chance(random, 80),
        loses_reply: chance(random, 80),
        repeats: chance(random, 150),
        late: chance(random, 60),
    }
}

fn draw_work(random: &mut Random, number: usize, databases: usize, calm_at: Duration) -> Work {
    let end = u64::try_from(calm_at.as_millis()).unwrap_or(1_000);
    let at = random.millis(50, end);
    let statements = draw_statements(random, databases);
    let writes = statements.iter().any(|(_, doing)| matches!(doing, Doing::Change(_)));
    Work {
        number,
        at,
        attached: None,
        read_only: !writes && random.chance(500),
        statements,
        timeout: random.millis(300, 8_000),
        patience: random.millis(100, 4_000),
        ending: match random.below(10) {
            0 => Ending::Rollback,
            1 => Ending::Abandon,
            drawn => Ending::Commit { completed: drawn % 2 == 0, races_rollback: random.chance(60) },
        },
        key: random.chance(300).then(|| random.below(4)),
        thinks_ms: random.between(0, 60),
        tries: u32::try_from(random.between(1, 12)).unwrap_or(1),
    }
}

/// Money goes from one place to another, so that what a transaction does adds up to nothing.
fn draw_statements(random: &mut Random, databases: usize) -> Vec<(usize, Doing)> {
    let first = random.index(databases);
    let others = databases - 1;
    let second = (first + 1 + random.index(others.max(1))) % databases;
    let amount = i64::try_from(random.between(1, 100)).unwrap_or(1);
    let change = |random: &mut Random, delta| {
        // Few accounts, so that transactions meet.
        let account = random.below(12);
        let unique = random.chance(80).then(|| format!("key{}", random.below(6)));
        Doing::Change(Change { account, delta, tag: String::new(), unique })
    };
    match random.below(10) {
        // Reads only.
        0 => vec![(first, Doing::Look(random.below(12))), (second, Doing::Look(random.below(12)))],
        // One branch.
        1 => vec![(first, change(random, amount)), (first, change(random, -amount))],
        // One branch reads only.
        2 => vec![
            (first, change(random, amount)),
            (second, Doing::Look(random.below(12))),
            (first, change(random, -amount)),
        ],
        // Something fails.
        3 => vec![(first, change(random, amount)), (second, change(random, -amount)), (first, Doing::Fail)],
        drawn => {
            let mut statements = vec![(first, change(random, -amount)), (second, change(random, amount))];
            if drawn > 7 {
                // More statements in each branch.
                statements.push((first, change(random, -1)));
                statements.push((second, change(random, 1)));
            }
            if databases > 2 && random.chance(400) {
                let third = (0..databases).find(|at| *at != first && *at != second).unwrap_or(first);
                statements.push((third, change(random, 0)));
            }
            statements
        }
    }
}

fn draw_fault(random: &mut Random, agents: usize, databases: usize) -> What {
    let agent = random.index(agents);
    let database = random.index(databases);
    let away = random.millis(5, 3_000);
    match random.below(25) {
        0..=5 => What::CoordinatorDies {
            how: if random.chance(500) { Down::Killed } else { Down::PowerLost },
            away,
            again: random.chance(300).then(|| random.micros(0, 30_000)),
        },
        6 => What::CoordinatorStops { asleep: random.millis(20, 9_000), successor: false },
        7 => What::CoordinatorStops { asleep: random.millis(20, 9_000), successor: true },
        8 => What::DiskFails {
            after: random.between(0, 12),
            how: if random.chance(700) { Failure::InputOutput } else { Failure::Full },
        },
        9 => What::DiskIsSlow { by: random.millis(10, 2_000), lasts: random.millis(100, 5_000) },
        10 | 11 => What::AgentDies { agent, away },
        12 | 13 => What::DatabaseDies { database, away },
        14 => What::FailOver { database, behind: if random.chance(500) { 0 } else { random.index(6) }, away },
        15 => What::SessionsEnd { database },
        16 => What::HandEnds { database, commit: random.chance(500) },
        21 => What::Impostor { database },
        22 => What::StoreUnreadable { lasts: random.millis(50, 4_000) },
        17 => What::Stranger { database, forged: random.chance(500) },
        18 | 19 => {
            let there = random.chance(700);
            let back = !there || random.chance(700);
            What::Cut {
                agent,
                there,
                back,
                lasts: random.millis(20, 8_000),
                noticed: random.millis(20, 8_000),
            }
        }
        20 => What::Reset { agent },
        _ => What::OldCopy { lasts: random.millis(200, 4_000) },
    }
}
