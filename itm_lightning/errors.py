"""The one error a user is meant to read."""


class InputError(ValueError):
    """Something the user gave is wrong; the message names it and the mend in one line.

    The command line prints the message alone, without a traceback, and exits with status 2.
    """
