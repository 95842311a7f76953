"""Background wishes: each is a job with a state, attempts and a failure in words; one that fails stops no other."""
