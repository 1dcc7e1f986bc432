package main

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// echo answers every request at once with a message like the sidecar's. It is
// the yardstick: the same client, transport and messages, and no lock.
type echo struct {
	lockpb.UnimplementedLockServiceServer
}

func serveEcho(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	lockpb.RegisterLockServiceServer(s, echo{})
	return s.Serve(l)
}

func (echo) Acquire(_ context.Context, r *lockpb.AcquireRequest) (*lockpb.Lease, error) {
	return echoLease(r), nil
}

func (echo) Release(_ context.Context, r *lockpb.ReleaseRequest) (*lockpb.ReleaseResponse, error) {
	return &lockpb.ReleaseResponse{LockId: r.GetLockId()}, nil
}

func (echo) Hold(s grpc.BidiStreamingServer[lockpb.HoldRequest, lockpb.HoldResponse]) error {
	for {
		r, err := s.Recv()
		if err != nil {
			return nil // the client has ended the stream
		}
		out := &lockpb.HoldResponse{}
		if a := r.GetAcquire(); a != nil {
			out.RequestId, out.LockId = a.GetRequestId(), a.GetLockId()
			out.Event = &lockpb.HoldResponse_Granted{Granted: echoLease(a)}
		} else {
			rel := r.GetRelease()
			out.RequestId, out.LockId = rel.GetRequestId(), rel.GetLockId()
			out.Event = &lockpb.HoldResponse_Released{Released: &lockpb.ReleaseResponse{LockId: rel.GetLockId()}}
		}
		if err := s.Send(out); err != nil {
			return err
		}
	}
}

func echoLease(r *lockpb.AcquireRequest) *lockpb.Lease {
	return &lockpb.Lease{
		LockId: r.GetLockId(), LeaseId: "00112233445566778899aabbccddeeff", OwnerId: r.GetOwnerId(),
		FencingToken: 1_790_000_000_000_000, HoldCount: 1, RequestId: r.GetRequestId(),
		Ttl: &durationpb.Duration{Seconds: 15}, ValidFor: &durationpb.Duration{Seconds: 14},
	}
}
