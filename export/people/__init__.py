"""The person detector: from a published TensorFlow.js graph to ``models/people``."""
