//! The loop: what happens goes into the model, what the model asks for is asked, the picture is drawn. One task
//! does it all; a slow answer is awaited beside the keys.

use std::io;
use std::time::Duration;

use crossterm::event::{Event, EventStream};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use ratatui::DefaultTerminal;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use votum_proto::address::Address;
use votum_proto::runtime::{Clock, Seams};
use votum_proto::v1;

use super::model::{Answer, Call, Message, Model};
use super::view;
use crate::cli::WatchArgs;
use crate::failure::{Exit, Failure};
use crate::online::Operator;
use crate::render::Style;

/// How often the picture is drawn where nothing happens: ages grow.
const TICK: Duration = Duration::from_millis(250);
/// How long agents may take to say what is prepared.
const AGENTS: Duration = Duration::from_secs(5);
/// How long a database may take to settle a branch.
const DATABASE: Duration = Duration::from_secs(50);
/// How many transactions are looked through for those that somebody is owed.
const OWED: u32 = 100;

/// Draws until a person, or a signal, ends it. Answers what is left to be said.
///
/// # Errors
/// When the terminal cannot be used.
pub(crate) fn run(address: &Address, args: &WatchArgs, style: Style) -> Result<Option<String>, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| unusable(&error))?;
    let asked = runtime.block_on(async {
        let clock = Seams::production().clock;
        let coordinator = Coordinator::new(address)?;
        let stop = Stop::new().map_err(|error| unusable(&error))?;
        let interval = Duration::from_secs(args.interval);
        let model = Model::new(interval, args.older_than.saturating_mul(1_000), args.operator());
        // The library reads NO_COLOR too, and `--color always` goes before it.
        crossterm::style::force_color_output(style.colored());
        let mut terminal = Restored::take().map_err(|error| unusable(&error))?;
        let ended = draw_on(&mut terminal.terminal, model, &coordinator, stop, &*clock, style).await;
        drop(terminal);
        ended.map_err(|error| unusable(&error))
    });
    // A call that nobody waits for any more must not keep the process.
    runtime.shutdown_background();
    asked
}

fn unusable(error: &io::Error) -> Failure {
    let message = format!(
        "the terminal cannot be drawn on: {error}. `votumctl status` and `votumctl in-doubt` say the same without"
    );
    Failure { exit: Exit::Refused, code: String::new(), message }
}

/// The terminal while it is drawn on: dropped it is as it was before. A panic restores it by itself.
struct Restored {
    terminal: DefaultTerminal,
}

impl Restored {
    fn take() -> io::Result<Self> {
        ratatui::try_init().map(|terminal| Self { terminal }).inspect_err(|_| ratatui::restore())
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        // After a panic it was done before its message, which a second time would draw over.
        if !std::thread::panicking() {
            let _ = self.terminal.show_cursor();
            let _ = ratatui::try_restore();
        }
    }
}

/// What asks the process to end.
struct Stop {
    terminate: Signal,
    hang_up: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, hang_up: signal(SignalKind::hangup())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

async fn draw_on(
    terminal: &mut DefaultTerminal,
    mut model: Model,
    coordinator: &Coordinator,
    mut stop: Stop,
    clock: &dyn Clock,
    style: Style,
) -> io::Result<Option<String>> {
    let mut keys = EventStream::new();
    let mut asked = FuturesUnordered::new();
    let mut message = Message::Tick;
    loop {
        asked.extend(model.update(clock.now(), message).into_iter().map(|call| coordinator.ask(call)));
        if model.is_done() {
            return Ok(model.parting());
        }
        let mut furthest = 0;
        terminal.draw(|frame| furthest = view::draw(frame, &model, style))?;
        model.scrolled_at_most(furthest);
        message = tokio::select! {
            biased;
            () = stop.asked() => Message::Stop,
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) => Message::Key(key),
                // Another size is another picture.
                Some(Ok(_)) => Message::Tick,
                Some(Err(error)) => return Err(error),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            },
            Some(answer) = asked.next() => Message::Answer(answer),
            () = clock.sleep(TICK) => Message::Tick,
        };
    }
}

/// A coordinator, with a connection for each patience.
struct Coordinator {
    quick: Operator,
    asking_agents: Operator,
    settling: Operator,
}

impl Coordinator {
    fn new(address: &Address) -> Result<Self, Failure> {
        Ok(Self {
            quick: Operator::new(address, Duration::ZERO)?,
            asking_agents: Operator::new(address, AGENTS)?,
            settling: Operator::new(address, DATABASE)?,
        })
    }

    fn ask(&self, call: Call) -> BoxFuture<'static, Answer> {
        match call {
            Call::Status => {
                let mut operator = self.quick.clone();
                async move { Answer::Status(operator.status().await) }.boxed()
            }
            Call::InDoubt => {
                let operator = self.asking_agents.clone();
                async move { Answer::InDoubt(in_doubt(operator).await) }.boxed()
            }
            Call::Show { gtid } => {
                let mut operator = self.quick.clone();
                async move { Answer::Shown { answer: operator.show(gtid.clone()).await, gtid } }.boxed()
            }
            Call::Resolve { ticket, request } => {
                let mut operator = self.settling.clone();
                async move { Answer::Resolved { ticket, answer: operator.resolve(request).await } }.boxed()
            }
        }
    }
}

/// What is prepared, and, where somebody could not be asked, what is decided and not acknowledged.
async fn in_doubt(
    mut operator: Operator,
) -> Result<(v1::ListInDoubtResponse, v1::ListTransactionsResponse), Failure> {
    let wait_ms = u64::try_from(AGENTS.as_millis()).unwrap_or(u64::MAX);
    let prepared = operator.in_doubt(v1::ListInDoubtRequest { wait_ms, ..Default::default() }).await?;
    if prepared.unheard.is_empty() {
        return Ok((prepared, v1::ListTransactionsResponse::default()));
    }
    let request =
        v1::ListTransactionsRequest { limit: OWED, state: "committing".into(), ..Default::default() };
    let owed = operator.list(request).await?;
    Ok((prepared, owed))
}
