"""Kept while imports move: the types live in gateway/call.py, where the authorization server can use them too."""

from gateway.call import *  # noqa: F403
