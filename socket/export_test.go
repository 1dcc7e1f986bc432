package socket

import "time"

// NewWithPulse is New with other keep-alives, for tests that wait for them.
func NewWithPulse(o Options, period, timeout time.Duration) *Server {
	return newServer(o, pulse{period, timeout})
}
