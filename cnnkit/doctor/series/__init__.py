"""The finding `series`: images that belong together, such as the frames of a video, by names, times and similarity."""
