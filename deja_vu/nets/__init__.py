"""Parts of the networks: encodings, perceptrons, tri-planes, point features, image networks."""
