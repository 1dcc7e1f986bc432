// Package e2e holds the tests of the whole: real sidecars on a real store, real
// applications in Python, Node and Go on the socket, real signals. It has no
// code of its own.
//
// The tests read time only to bound how long they wait for an event; what is
// compared are events, tokens and the store's own order.
package e2e
