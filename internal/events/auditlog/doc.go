// Package auditlog writes a sidecar's events into a file, one line of JSON each.
//
// It guarantees that each event gets its line, in order and under its number, or
// a line that says how many were dropped; that a line is written as a whole or
// taken back, so that a kill tears the last line at most; and that rotation, by
// itself or by another program and SIGHUP, loses no line. The log of events is its
// buffer: if the file cannot be written, what is kept there is written later.
//
// It does not wait for the disk: a loss of power may take what the system had not
// written yet. Nor does a call wait for its line, so that a kill may take the
// latest events, those of the last moment.
package auditlog
