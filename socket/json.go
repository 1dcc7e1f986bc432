package socket

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/locksidecar/locksidecar/backend"
)

// whole writes the field names of the proto file, and lists and numbers also
// when they are empty, so that a free lock shows its holders: none. brief leaves
// out what is empty, for errors.
var (
	whole = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}
	brief = protojson.MarshalOptions{UseProtoNames: true}
)

// encode is a message as one line of JSON. Blanks are taken out, because
// protojson varies them on purpose.
func encode(o protojson.MarshalOptions, m proto.Message) ([]byte, error) {
	raw, err := o.Marshal(m)
	if err != nil {
		return nil, err
	}
	line := bytes.NewBuffer(make([]byte, 0, len(raw)+1))
	if err := json.Compact(line, raw); err != nil {
		return nil, err
	}
	line.WriteByte('\n')
	return line.Bytes(), nil
}

// readBody reads the whole body, whatever its type is said to be, in a bounded
// time. Afterwards the server notices when the client leaves.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(s.pulse.timeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(s.quotas.limits.Message)))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, s.tooLarge()
		}
		return nil, fmt.Errorf("%w: its body did not arrive", errRequest)
	}
	_ = rc.SetReadDeadline(time.Time{})
	return body, nil
}

var unknownField = regexp.MustCompile(`unknown field "([^"]*)"`)

// decode reads a message; an empty body is an empty message. An unknown field
// is an error that names it: a misspelt "wait" must not wait for ever.
func decode(body []byte, m proto.Message) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	err := protojson.Unmarshal(body, m)
	if err == nil {
		return nil
	}
	if name := unknownField.FindStringSubmatch(err.Error()); name != nil {
		return badRequest(name[1], "is no field of "+string(m.ProtoReflect().Descriptor().Name()), "the fields of lock.proto")
	}
	// The text says where and why; its blanks vary on purpose.
	text := strings.TrimSpace(strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto:"))
	return badRequest("body", "is not the JSON of "+string(m.ProtoReflect().Descriptor().Name())+": "+text, "JSON with the field names of lock.proto")
}

func badRequest(field, reason, limits string) error {
	return fmt.Errorf("%w: %w", errRequest, &backend.InvalidError{Field: field, Reason: reason, Limits: limits})
}

// writeMessage answers with a message.
func (s *Server) writeMessage(w http.ResponseWriter, status int, o protojson.MarshalOptions, m proto.Message) {
	line, err := encode(o, m)
	if err != nil {
		s.log.printf("an answer could not be encoded: %v", err)
		http.Error(w, `{"code":13}`, http.StatusInternalServerError)
		return
	}
	// Who does not read the answer loses the connection. The deadline is taken
	// back by the next request.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.pulse.timeout))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(line) //nolint:gosec // JSON, and the caller may have left
}

// writeError answers with the row of the error.
func (s *Server) writeError(w http.ResponseWriter, err error) {
	a := s.explain(err)
	if a.reason.Retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(a.reason.Retry.Seconds())))
	}
	s.writeMessage(w, a.reason.HTTP, brief, a.rpc())
}
