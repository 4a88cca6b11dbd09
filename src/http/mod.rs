//! Health, metrics, API.
