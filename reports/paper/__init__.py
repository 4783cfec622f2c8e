"""Tables and figures of results as files that a paper includes."""
