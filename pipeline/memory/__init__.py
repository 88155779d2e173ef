"""Memory of features: what the networks found while something moved, for some days."""
