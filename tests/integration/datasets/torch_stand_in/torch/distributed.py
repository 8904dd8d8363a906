"""No group of processes."""


def is_available() -> bool:
    return False
