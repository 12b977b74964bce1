"""The errors a user can cause. Each says what was wrong, what was expected and what to do; the CLI exits with 2."""


class DejaVuError(Exception):
    """Base of every error that the user can put right. Its text is shown without a traceback."""


class InputError(DejaVuError):
    """A video, image or folder given by the user cannot be used."""


class ConfigError(DejaVuError):
    """A configuration key or value is not known or out of range."""


class FormatError(DejaVuError):
    """A file written by this or another program is damaged, unsafe, or of a version or kind that does not fit."""


class OutputError(DejaVuError):
    """The output folder cannot be written, or already holds a run."""


class MissingAssetError(DejaVuError):
    """A model file or optional package is not on this machine and could not be fetched."""


class DivergedError(DejaVuError):
    """An optimisation produced a value that is not finite; the message names the term and the frames."""
