"""A stand-in without a process group."""


def is_available() -> bool:
    return False
