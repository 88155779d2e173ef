"""From frames to windows: sampling, flow fields, joining, preprocessing. Pure."""
