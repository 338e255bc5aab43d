"""The worker: claims tasks, launches a runner for each attempt, and writes what happens into the database."""
