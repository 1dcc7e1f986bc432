package socket

import "time"

// NewWithPulse is New with other keep-alives, for tests that wait for them.
func NewWithPulse(o Options, period, timeout time.Duration) *Server {
	return newServer(o, pulse{period, timeout})
}

// NewParting is New with another time in which a connection must end for its
// streams to have ended with it.
func NewParting(o Options, d time.Duration) *Server {
	s := New(o)
	s.parting = d
	return s
}

// VerbOf is the verb of a method, for a test that none is missing.
func VerbOf(method string) Verb { return verbOf[method] }

// RefusalTime is how long a refused connection is kept.
const RefusalTime = refusalTime
