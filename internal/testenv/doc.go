// Package testenv starts the real things that tests need: Redis alone, with
// Sentinels or as a Cluster, in the editions that the machine has; etcd of one
// member or of three; an emulator of DynamoDB, and a proxy that meets its single
// requests; the daemon; the interpreters of the example programs; proxies that
// lose, delay and break.
//
// Everything listens on loopback or on a Unix socket in a directory of its own,
// runs as a child that the kernel kills with its parent, and is ended by its
// own process id. What is missing fails the test and names the command that
// installs it; nothing is skipped. Only an edition that is optional may be
// absent: its row says so (EachEdition).
package testenv
