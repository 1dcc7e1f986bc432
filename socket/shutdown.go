package socket

import (
	"context"
)

// Shutdown stops the server:
//
//  1. its listeners are closed; new acquires are refused with DRAINING, those
//     that wait are given up;
//  2. every Hold stream is told DRAINING and ends as if its client had ended
//     it, which releases its leases;
//  3. the calls in flight may end until ctx does, then they are cut off;
//  4. every goroutine of the server has ended when it returns.
//
// It returns ctx's error if calls were cut off.
func (s *Server) Shutdown(ctx context.Context) error { return s.shutdown(ctx, errDraining) }

// Leave is Shutdown, but what the Hold streams hold is not released: it stands
// as if their connections had broken, to be adopted elsewhere. Nobody renews it.
func (s *Server) Leave(ctx context.Context) error { return s.shutdown(ctx, errLeaving) }

func (s *Server) shutdown(ctx context.Context, cause error) error {
	s.mu.Lock()
	s.stopping(cause)
	started := s.started
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.unsniffed {
		_ = c.Close()
	}
	s.mu.Unlock()
	if !started {
		return nil
	}
	// The handovers close first, so that nobody is stuck in between.
	_ = s.grpcConns.Close()
	_ = s.httpConns.Close()
	s.accepting.Wait()

	cut := context.AfterFunc(ctx, func() {
		s.grpc.Stop()
		_ = s.http.Close()
	})
	s.grpc.GracefulStop()
	err := s.http.Shutdown(ctx)
	if !cut() {
		err = context.Cause(ctx)
	}
	s.running.Wait()
	s.mourning.end()
	s.deaths.close()
	return err
}
