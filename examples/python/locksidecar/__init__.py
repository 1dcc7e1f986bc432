"""The API of locksidecar, generated from lock.proto, and a stream that holds locks."""
