//! Numbers that wrap: sequence numbers and timestamps (RFC 3550, 5.1, in the manner of RFC 1982).

/// How far `to` lies after `from`; negative when it lies before.
#[must_use]
pub fn sequence_distance(from: u16, to: u16) -> i16 {
    to.wrapping_sub(from).cast_signed()
}

/// How far `to` lies after `from`; negative when it lies before.
#[must_use]
pub fn timestamp_distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from).cast_signed()
}

/// Sequence numbers that no longer wrap: each is taken as the one nearest to the highest so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedSequence {
    highest: u64,
}

impl ExtendedSequence {
    /// Starts with the first number. One turn ahead of zero, so that what came before it has a
    /// number too.
    #[must_use]
    pub fn starting_at(first: u16) -> Self {
        Self { highest: (1 << 16) + u64::from(first) }
    }

    /// The number in full. Does not move the highest.
    #[must_use]
    pub fn peek(&self, sequence: u16) -> u64 {
        let low = (self.highest & 0xffff) as u16;
        self.highest.saturating_add_signed(i64::from(sequence_distance(low, sequence)))
    }

    /// The number in full; the highest moves with it when it is newer.
    pub fn extend(&mut self, sequence: u16) -> u64 {
        let full = self.peek(sequence);
        self.highest = self.highest.max(full);
        full
    }

    /// The highest so far.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn distances_go_through_the_wrap() {
        for (from, to, distance) in
            [(0, 0, 0), (0, 1, 1), (1, 0, -1), (65535, 0, 1), (0, 65535, -1), (65000, 500, 1036)]
        {
            assert_eq!(sequence_distance(from, to), distance);
        }
        assert_eq!(timestamp_distance(u32::MAX, 159), 160);
        assert_eq!(timestamp_distance(159, u32::MAX), -160);
    }

    #[test]
    fn the_first_number_may_be_followed_by_an_earlier_one() {
        let mut extended = ExtendedSequence::starting_at(0);
        assert_eq!(extended.extend(65535), 65535);
        assert_eq!(extended.extend(0), 65536);
        assert_eq!(extended.highest(), 65536);
    }

    proptest! {
        #[test]
        fn steps_below_half_a_turn_add_up(
            first in any::<u16>(),
            steps in proptest::collection::vec(0u16..0x7fff, 0..200),
        ) {
            let mut extended = ExtendedSequence::starting_at(first);
            let (mut sequence, mut sum) = (first, extended.highest());
            for step in steps {
                sequence = sequence.wrapping_add(step);
                sum += u64::from(step);
                prop_assert_eq!(extended.extend(sequence), sum);
            }
        }
    }
}
