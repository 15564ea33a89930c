"""Trainings: preparation, the job, resume, learning-rate range test, learning curves."""
