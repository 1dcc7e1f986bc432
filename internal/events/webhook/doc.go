// Package webhook posts a sidecar's events to a consumer, as CloudEvents 1.0 in the
// structured JSON mode.
//
// It guarantees that each event which the log of events keeps for long enough is
// answered with 2xx at least once, that the events of one lock come in order, and
// that a duplicate has the same id and source. What the log kept no longer is
// counted, and told to the consumer as an event of TypeMissed; what was given up,
// or not taken by the end of the process, is counted. It does not keep anything
// beyond the process.
package webhook
