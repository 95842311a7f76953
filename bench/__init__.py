"""Load and peer comparisons: every number beside its peer, measured in the same run with the same tool."""
