package socket

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
)

// authInfo carries the connection to the handlers of its calls.
type authInfo struct{ conn *conn }

// AuthType names how the peer was identified.
func (authInfo) AuthType() string { return "unix-peer" }

// peerCredentials encrypt nothing: they carry the connection.
type peerCredentials struct{}

func (peerCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := raw.(*conn)
	if !ok {
		return nil, nil, errors.New("not a connection of this listener")
	}
	return c, authInfo{c}, nil
}

func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a server's")
}

func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix"}
}

func (p peerCredentials) Clone() credentials.TransportCredentials { return p }

func (peerCredentials) OverrideServerName(string) error { return nil }
