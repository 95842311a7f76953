"""Facts as events: the outbox today; subscriptions, deliveries and polling stand on the same table."""
