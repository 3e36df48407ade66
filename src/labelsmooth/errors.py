"""Exceptions for what a caller gave and we refuse, apart from those that a bug raises."""


class InputError(ValueError):
    """A value that cannot be used: one sentence with what was received and what was expected.

    The command line prints it and exits 2. Every other `ValueError` is an error in the program.
    """


class InputTypeError(TypeError):
    """An argument of a type or dtype that cannot be used, told in one sentence as by `InputError`."""


REFUSALS = (InputError, InputTypeError)
