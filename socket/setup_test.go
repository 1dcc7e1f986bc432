package socket_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
	"github.com/locksidecar/locksidecar/renew"
	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// TestMain runs the tests, or, as a child of one, what that test wants done in
// another process.
func TestMain(m *testing.M) {
	if role := os.Getenv("SOCKET_TEST_ROLE"); role != "" {
		os.Exit(child(role))
	}
	goleak.VerifyTestMain(settled{m})
}

// settled are tests after which goroutines that end by themselves have ended,
// however busy the machine is: goleak alone waits half a second.
type settled struct{ *testing.M }

func (s settled) Run() int {
	code := s.M.Run()
	for end := time.Now().Add(patience); code == 0 && goleak.Find() != nil && time.Now().Before(end); {
	}
	return code
}

// patience bounds each wait for something that must come.
const patience = 50 * time.Second

// sidecar is a server over the embedded driver.
type sidecar struct {
	server *socket.Server
	store  *backend.Store
	keeper *renew.Keeper
	path   string
	served chan error
}

// start serves on a fresh socket. The options may leave out what is the same
// for every test; wrap, if not nil, stands around the driver.
func start(t testing.TB, o socket.Options, wrap func(driver.Driver) driver.Driver) *sidecar {
	t.Helper()
	return startServer(t, o, wrap, socket.New)
}

// startImpatient is start with a second for each keep-alive, and with this time
// for what a peer must do.
func startImpatient(t testing.TB, timeout time.Duration) *sidecar {
	t.Helper()
	return startServer(t, socket.Options{}, nil, func(o socket.Options) *socket.Server {
		return socket.NewWithPulse(o, time.Second, timeout)
	})
}

func startServer(t testing.TB, o socket.Options, wrap func(driver.Driver) driver.Driver, open func(socket.Options) *socket.Server) *sidecar {
	t.Helper()
	var d driver.Driver
	d, err := embedded.New(embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if wrap != nil {
		d = wrap(d)
	}
	store := backend.New(d, backend.Options{})
	keeper := renew.New(store, renew.Options{})
	o.Locks, o.Sessions = store, socket.Kept(keeper)
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s := &sidecar{server: open(o), store: store, keeper: keeper, path: filepath.Join(shortDir(t), "run", "api.sock"), served: make(chan error, 1)}
	l, err := socket.Listen(s.path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	go func() { s.served <- s.server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.server.Shutdown(ctx)
		if err := <-s.served; !errors.Is(err, socket.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
		_ = keeper.Close(ctx)
		_ = store.Close()
	})
	return s
}

// shortDir is a directory whose path leaves room for the name of a socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ls")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

type client struct {
	lockpb.LockServiceClient
	admin lockpb.AdminServiceClient
	conn  *grpc.ClientConn
}

func dial(t testing.TB, path string, options ...grpc.DialOption) client {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+path, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return client{lockpb.NewLockServiceClient(conn), lockpb.NewAdminServiceClient(conn), conn}
}

func httpClient(t testing.TB, path string) *http.Client {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// within is a context that ends with the test's patience.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until the condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// holders are those of a lock.
func (s *sidecar) holders(t testing.TB, id string) []driver.Holder {
	t.Helper()
	l, err := s.store.Get(within(t), id)
	if err != nil {
		t.Fatal(err)
	}
	return l.Holders
}

// waiters are those of a lock.
func (s *sidecar) waiters(t testing.TB, id string) int {
	t.Helper()
	l, err := s.store.Get(within(t), id)
	if err != nil {
		t.Fatal(err)
	}
	return len(l.Waiters)
}

func (s *sidecar) free(t testing.TB, id string) func() bool {
	return func() bool { return len(s.holders(t, id)) == 0 }
}

func seconds(s float64) *durationpb.Duration {
	return durationpb.New(time.Duration(s * float64(time.Second)))
}

// listAll is the first page of all locks.
var listAll = &driver.ListRequest{}

func contextWithCancel(t testing.TB) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(within(t))
	t.Cleanup(cancel)
	return ctx, cancel
}

// force ends a lease at once.
func (s *sidecar) force(t testing.TB, id string, token int64) error {
	t.Helper()
	_, err := s.store.ForceRelease(within(t), &backend.ForceReleaseRequest{LockID: id, Token: token, Immediate: true})
	return err
}
