"""Generated from lock.proto."""
