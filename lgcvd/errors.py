"""The one exception that is meant for a person."""


class UserError(ValueError):
    """Something the user can mend: the message is one sentence that says what is wrong and what to do.

    The command line prints it and exits with code 2; the app shows it on the page; both go on without a traceback.
    """
