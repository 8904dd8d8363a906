"""The online store: the latest row of each entity, ready to be served.

What belongs here: how a row and its key become bytes, where the bytes are kept, how they follow the
lakehouse, and how they are read. What does not: HTTP (``server``) and history (``offline``).
"""
