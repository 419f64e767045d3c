//! What can happen to a network.

/// What happens at a message. Where it says that a message is lost, so is all that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The message is lost, and its connection is reset on both sides. The next one is accepted.
    Reset,
    /// The message is lost, and its connection is closed in order on both sides.
    Close,
    /// The message is lost, every connection of the link is reset, and none is accepted until it is healed.
    Sever,
    /// The message is lost, and the direction in which it travelled is closed in order. The other goes on.
    HalfClose,
    /// Nothing passes in either direction, from this message on, until it is healed. Nothing is lost.
    Stall,
    /// The direction of the message loses everything until it is healed, and nobody is told. What has lost
    /// something is reset when it is healed, as by a peer that has forgotten the connection.
    Vanish,
    /// As [`Fault::Vanish`] in both directions: the peer is gone, and nothing says so, not even a reset.
    HalfOpen,
    /// The message, and all behind it in its direction, comes late.
    Delay,
    /// The message is held back until it is healed, and what follows it in its direction. The connection lives:
    /// pings and acknowledgements of HTTP/2 pass.
    HoldBack,
    /// The message, and all behind it, comes a few bytes at a time until it is healed: the reader is slow.
    Trickle,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 10] = [
        Self::Reset,
        Self::Close,
        Self::Sever,
        Self::HalfClose,
        Self::Stall,
        Self::Vanish,
        Self::HalfOpen,
        Self::Delay,
        Self::HoldBack,
        Self::Trickle,
    ];

    /// Whether nothing is lost by it, so that a fault that is healed soon costs nothing but time.
    pub fn is_lossless(self) -> bool {
        match self {
            Self::Stall | Self::Delay | Self::HoldBack | Self::Trickle => true,
            Self::Reset | Self::Close | Self::Sever | Self::HalfClose | Self::Vanish | Self::HalfOpen => {
                false
            }
        }
    }

    /// Whether it lasts until it is healed. The others are over at once, and when they are healed means nothing.
    pub fn lasts(self) -> bool {
        match self {
            Self::Sever | Self::Stall | Self::Vanish | Self::HalfOpen | Self::HoldBack | Self::Trickle => {
                true
            }
            Self::Reset | Self::Close | Self::HalfClose | Self::Delay => false,
        }
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Close => "close",
            Self::Sever => "sever",
            Self::HalfClose => "half-close",
            Self::Stall => "stall",
            Self::Vanish => "vanish",
            Self::HalfOpen => "half-open",
            Self::Delay => "delay",
            Self::HoldBack => "hold back",
            Self::Trickle => "trickle",
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
