package socket

import (
	"context"
	"runtime"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// What one connection may ask of the server.
const (
	maxMessage    = 64 << 10
	maxStreams    = 1000
	maxHeaderList = 16 << 10
	// streamWindow and connectionWindow are flow control's. They are fixed:
	// estimating them costs pings, and a Unix socket has no delay to fill.
	streamWindow     = 128 << 10
	connectionWindow = 1 << 20
)

// pulse finds a peer that does not even answer pings, as a stopped process does.
type pulse struct {
	// period is the time between pings, timeout that for the answer.
	period, timeout time.Duration
}

// steady is long enough for a runtime that is busy for a few seconds.
var steady = pulse{period: 5 * time.Second, timeout: 10 * time.Second}

func (s *Server) newGRPC() *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(peerCredentials{}),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: s.pulse.period, Timeout: s.pulse.timeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(sniffTimeout),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaderList),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.NumStreamWorkers(uint32(2*runtime.GOMAXPROCS(0))), //nolint:gosec // a small number
		grpc.WaitForHandlers(true),
	)
	lockpb.RegisterLockServiceServer(g, lockService{s: s})
	lockpb.RegisterAdminServiceServer(g, adminService{s: s})
	healthpb.RegisterHealthServer(g, healthService{s: s})
	reflection.Register(g)
	return g
}

// unary authorises a call before its handler, and turns its error into the
// table's.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if _, err := s.authorize(ctx, info.FullMethod); err != nil {
		return nil, s.explain(err).status()
	}
	return handler(ctx, req)
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if _, err := s.authorize(ss.Context(), info.FullMethod); err != nil {
		return s.explain(err).status()
	}
	return handler(srv, ss)
}

// reply turns a call's error into the table's.
func reply[T any](s *Server, out *T, err error) (*T, error) {
	if err != nil {
		return nil, s.explain(err).status()
	}
	return out, nil
}

// lockService serves lockpb.LockService by the calls of service.go.
type lockService struct {
	lockpb.UnimplementedLockServiceServer
	s *Server
}

func (g lockService) Acquire(ctx context.Context, in *lockpb.AcquireRequest) (*lockpb.Lease, error) {
	out, err := g.s.acquire(ctx, connOf(ctx), in)
	return reply(g.s, out, err)
}

func (g lockService) Renew(ctx context.Context, in *lockpb.RenewRequest) (*lockpb.Lease, error) {
	out, err := g.s.renew(ctx, in)
	return reply(g.s, out, err)
}

func (g lockService) Release(ctx context.Context, in *lockpb.ReleaseRequest) (*lockpb.ReleaseResponse, error) {
	out, err := g.s.release(ctx, in)
	return reply(g.s, out, err)
}

func (g lockService) Get(ctx context.Context, in *lockpb.GetRequest) (*lockpb.Lock, error) {
	out, err := g.s.get(ctx, in)
	return reply(g.s, out, err)
}

// adminService serves lockpb.AdminService.
type adminService struct {
	lockpb.UnimplementedAdminServiceServer
	s *Server
}

func (g adminService) List(ctx context.Context, in *lockpb.ListRequest) (*lockpb.ListResponse, error) {
	out, err := g.s.list(ctx, in)
	return reply(g.s, out, err)
}

func (g adminService) ForceRelease(ctx context.Context, in *lockpb.ForceReleaseRequest) (*lockpb.ForceReleaseResponse, error) {
	out, err := g.s.forceRelease(ctx, connOf(ctx), in)
	return reply(g.s, out, err)
}

func (g adminService) GetStatus(ctx context.Context, _ *lockpb.GetStatusRequest) (*lockpb.Status, error) {
	return g.s.status(ctx), nil
}
