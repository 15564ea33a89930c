"""Work on images without a training: doctor, split, preview."""
