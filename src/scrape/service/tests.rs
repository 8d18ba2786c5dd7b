//! Services that live and fail, round by round.
