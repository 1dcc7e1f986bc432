package audit

import (
	"time"

	"github.com/locksidecar/locksidecar/internal/events"
)

// The types of lines that are no events.
const (
	// TypeStarted: the log of a run begins. Seq is the number of the last event
	// before it, 0 if it begins with the process.
	TypeStarted = "started"
	// TypeStopped: the run has ended, or its log, as it should. No event follows
	// the one with the number Seq.
	TypeStopped = "stopped"
)

// Line is one line of an audit log. What a type does not know is left out.
// Numbers of 64 bits are texts, as in the API.
type Line struct {
	Time time.Time `json:"time"`
	Type string    `json:"type"`
	// Sidecar is the name of who writes, Run its process's life, Seq the number
	// of the event in it, which counts without a gap.
	Sidecar string `json:"sidecar"`
	Run     string `json:"run"`
	Seq     uint64 `json:"seq,string"`
	// At is Time on the host's clock since its boot, Sent when that was asked for
	// which has happened, not later; both in ns.
	At   int64 `json:"boottime_ns,string"`
	Sent int64 `json:"sent_boottime_ns,string,omitempty"`
	// ID names the fact, in every log that has it.
	ID      string `json:"id,omitempty"`
	Backend string `json:"backend,omitempty"`
	LockID  string `json:"lock_id,omitempty"`
	OwnerID string `json:"owner_id,omitempty"`
	Token   int64  `json:"fencing_token,string,omitempty"`
	Shared  bool   `json:"shared,omitempty"`
	// HoldCount is set where the holds of a lease are known; 0 means that it
	// ended.
	HoldCount *int `json:"hold_count,omitempty"`
	// Request names a hold or a place without telling its request id, which is a
	// secret.
	Request     string     `json:"request,omitempty"`
	Ticket      int64      `json:"ticket,string,omitempty"`
	Priority    int        `json:"priority,omitempty"`
	Position    int        `json:"position,omitempty"`
	QueueLength int        `json:"queue_length,omitempty"`
	TTL         string     `json:"ttl,omitempty"`
	ValidUntil  int64      `json:"valid_until_boottime_ns,string,omitempty"`
	ExpiresAt   *time.Time `json:"expires_at,omitempty"`
	Attach      int64      `json:"attach,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	By          string     `json:"by,omitempty"`
	// Ended: the force-release ended the lease at once.
	Ended bool `json:"ended,omitempty"`
	// Missed is how many events up to this one were dropped.
	Missed uint64 `json:"missed,string,omitempty"`
	// Deadlock is the cycle in which the owner waits for the lock.
	Deadlock *events.Deadlock `json:"deadlock,omitempty"`
	// Boot names the boot of the host, and Version the binary; of TypeStarted.
	Boot    string `json:"boot_id,omitempty"`
	Version string `json:"version,omitempty"`
}
