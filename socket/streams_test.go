package socket_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// A connection has a bound of streams. Clients that know HTTP/2 wait when they
// have reached it; here is one that does not.
func TestStreamsOfAConnectionAreBounded(t *testing.T) {
	const most = 5
	s := start(t, socket.Options{Limits: socket.Limits{Streams: most}}, nil)
	c, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(c, c)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	told := readUntil(t, f, func(fr http2.Frame) bool {
		settings, ok := fr.(*http2.SettingsFrame)
		return ok && !settings.IsAck()
	}).(*http2.SettingsFrame)
	if n, ok := told.Value(http2.SettingMaxConcurrentStreams); !ok || n != most {
		t.Errorf("the client is told %d streams, want %d", n, most)
	}
	if err := f.WriteSettingsAck(); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	headers := hpack.NewEncoder(&block)
	for i := range uint32(most + 1) {
		block.Reset()
		for _, h := range [][2]string{
			{":method", "POST"}, {":scheme", "http"}, {":path", lockpb.LockService_Hold_FullMethodName}, {":authority", "localhost"},
			{"content-type", "application/grpc"}, {"te", "trailers"},
		} {
			if err := headers.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
	}
	reset := readUntil(t, f, func(fr http2.Frame) bool { return fr.Header().Type == http2.FrameRSTStream }).(*http2.RSTStreamFrame)
	if reset.StreamID != 2*most+1 || reset.ErrCode != http2.ErrCodeRefusedStream {
		t.Errorf("stream %d was reset with %v, want the one beyond the limit, refused", reset.StreamID, reset.ErrCode)
	}
	// Others, and the same process on another connection, go on.
	if _, err := dial(t, s.path).Get(within(t), &lockpb.GetRequest{LockId: "a"}); err != nil {
		t.Error(err)
	}
}

func readUntil(t *testing.T, f *http2.Framer, is func(http2.Frame) bool) http2.Frame {
	t.Helper()
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatal(errors.Join(errors.New("waiting for a frame"), err))
		}
		if is(fr) {
			return fr
		}
	}
}
