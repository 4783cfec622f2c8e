"""The leaderboard: results packed as submissions, submissions validated, a site of those that pass."""
