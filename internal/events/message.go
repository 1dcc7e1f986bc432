package events

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// id names the fact. It is made of what every teller of the fact knows: the
// type, the token and the lock, and for a hold, a place or an attachment what
// tells it from the others of the lease.
func (e *entry) id() string {
	detail := ""
	switch {
	case e.deadlock != nil:
		return e.kind + "-" + e.deadlock.GetId()
	case e.kind == TypeForceReleased && !e.ended:
		detail = ".revoked"
	case e.kind == TypeReleased && e.holdCount == 0: // the lease's end, whichever hold was the last
	case e.kind == TypeLost && e.requestID == "":
		detail = "." + strconv.FormatInt(e.attach, 10)
	case (e.kind == TypeQueued || e.kind == TypeAbandoned) && e.ticket != 0: // the place, of which a request may have several
		detail = "." + hashed(e.lockID, e.requestID) + "." + strconv.FormatInt(e.ticket, 10)
	case e.kind == TypeAdopted:
		detail = "." + strconv.FormatInt(e.attach, 10)
	case e.kind == TypeReprioritized: // a place may get one priority after another
		detail = "." + hashed(e.lockID, e.requestID) + "." + strconv.Itoa(int(e.priority)) + "." + strconv.FormatInt(e.at, 36)
	case e.requestID != "":
		detail = "." + hashed(e.lockID, e.requestID)
	}
	return e.kind + detail + "-" + strconv.FormatInt(e.token, 10) + "-" + e.lockID
}

// hashed names a request without telling its id, which is a secret.
func hashed(lockID, requestID string) string {
	sum := sha256.Sum256([]byte("event of " + lockID + " " + requestID))
	return hex.EncodeToString(sum[:8])
}

// message is the event as a reader gets it.
func (e *entry) message(cursor string) *lockpb.Event {
	return &lockpb.Event{
		Id: e.id(), Cursor: cursor, Time: timestamppb.New(time.Unix(0, e.at)), Type: e.kind, LockId: e.lockID, OwnerId: e.ownerID,
		FencingToken: e.token, Shared: e.shared, Reason: e.reason, Position: uint32(e.position), QueueLength: uint32(e.queueLength), //nolint:gosec // not negative
		Operator: e.by, Ticket: e.ticket, Priority: uint32(e.priority), //nolint:gosec // not negative
		HoldCount: uint32(e.holdCount), Ended: e.ended, Deadlock: e.deadlock, //nolint:gosec // not negative
	}
}
