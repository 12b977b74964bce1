"""The generalized prior: a network, and the atlas of lifted heads whose maps it corrects."""
