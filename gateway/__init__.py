"""Parasol: the door between a bank and its partners. One package; `ls gateway/` names its capabilities."""

__version__ = "0.1.0"
