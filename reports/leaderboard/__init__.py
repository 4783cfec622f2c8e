"""The leaderboard: results packed as submissions, submissions checked by laws, a site of those that keep them."""
