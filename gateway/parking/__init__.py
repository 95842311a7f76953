"""Parking: lots, plates, sessions, quotes, charges, refunds."""
