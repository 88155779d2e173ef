"""Who is in the picture: the person detector, and what is done with its boxes."""
