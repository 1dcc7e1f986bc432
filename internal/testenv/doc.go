// Package testenv starts the real things that tests need: a redis-server, the
// daemon, the interpreters of the example programs, a proxy that loses bytes.
//
// Everything listens on loopback or on a Unix socket in a directory of its own,
// runs as a child that the kernel kills with its parent, and is ended by its
// own process id. What is missing fails the test and names the command that
// installs it; nothing is skipped.
package testenv
