"""The harness: data sets, configuration, runs, scoring, results."""
