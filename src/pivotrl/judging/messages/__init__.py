"""Whether two messages say the same, by their words and facts."""
