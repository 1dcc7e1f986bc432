package socket

import (
	"context"
	"runtime"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

const (
	// Below slack times a limit of size a request is read and answered with
	// LIMIT_EXCEEDED; beyond it the protocol refuses it, in its own words.
	slack = 4
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
	limits := &s.quotas.limits
	options := []grpc.ServerOption{
		grpc.Creds(peerCredentials{}),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: s.pulse.period, Timeout: s.pulse.timeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(s.pulse.timeout),
		grpc.InTapHandle(s.tap),
		grpc.MaxRecvMsgSize(slack * limits.Message),
		grpc.MaxConcurrentStreams(uint32(limits.Streams)),      //nolint:gosec // a small number
		grpc.MaxHeaderListSize(uint32(slack * limits.Headers)), //nolint:gosec // a small number
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.NumStreamWorkers(uint32(2 * runtime.GOMAXPROCS(0))), //nolint:gosec // a small number
		grpc.WaitForHandlers(true),
	}
	if s.o.Tracer != nil {
		options = append(options, grpc.StatsHandler(s.o.Tracer.Stats()))
	}
	g := grpc.NewServer(options...)
	lockpb.RegisterLockServiceServer(g, lockService{s: s})
	lockpb.RegisterAdminServiceServer(g, adminService{s: s})
	healthpb.RegisterHealthServer(g, healthService{s: s})
	reflection.Register(g)
	return g
}

// tap looks at the headers of a call before anything is done for it.
func (s *Server) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	size := 0
	for name, values := range info.Header {
		for _, v := range values {
			size += headerSize(name, v)
		}
	}
	if most := s.quotas.limits.Headers; size > most {
		return ctx, s.explain(&limitError{"bytes of headers", most}).status()
	}
	return ctx, nil
}

// headerSize is what a header counts, as HTTP/2 has it (RFC 9113, 6.5.2).
func headerSize(name, value string) int { return len(name) + len(value) + 32 }

// fits checks the size of a request that was read.
func (s *Server) fits(req any) error {
	if m, ok := req.(proto.Message); ok && proto.Size(m) > s.quotas.limits.Message {
		return s.tooLarge()
	}
	return nil
}

func (s *Server) tooLarge() error {
	return &limitError{"bytes of a message", s.quotas.limits.Message}
}

// unary authorises a call before its handler, and turns its error into the
// table's.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	lockID := ""
	if named, ok := req.(interface{ GetLockId() string }); ok {
		lockID = named.GetLockId()
	}
	c, err := s.authorize(ctx, info.FullMethod, lockID)
	if err == nil {
		err = s.fits(req)
	}
	if err == nil && !exempt[info.FullMethod] {
		if err = c.quota.call(); err == nil {
			defer c.quota.hangUp()
		}
	}
	if err != nil {
		return nil, s.explain(err).status()
	}
	return handler(ctx, req)
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	c, err := s.authorize(ss.Context(), info.FullMethod, "")
	if err == nil && !exempt[info.FullMethod] {
		if err = c.quota.call(); err == nil {
			defer c.quota.hangUp()
		}
	}
	if err != nil {
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
	out, err := g.s.list(ctx, connOf(ctx), in)
	return reply(g.s, out, err)
}

func (g adminService) ForceRelease(ctx context.Context, in *lockpb.ForceReleaseRequest) (*lockpb.ForceReleaseResponse, error) {
	out, err := g.s.forceRelease(ctx, connOf(ctx), in)
	return reply(g.s, out, err)
}

func (g adminService) CancelWaiter(ctx context.Context, in *lockpb.CancelWaiterRequest) (*lockpb.CancelWaiterResponse, error) {
	out, err := g.s.cancelWaiter(ctx, connOf(ctx), in)
	return reply(g.s, out, err)
}

func (g adminService) Reprioritize(ctx context.Context, in *lockpb.ReprioritizeRequest) (*lockpb.ReprioritizeResponse, error) {
	out, err := g.s.reprioritize(ctx, connOf(ctx), in)
	return reply(g.s, out, err)
}

func (g adminService) GetStatus(ctx context.Context, in *lockpb.GetStatusRequest) (*lockpb.Status, error) {
	return g.s.status(ctx, connOf(ctx), in), nil
}
