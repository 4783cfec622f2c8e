"""Tables of runs, suites and the paper, and the captions beside them."""
