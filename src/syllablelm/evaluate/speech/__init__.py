"""Speech that was made: intelligibility, continuations, diversity."""
