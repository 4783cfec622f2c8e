"""Result files: records, run folders, summaries, statistics. Nothing here imports torch."""
