"""PNG pictures: plots, contact sheets, heat maps, thumbnails."""
