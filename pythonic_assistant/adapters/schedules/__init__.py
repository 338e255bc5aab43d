"""When things are due: cron expressions, time zones, words, and what a worker makes of them."""
