//! NATS: the outbox publisher and the command consumer.
