"""The front door: credential, partner, policy, limits, replay, then a Call."""
