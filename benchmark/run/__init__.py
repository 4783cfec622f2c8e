"""The runner, its schedules, trainings and suites."""
