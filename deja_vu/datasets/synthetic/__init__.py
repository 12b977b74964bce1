"""Videos of a synthetic person, with ground truth, for the demo and the tests."""

from deja_vu.datasets.synthetic.subject import PARTS, SyntheticFrame, SyntheticSubject

__all__ = ["PARTS", "SyntheticFrame", "SyntheticSubject"]
