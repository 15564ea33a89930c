"""Why a model answers as it does: heat maps of an image, and what the layers of the network see in it."""
