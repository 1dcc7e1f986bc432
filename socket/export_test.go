package socket

import "time"

// NewWithPulse is New with other keep-alives, for tests that wait for them.
func NewWithPulse(o Options, period, timeout time.Duration) *Server {
	return newServer(o, pulse{period, timeout})
}

// VerbOf is the verb of a method, for a test that none is missing.
func VerbOf(method string) Verb { return verbOf[method] }

// RefusalTime is how long a refused connection is kept.
const RefusalTime = refusalTime
