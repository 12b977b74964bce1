"""The generalized network, and the mean head whose maps it corrects."""
