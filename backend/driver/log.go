package driver

import "log/slog"

// The keys of log lines, of every layer: one thing has one key. Lease ids and
// request ids have none, because they are secrets.
const (
	LogBackend  = "backend"
	LogLock     = "lock"
	LogToken    = "fencing_token"
	LogTicket   = "ticket"
	LogOperator = "operator"
	LogPID      = "pid"
	LogUID      = "uid"
	LogVerb     = "verb"
	LogMethod   = "method"
	LogReason   = "reason"
	LogError    = "error"
	LogLimit    = "limit"
	LogState    = "state"
	LogWas      = "was"
	LogCalls    = "calls"
	LogCount    = "count"
	LogPause    = "pause"
	LogAddress  = "address"
	LogNow      = "immediate"
	LogSource   = "source"
	LogName     = "name"
	LogRemote   = "remote"
)

// LogKeys are all of them with what stands under them, for the documents.
var LogKeys = []struct{ Key, Meaning string }{
	{LogBackend, "the backend's name"},
	{LogLock, "a lock id"},
	{LogToken, "a fencing token"},
	{LogTicket, "the ticket of a place in a queue"},
	{LogOperator, "who did what an operator does: the peer's user and process, or a name of the admin listener"},
	{LogPID, "the peer's process, 0 if it is in another namespace"},
	{LogUID, "the peer's user"},
	{LogVerb, "what the peer asked to do: acquire, inspect, force"},
	{LogMethod, "the full gRPC method, also for HTTP"},
	{LogReason, "the reason of an error as clients see it, or of a force-release"},
	{LogError, "what went wrong, in the words of who met it"},
	{LogLimit, "the limit that was reached"},
	{LogState, "what something is now"},
	{LogWas, "what it was before"},
	{LogCalls, "the calls that a circuit breaker guards"},
	{LogCount, "how many"},
	{LogPause, "until the next attempt"},
	{LogAddress, "where something listens"},
	{LogNow, "a force-release that did not wait for the holder"},
	{LogSource, "the library that wrote the text"},
	{LogName, "what the configuration calls it, of a webhook"},
	{LogRemote, "where a request to the admin listener came from"},
}

// Logger is l, or, for nil, a logger that discards everything.
func Logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
