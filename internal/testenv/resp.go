package testenv

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxFrame bounds a request or a reply, in bytes.
const maxFrame = 64 << 20

// frame collects the bytes of a request or a reply as they are read.
type frame struct {
	from *bufio.Reader
	raw  bytes.Buffer
}

// line reads up to the line's end, and gives the line without it.
func (f *frame) line() (string, error) {
	text, err := f.from.ReadString('\n')
	if err != nil {
		return "", err
	}
	_, _ = f.raw.WriteString(text) // it never fails
	if text = strings.TrimRight(text, "\r\n"); text == "" {
		return "", fmt.Errorf("an empty line in RESP")
	}
	return text, nil
}

// bulk reads the bytes that a length announced, and their line's end.
func (f *frame) bulk(length string) (string, error) {
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 { // -1 is RESP2's null
		return "", err
	}
	if n+f.raw.Len() > maxFrame {
		return "", fmt.Errorf("a frame of RESP is longer than %d bytes", maxFrame)
	}
	start := f.raw.Len()
	if _, err := io.CopyN(&f.raw, f.from, int64(n)+2); err != nil {
		return "", err
	}
	return string(f.raw.Bytes()[start : start+n]), nil
}

// readRequest reads an array of bulk strings, and gives its bytes and the
// command's name in upper case.
func readRequest(from *bufio.Reader) (raw []byte, command string, err error) {
	f := &frame{from: from}
	head, err := f.line()
	if err != nil {
		return nil, "", err
	}
	n, err := strconv.Atoi(head[1:])
	if err != nil || head[0] != '*' {
		return nil, "", fmt.Errorf("%q begins no request", head)
	}
	for k := range n {
		size, err := f.line()
		if err != nil {
			return nil, "", err
		}
		text, err := f.bulk(size[1:])
		if err != nil {
			return nil, "", err
		}
		if k == 0 {
			command = strings.ToUpper(text)
		}
	}
	return f.raw.Bytes(), command, nil
}

// readReply reads one reply of RESP2 or RESP3, and tells whether it is a push,
// which belongs to no request.
func readReply(from *bufio.Reader) (raw []byte, push bool, err error) {
	f := &frame{from: from}
	kind, err := f.value()
	return f.raw.Bytes(), kind == '>', err
}

// value reads a value with all that is in it, and gives its type.
func (f *frame) value() (kind byte, err error) {
	head, err := f.line()
	if err != nil {
		return 0, err
	}
	kind, rest := head[0], head[1:]
	values := 1
	switch kind {
	case '+', '-', ':', '_', ',', '#', '(':
		return kind, nil
	case '$', '!', '=':
		_, err := f.bulk(rest)
		return kind, err
	case '*', '~', '>':
	case '%', '|':
		values = 2
	default:
		return 0, fmt.Errorf("%q begins no reply", head)
	}
	n, err := strconv.Atoi(rest)
	if err != nil {
		return 0, err
	}
	for range n * values { // a null array has -1: none
		if _, err := f.value(); err != nil {
			return 0, err
		}
	}
	if kind == '|' { // attributes precede the reply that they are about
		return f.value()
	}
	return kind, nil
}
