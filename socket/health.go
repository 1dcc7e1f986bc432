package socket

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// healthInterval is how often a watcher of the health looks.
const healthInterval = time.Second

// serving says whether an entry serves: a backend by its name, or, by the empty
// name, the sidecar, which serves if any backend does and it is not stopping.
func (s *Server) serving(entry string) (serving, known bool) {
	ready := s.o.Ready()
	if entry != "" {
		serving, known = ready[entry]
		return serving && s.drain.Err() == nil, known
	}
	if s.drain.Err() != nil {
		return false, true
	}
	for _, r := range ready {
		if r {
			return true, true
		}
	}
	return len(ready) == 0, true
}

func (s *Server) health(entry string) healthpb.HealthCheckResponse_ServingStatus {
	switch serving, known := s.serving(entry); {
	case !known:
		return healthpb.HealthCheckResponse_SERVICE_UNKNOWN
	case serving:
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}

// healthService serves grpc.health.v1: the empty name and one for each backend.
type healthService struct {
	healthpb.UnimplementedHealthServer
	s *Server
}

func (g healthService) Check(_ context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	st := g.s.health(in.GetService())
	if st == healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, status.Error(codes.NotFound, "no backend has this name")
	}
	return &healthpb.HealthCheckResponse{Status: st}, nil
}

func (g healthService) List(context.Context, *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	statuses := map[string]*healthpb.HealthCheckResponse{"": {Status: g.s.health("")}}
	for name := range g.s.o.Ready() {
		statuses[name] = &healthpb.HealthCheckResponse{Status: g.s.health(name)}
	}
	return &healthpb.HealthListResponse{Statuses: statuses}, nil
}

func (g healthService) Watch(in *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	ticker := time.NewTicker(healthInterval)
	defer ticker.Stop()
	told := healthpb.HealthCheckResponse_UNKNOWN
	draining := g.s.drain.Done()
	for {
		if st := g.s.health(in.GetService()); st != told {
			told = st
			if err := stream.Send(&healthpb.HealthCheckResponse{Status: st}); err != nil {
				return err
			}
		}
		if g.s.drain.Err() != nil {
			return g.s.explain(errDraining).status()
		}
		select {
		case <-ticker.C:
		case <-draining:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}
