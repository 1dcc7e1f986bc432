package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// call is one call of a client's on its way through a proxy, of one request and
// one reply or a stream of them.
type call struct {
	p      *EtcdProxy
	path   string // /service/method
	method string
	client grpc.ServerStream
	server grpc.ClientStream
	ctx    context.Context // of the server's side
	cancel context.CancelFunc
	// detach lets the server's side go on when the client has gone.
	detach func() bool

	mu sync.Mutex
	// due has, for each request whose reply is to come, what is to be done to
	// the reply: nil, or what FailAt asked for.
	due []*Injection
}

// errLost ends what carries a call of which something was lost.
var errLost = errors.New("testenv: lost")

// both are the directions of a call: a call of one request is a stream of one.
var both = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

// serve carries one call.
func (p *EtcdProxy) serve(_ any, client grpc.ServerStream) (err error) {
	path, _ := grpc.MethodFromServerStream(client)
	c := &call{p: p, path: path, method: path[strings.LastIndexByte(path, '/')+1:], client: client}
	sent, _ := metadata.FromIncomingContext(client.Context())
	c.ctx, c.cancel = context.WithCancel(metadata.NewOutgoingContext(p.ctx, sent))
	defer c.cancel()
	c.detach = context.AfterFunc(client.Context(), c.cancel)
	defer c.detach()
	if c.server, err = p.upstream.NewStream(c.ctx, both, path); err != nil {
		return err
	}
	requests := make(chan error, 1)
	p.done.Go(func() { requests <- c.carryRequests() })
	replies := make(chan error, 1)
	p.done.Go(func() { replies <- c.carryReplies() })
	select {
	case err = <-requests:
		if err == nil {
			err = <-replies
		}
	case err = <-replies:
	}
	if errors.Is(err, errLost) {
		// Until the client gives up: its deadline may end here a moment earlier than
		// there, and what it is told is then the same.
		<-client.Context().Done()
		return status.FromContextError(client.Context().Err()).Err()
	}
	return err
}

func (c *call) carryRequests() error {
	for {
		var request []byte
		if err := c.client.RecvMsg(&request); err != nil {
			// The client has no more requests, or it has gone: then the server's side
			// ends as its context says.
			return c.server.CloseSend()
		}
		i := c.p.meet(c.method)
		switch i.what() {
		case LoseRequest:
			close(i.met)
			return errLost
		case BreakRequest:
			c.abort()
			close(i.met)
			return errLost
		case HoldRequest:
			c.detach()
			close(i.met)
			i.wait(c.p.ctx.Done())
		case LoseReply, BreakReply, TearReply, HoldReply, DuplicateRequest:
			c.detach()
		}
		c.expect(i)
		if err := c.server.SendMsg(request); err != nil {
			return nil // what the server said is for the other direction to tell
		}
		if i.what() == DuplicateRequest {
			err := c.again(request)
			close(i.met)
			if err != nil {
				return err
			}
		}
	}
}

// again sends a request a second time, by a call of its own, and waits for the
// answer.
func (c *call) again(request []byte) error {
	twin, err := c.p.upstream.NewStream(c.ctx, both, c.path)
	if err != nil {
		return err
	}
	if err := twin.SendMsg(request); err != nil {
		return err
	}
	if err := twin.CloseSend(); err != nil {
		return err
	}
	for {
		var reply []byte
		if err := twin.RecvMsg(&reply); err != nil {
			return nil // the end, or a refusal
		}
	}
}

func (c *call) carryReplies() error {
	for first := true; ; first = false {
		var reply []byte
		err := c.server.RecvMsg(&reply)
		ended := errors.Is(err, io.EOF)
		var i *Injection
		if !ended {
			i = c.answered()
		}
		switch i.what() {
		case LoseReply:
			close(i.met)
			return errLost
		case BreakReply, TearReply:
			c.abort()
			close(i.met)
			return errLost
		case HoldReply:
			close(i.met)
			i.wait(c.p.ctx.Done())
		case HoldRequest:
			close(i.answered)
		case DuplicateRequest:
			<-i.met // the end of the call would end its twin
		}
		if first {
			if header, err := c.server.Header(); err == nil && len(header) > 0 {
				_ = c.client.SetHeader(header)
			}
		}
		if err != nil {
			c.client.SetTrailer(c.server.Trailer())
			if ended {
				return nil
			}
			return err
		}
		if c.method == "Status" {
			if reply, err = c.p.dressed(reply); err != nil {
				return err
			}
		}
		if err := c.client.SendMsg(reply); err != nil {
			if i.what() == HoldReply || i.what() == HoldRequest {
				return nil // the client may have gone
			}
			return err
		}
	}
}

// dressed is a status with the version that SetVersion asked for.
func (p *EtcdProxy) dressed(reply []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.version == "" {
		return reply, nil
	}
	var s pb.StatusResponse
	if err := proto.Unmarshal(reply, &s); err != nil {
		return nil, err
	}
	s.Version = p.version
	return proto.Marshal(&s)
}

// expect notes what is to be done to the reply of the request that follows.
func (c *call) expect(i *Injection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = append(c.due, i)
}

// answered takes what is to be done to the reply that came. One that nobody asked
// for, an event of a watch for instance, passes.
func (c *call) answered() *Injection {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.due) == 0 {
		return nil
	}
	i := c.due[0]
	c.due = c.due[1:]
	return i
}

// abort resets the client's connection.
func (c *call) abort() {
	if from, ok := peer.FromContext(c.client.Context()); ok {
		c.p.listener.abort(from.Addr.String())
	}
}

// raw is a codec of messages that are not looked into.
type raw struct{}

// Name is what the messages are: protobuf's.
func (raw) Name() string { return "proto" }

// Marshal sends the bytes as they are.
func (raw) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("testenv: a message is %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// Unmarshal takes the bytes as they are.
func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("testenv: a message is %T", v)
	}
	*b = data.Materialize()
	return nil
}
