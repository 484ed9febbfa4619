"""The verbs of the command line, a module each: one dataclass a verb, its fields are the options."""
