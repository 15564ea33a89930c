"""Trained models: the model file, preprocessing, the last layer and prediction."""
