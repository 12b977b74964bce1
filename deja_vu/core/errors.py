"""The errors a user can cause. Each says what was wrong, what was expected and what to do; the CLI exits with 2."""

LONGEST = 480
"""Characters of an error's text; what a file brought into it is cut out of its middle."""


CONTROLS = {code: ascii(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}
"""What stands for characters that break lines or command a terminal: names of files may hold any."""


def one_line(text: str) -> str:
    """A text as one line of at most `LONGEST` characters that commands no terminal."""
    text = text.translate(CONTROLS)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 + 5 :]}"


class DejaVuError(Exception):
    """Base of every error that the user can put right. Its text is shown without a traceback."""

    def __init__(self, text: str = "") -> None:
        super().__init__(one_line(text))


class InputError(DejaVuError):
    """A video, image or folder given by the user cannot be used."""


class TrackingError(InputError):
    """The head in a video could not be followed; the message says what is seen of it, and what to film better."""


class ConfigError(DejaVuError):
    """A configuration key or value is not known or out of range."""


class FormatError(DejaVuError):
    """A file written by this or another program is damaged, unsafe, or of a version or kind that does not fit."""


def refuse_other_version(what: str, found: object, known: int, again: str) -> None:
    """Check the version of a file of ours.

    Args:
        what: the file and its kind, as the message begins.
        found: the version it says it has.
        known: the version that this program reads.
        again: what makes the file anew, where it is older than the program.

    Raises:
        FormatError: another version; a newer one asks for a newer program.
    """
    if str(found) == str(known):
        return
    newer = str(found).isdecimal() and int(str(found)) > known
    remedy = "A newer version of this program wrote it: update the program." if newer else again
    raise FormatError(f"{what} {found}, expected {known}. {remedy}")


class OutputError(DejaVuError):
    """The output folder cannot be written, or already holds a run."""


class MissingAssetError(DejaVuError):
    """A model file or optional package is not on this machine and could not be fetched; all that was tried is told, at any length."""

    def __init__(self, text: str = "") -> None:
        Exception.__init__(self, text)


class DivergedError(DejaVuError):
    """An optimization produced a value that is not finite; the message names the term and the frames."""
