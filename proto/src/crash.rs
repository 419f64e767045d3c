//! How a test chooses crash points: the part that coordinator and agent share. Only programs built with their
//! feature `crash-points` call it; nothing of it is linked into any other.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Declares an enumeration of crash points: each with the name by which it is chosen, and `ALL` of them, so that
/// none can be left out. No program as it is released contains a name.
#[macro_export]
macro_rules! crash_points {
    ($(#[$about:meta])* pub enum $Points:ident { $($(#[$doc:meta])* $Point:ident = $name:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $Points { $($(#[$doc])* $Point,)+ }

        impl $Points {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$Point,)+];

            /// The name by which it is chosen.
            pub fn name(self) -> &'static str {
                match self { $(Self::$Point => $name,)+ }
            }
        }
    };
}

/// Declares `here` for a program's crash points: ends its process, or stops it, where one was chosen. The
/// feature is the calling crate's, so that this one is the same in both builds.
#[macro_export]
macro_rules! crash_strikes {
    ($Points:ident) => {
        /// Ends this process, or stops it, if `point` was chosen and this is its time.
        #[inline]
        pub fn here(point: $Points) {
            #[cfg(feature = "crash-points")]
            if let Some(blow) = $crate::crash::chosen().pass(point.name()) {
                strike(blow);
            }
            #[cfg(not(feature = "crash-points"))]
            let _ = point;
        }

        #[cfg(feature = "crash-points")]
        fn strike(blow: $crate::crash::Blow) {
            use rustix::process::{Signal, getpid, kill_process};
            match blow {
                $crate::crash::Blow::Kill => {
                    let _ = kill_process(getpid(), Signal::KILL);
                    std::process::abort();
                }
                $crate::crash::Blow::Stop | $crate::crash::Blow::Pause => {
                    let _ = kill_process(getpid(), Signal::STOP);
                }
            }
        }
    };
}

/// The environment variable that chooses: `NAME`, `NAME@N` (the Nth time that the process comes by), either
/// followed by `=stop` or `=pause`; several are separated by commas.
const VARIABLE: &str = "VOTUM_CRASH_POINT";

/// What happens at a chosen point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// The process ends at once, as by `kill -9`.
    Kill,
    /// The process stands still, as by SIGSTOP, so that a test may do something at this very moment. Where the
    /// point lies behind a message, that leaves first, and nothing else ever does: then it is to be killed.
    Stop,
    /// As before, and it goes on when it is told to: where the point lies behind a message, that has not left
    /// yet.
    Pause,
}

/// The points that were chosen, each with the times that the process came by.
#[derive(Debug, Default)]
pub struct Chosen(Vec<Choice>);

#[derive(Debug)]
struct Choice {
    name: String,
    time: u64,
    blow: Blow,
    passed: AtomicU64,
}

impl Chosen {
    /// Reads what the environment variable holds. A choice that cannot be read chooses nothing: its test then waits in vain
    /// and says so.
    pub fn read(text: &str) -> Self {
        let choice = |word: &str| {
            let (word, blow) = match word.split_once('=') {
                Some((word, "stop")) => (word, Blow::Stop),
                Some((word, "pause")) => (word, Blow::Pause),
                Some(_) | None => (word, Blow::Kill),
            };
            let (name, time) = match word.split_once('@') {
                Some((name, time)) => (name, time.parse().unwrap_or(0)),
                None => (word, 1),
            };
            Choice { name: name.to_owned(), time, blow, passed: AtomicU64::new(0) }
        };
        Self(text.split(',').filter(|word| !word.is_empty()).map(choice).collect())
    }

    /// Counts that the process comes by at `name`, and says whether this is the time that was chosen.
    pub fn pass(&self, name: &str) -> Option<Blow> {
        // Each counts, also where another one strikes.
        self.0.iter().filter(|choice| choice.name == name).fold(None, |struck, choice| {
            let time = choice.passed.fetch_add(1, Ordering::Relaxed) + 1;
            if time == choice.time { Some(choice.blow) } else { struck }
        })
    }
}

/// What this process's environment chose.
pub fn chosen() -> &'static Chosen {
    static CHOSEN: OnceLock<Chosen> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        std::env::var(VARIABLE).map_or_else(|_| Chosen::default(), |text| Chosen::read(&text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_strikes_once_at_its_time() {
        let chosen = Chosen::read("here@2,there=pause,here@3=stop");
        assert_eq!(chosen.pass("elsewhere"), None);
        assert_eq!([(); 4].map(|()| chosen.pass("here")), [None, Some(Blow::Kill), Some(Blow::Stop), None]);
        assert_eq!([(); 2].map(|()| chosen.pass("there")), [Some(Blow::Pause), None]);
        assert_eq!(Chosen::read("").pass(""), None);
    }
}
