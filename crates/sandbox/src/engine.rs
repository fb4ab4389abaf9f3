//! The clock of the world: it stands still, or runs with the machine's, and steps through whatever is due, one
//! instant after another, each time letting the host deliver all that became deliverable.
//!
//! *At rest* means that nothing is deliverable now and no invocation is under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::task::JoinHandle;

use crate::arm;
use crate::eventgrid;
use crate::host::Host;
use crate::host::deliver::{MOST_IN_AN_INSTANT, Stuck};
use crate::servicebus;
use crate::state::{Due, State};
use crate::world::World;

/// How often a running clock moves.
const TICK: Duration = Duration::from_millis(20);

/// Whether time passes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Only when told to. Nothing is delivered between two tellings either.
    Standing,
    /// With the machine's clock, from the world's own beginning.
    Running,
}

/// The clock of one world and of the host in it. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    world: World,
    host: Option<Host>,
    /// Held by whoever moves time.
    turn: tokio::sync::Mutex<()>,
    /// For a running clock: world time and machine time of one moment.
    anchor: Mutex<(DateTime<Utc>, Instant)>,
}

impl Engine {
    /// The clock of this world; without a host nothing is delivered.
    pub fn new(world: World, host: Option<Host>) -> Engine {
        let now = world.lock().now;
        Engine { shared: Arc::new(Shared { world, host, turn: tokio::sync::Mutex::default(), anchor: Mutex::new((now, Instant::now())) }) }
    }

    /// The world's time.
    pub fn now(&self) -> DateTime<Utc> {
        self.shared.world.lock().now
    }

    /// Lets all that is deliverable now be delivered, and what follows from it, until the world is at rest.
    pub async fn settle(&self) -> Result<DateTime<Utc>, Stuck> {
        self.advance_by(TimeDelta::zero()).await
    }

    /// Moves time by so much; see [`Engine::advance_to`].
    pub async fn advance_by(&self, span: TimeDelta) -> Result<DateTime<Utc>, Stuck> {
        let _turn = self.shared.turn.lock().await;
        let target = self.now() + span;
        self.advance(target).await
    }

    /// Moves time to `target`, through each instant at which something is due, and comes to rest at each and at
    /// the end. A target in the past only comes to rest. Gives the world's time.
    pub async fn advance_to(&self, target: DateTime<Utc>) -> Result<DateTime<Utc>, Stuck> {
        let _turn = self.shared.turn.lock().await;
        self.advance(target).await
    }

    async fn advance(&self, target: DateTime<Utc>) -> Result<DateTime<Utc>, Stuck> {
        let moved = self.walk(target).await;
        let now = self.now();
        *self.anchor() = (now, Instant::now());
        moved.map(|()| now)
    }

    /// Moves time to the next instant at which something is due, but not past `target`, and comes to rest there. Gives
    /// whether there was anywhere to move: `false` once the world is at rest at `target`.
    pub async fn step_to(&self, target: DateTime<Utc>) -> Result<bool, Stuck> {
        let _turn = self.shared.turn.lock().await;
        let stepped = self.step(target).await;
        *self.anchor() = (self.now(), Instant::now());
        stepped
    }

    async fn walk(&self, target: DateTime<Utc>) -> Result<(), Stuck> {
        while self.step(target).await? {}
        Ok(())
    }

    async fn step(&self, target: DateTime<Utc>) -> Result<bool, Stuck> {
        self.come_to_rest().await?;
        {
            let mut state = self.shared.world.lock();
            match self.next_instant(&state).filter(|next| *next <= target) {
                Some(next) => state.now = next,
                None if state.now < target => state.now = target,
                None => return Ok(false),
            }
        }
        self.come_to_rest().await?;
        Ok(true)
    }

    /// Carries out what is due and delivers what is deliverable until neither is left.
    async fn come_to_rest(&self) -> Result<(), Stuck> {
        loop {
            // Told from here on, so that nothing is missed between the look and the wait.
            let changed = self.shared.world.changed();
            carry_out_due(&mut self.shared.world.lock())?;
            let Some(host) = &self.shared.host else {
                return Ok(());
            };
            let before = host.quiet_since();
            let started = host.start_deliverable()?;
            if started > 0 || before.is_none() {
                changed.await;
            } else if host.quiet_since() == before && nothing_due(&self.shared.world.lock()) {
                return Ok(());
            }
        }
    }

    /// The next instant after now at which something happens by itself.
    fn next_instant(&self, state: &State) -> Option<DateTime<Utc>> {
        let due = state.due.iter().map(|due| due.at).min();
        let broker = servicebus::next_due(state);
        let (events, timer) = match &self.shared.host {
            Some(host) => (eventgrid::next_due(state), host.next_timer()),
            None => (None, None),
        };
        [due, broker, events, timer].into_iter().flatten().filter(|at| *at > state.now).min()
    }

    /// Lets the clock run with the machine's until the task is aborted: time moves every 20 ms, and what becomes
    /// deliverable is delivered at once.
    pub fn run(&self) -> JoinHandle<()> {
        let engine = self.clone();
        *self.anchor() = (self.now(), Instant::now());
        tokio::spawn(async move {
            loop {
                let changed = engine.shared.world.changed();
                if let Err(stuck) = engine.tick() {
                    tracing::error!("{stuck}");
                }
                tokio::select! {
                    () = tokio::time::sleep(TICK) => {}
                    () = changed => {}
                }
            }
        })
    }

    fn tick(&self) -> Result<(), Stuck> {
        // Whoever jumps in time holds the turn; until then time stands and only deliveries go on.
        if let Ok(_turn) = self.shared.turn.try_lock() {
            let (began, since) = *self.anchor();
            let target = began + TimeDelta::from_std(since.elapsed()).unwrap_or_default();
            let mut state = self.shared.world.lock();
            carry_out_due(&mut state)?;
            while let Some(next) = state.due.iter().map(|due| due.at).min().filter(|at| *at <= target) {
                state.now = state.now.max(next);
                carry_out_due(&mut state)?;
            }
            state.now = state.now.max(target);
        }
        if let Some(host) = &self.shared.host {
            host.start_deliverable()?;
        }
        Ok(())
    }

    fn anchor(&self) -> MutexGuard<'_, (DateTime<Utc>, Instant)> {
        self.shared.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nothing_due(state: &State) -> bool {
    state.due.iter().all(|due| due.at > state.now)
}

/// Carries out everything whose time has come, in the order of (time, order), and what that makes due at once.
fn carry_out_due(state: &mut State) -> Result<(), Stuck> {
    servicebus::expire_locks(state);
    let mut rounds = 0;
    while !nothing_due(state) {
        rounds += 1;
        if rounds > MOST_IN_AN_INSTANT {
            return Err(Stuck { what: "things that are due".to_owned(), many: MOST_IN_AN_INSTANT, at: state.now });
        }
        let now = state.now;
        let (mut come, later): (Vec<Due>, Vec<Due>) = state.due.drain(..).partition(|due| due.at <= now);
        state.due = later;
        come.sort_by_key(|due| (due.at, due.order));
        for due in come {
            arm::happen(state, due.what);
        }
    }
    Ok(())
}
