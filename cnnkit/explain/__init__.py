"""Explanations of predictions: heat maps of an image, and the feature maps of the network's layers."""
