package webhook

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/locksidecar/locksidecar/internal/events"
)

// contentType is that of the structured mode.
const contentType = "application/cloudevents+json; charset=utf-8"

// The types of CloudEvents: a prefix, and the type of the event.
const (
	typePrefix = "dev.locksidecar.lock."
	// TypeMissed is of what tells that events are missing.
	TypeMissed = "dev.locksidecar.events.missed"
)

// names are the types whose names are others in CloudEvents.
var names = map[string]string{events.TypeAcquired: "granted"}

// cloudEvent is the envelope.
type cloudEvent struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject,omitempty"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	// PartitionKey is the lock, in whose order events come.
	PartitionKey string `json:"partitionkey,omitempty"`
	Sidecar      string `json:"sidecar"`
	Data         data   `json:"data"`
}

// data is what happened, with the names of the API's Event.
type data struct {
	Type        string     `json:"type"`
	Backend     string     `json:"backend,omitempty"`
	LockID      string     `json:"lock_id,omitempty"`
	OwnerID     string     `json:"owner_id,omitempty"`
	Token       string     `json:"fencing_token,omitempty"`
	Shared      bool       `json:"shared,omitempty"`
	HoldCount   *int       `json:"hold_count,omitempty"`
	Position    int        `json:"position,omitempty"`
	QueueLength int        `json:"queue_length,omitempty"`
	Priority    int        `json:"priority,omitempty"`
	TTL         string     `json:"ttl,omitempty"`
	ExpiresAt   *time.Time `json:"expires_at,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	By          string     `json:"by,omitempty"`
	Ended       bool       `json:"ended,omitempty"`
	Missed      string     `json:"missed,omitempty"`
	Ticket      string     `json:"ticket,omitempty"`

	Deadlock *events.Deadlock `json:"deadlock,omitempty"`
}

// source names whose event it is: the store's, not the sidecar's, so that a fact
// which two sidecars tell has one id and one source.
func (s *Sink) source(r *events.Record) string {
	switch {
	case s.o.Source != "":
		return s.o.Source
	case r.Backend == "":
		return "/locksidecar/sidecars/" + s.o.Sidecar
	}
	return "/locksidecar/backends/" + r.Backend
}

// encode is the event as it is posted.
func (s *Sink) encode(r *events.Record) ([]byte, error) {
	kind := typePrefix + r.Type
	if name := names[r.Type]; name != "" {
		kind = typePrefix + name
	}
	if r.Type == events.TypeMissed {
		kind = TypeMissed
	}
	e := &cloudEvent{
		SpecVersion: "1.0", ID: r.ID, Source: s.source(r), Type: kind, Subject: r.LockID, Time: r.Time, DataContentType: "application/json",
		PartitionKey: r.LockID, Sidecar: s.o.Sidecar,
		Data: data{
			Type: r.Type, Backend: r.Backend, LockID: r.LockID, OwnerID: r.OwnerID, Shared: r.Shared, Position: r.Position, QueueLength: r.QueueLength,
			Priority: r.Priority, Reason: r.Reason, By: r.By, Ended: r.Ended, Deadlock: r.Deadlock,
		},
	}
	if r.Token != 0 {
		e.Data.Token = strconv.FormatInt(r.Token, 10)
	}
	if r.Ticket != 0 {
		e.Data.Ticket = strconv.FormatInt(r.Ticket, 10)
	}
	if r.Missed != 0 {
		e.Data.Missed = strconv.FormatUint(r.Missed, 10)
	}
	switch r.Type {
	case events.TypeAcquired, events.TypeReleased, events.TypeAdopted:
		e.Data.HoldCount = &r.HoldCount
	}
	if r.TTL > 0 {
		e.Data.TTL = r.TTL.String()
	}
	if !r.ExpiresAt.IsZero() {
		e.Data.ExpiresAt = &r.ExpiresAt
	}
	return json.Marshal(e)
}
