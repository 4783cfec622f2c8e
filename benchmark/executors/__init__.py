"""Executors: where the units of a run are computed, in this process, on all cores, or on other machines."""
