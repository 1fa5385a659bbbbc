"""The one error a user is meant to read."""


class InputError(ValueError):
    """Something the user gave is wrong; the message names it and the mend in one line.

    The command line prints the message alone, without a traceback, and exits with status 2.
    """


def one_line(error: Exception, most: int = 300) -> str:
    """The error's message without line breaks, cut at ``most`` characters; its type if empty."""
    return " ".join(str(error).split())[:most] or type(error).__name__
