// Package client is what the commands need to talk to a sidecar's socket.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// EndpointVariable names the sidecar's endpoint.
const EndpointVariable = "LOCKSIDECAR_ENDPOINT"

// ServePath is where serve listens by default.
const ServePath = "/run/locksidecar/api.sock"

// DevPath is where dev listens by default: in the user's runtime directory, or
// in a private directory under the temporary one.
func DevPath() string {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("locksidecar-%d", os.Getuid()))
	}
	return filepath.Join(dir, "locksidecar", "api.sock")
}

// Endpoint is the given one, else the environment's, else dev's if it is there,
// else serve's.
func Endpoint(given string) string {
	if given == "" {
		given = os.Getenv(EndpointVariable)
	}
	if given != "" {
		return given
	}
	path := ServePath
	if _, err := os.Stat(DevPath()); err == nil {
		path = DevPath()
	}
	return "unix://" + path
}

// Client talks to one sidecar.
type Client struct {
	lockpb.LockServiceClient
	lockpb.AdminServiceClient
	Health   grpc_health_v1.HealthClient
	conn     *grpc.ClientConn
	endpoint func() string
}

// New returns a client of an endpoint such as unix:///path. It connects with
// the first call.
func New(endpoint string) (*Client, error) {
	if err := ValidEndpoint(endpoint); err != nil {
		return nil, err
	}
	return dial(endpoint, func() string { return endpoint })
}

// ValidEndpoint says what is wrong with an endpoint: it must be unix:///path.
func ValidEndpoint(endpoint string) error {
	path, ok := strings.CutPrefix(endpoint, "unix:")
	if !ok || strings.Trim(path, "/") == "" {
		return fmt.Errorf("endpoint %q: want unix:///path/of/the/socket", endpoint)
	}
	return nil
}

// Open returns a client of the endpoint that Endpoint chooses. Where nothing is
// given, it chooses again with each attempt to connect: the daemon that is
// waited for may be either.
func Open(given string) (*Client, error) {
	if given != "" || os.Getenv(EndpointVariable) != "" {
		return New(Endpoint(given))
	}
	choose := func() string { return Endpoint("") }
	return dial("unix://"+ServePath, choose, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(choose(), "unix://"))
	}))
}

func dial(target string, endpoint func() string, o ...grpc.DialOption) (*Client, error) {
	conn, err := grpc.NewClient(target, append(o, grpc.WithTransportCredentials(insecure.NewCredentials()),
		// A socket is near: it is tried again soon, for as long as somebody waits.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.5, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: 5 * time.Second,
		}))...)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", target, err)
	}
	return &Client{
		lockpb.NewLockServiceClient(conn), lockpb.NewAdminServiceClient(conn), grpc_health_v1.NewHealthClient(conn), conn, endpoint,
	}, nil
}

// Endpoint is where the client connects.
func (c *Client) Endpoint() string { return c.endpoint() }

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Reason is the reason that a sidecar gave for an error, with its metadata; an
// empty reason means that no sidecar answered.
func Reason(err error) (string, map[string]string) {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason(), info.GetMetadata()
		}
	}
	return "", nil
}

// NoDaemon says that nobody answered at the endpoint.
func NoDaemon(err error) bool {
	reason, _ := Reason(err)
	return reason == "" && status.Code(err) == codes.Unavailable
}

// Deadline is the context of a call that does not wait for a lock.
func Deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 10*time.Second)
}

// Message is what a person reads of an error.
func Message(err error) string {
	if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
		message := s.Message()
		if _, dialing, ok := strings.Cut(message, "Error while dialing: "); ok {
			message = strings.TrimSuffix(dialing, `"`)
		}
		return message
	}
	return err.Error()
}

// ErrNotServing is the outcome of a health check that was answered by no.
var ErrNotServing = errors.New("not serving")
