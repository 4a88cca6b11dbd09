//! The event catalogue: types, subjects, the CloudEvents envelope.
