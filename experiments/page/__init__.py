"""What an experiment reports: claims with verdicts, figures, and the page of them all."""
