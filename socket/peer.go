package socket

import (
	"context"
	"fmt"
	"strconv"

	"google.golang.org/grpc/peer"
)

// Peer is what the kernel says of the process that opened a connection.
type Peer struct {
	// PID is 0 if the process is in another PID namespace. It is no identity:
	// it names the peer in logs and for limits only.
	PID int32
	// UID and GID are those of the process when it connected; overflowID if
	// they have no meaning in this user namespace.
	UID, GID uint32
	// Groups are its supplementary groups then, nil if the kernel does not tell.
	Groups []uint32
	// Socket is the path of the socket on which it connected.
	Socket string
}

// String names the peer as far as the kernel vouches for it.
func (p Peer) String() string {
	uid := "unknown"
	if p.UID != overflowID {
		uid = strconv.FormatUint(uint64(p.UID), 10)
	}
	return fmt.Sprintf("uid=%s gid=%d pid=%d", uid, p.GID, p.PID)
}

// overflowID is the kernel's "nobody": an id that cannot be expressed here.
const overflowID = 65534

// connKey is the key of the connection in the context of an HTTP request.
type connKey struct{}

// connOf is the connection that a request came on; nil if it is none of ours.
func connOf(ctx context.Context) *conn {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		return c
	}
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(authInfo); ok {
			return info.conn
		}
	}
	return nil
}

// operator names who acts as an operator, for events and the log.
func (c *conn) operator() string {
	if c.admin != "" {
		return c.admin
	}
	return c.peer.String()
}
