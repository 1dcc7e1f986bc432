package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds a line, in bytes. The longest are of deadlocks: of as many locks as
// are looked at.
const maxLine = 16 << 20

// maxTorn bounds the lines one after the other that are none: each is of a life
// that was killed while it wrote its first line.
const maxTorn = 1000

// Source is one file of a fleet's logs. It is read once for each pass, always as
// much of it: its sidecar may write on, and move it away.
type Source struct {
	Name string
	// Size is how many bytes are read.
	Size int64
	File io.ReaderAt
}

// where is a line of a source.
type where struct{ source, line int32 }

// torn is a line that is none: it was cut off when its writer was killed.
type torn struct {
	at where
	// tail: nothing follows it in the file.
	tail bool
	// before and after are the runs around it.
	before, after string
}

// read calls line for each line of a source, and tears for each that is none.
func read(index int, s Source, line func(where, *Line) error, tears func(torn)) error {
	in := bufio.NewReaderSize(io.NewSectionReader(s.File, 0, s.Size), 256<<10)
	at := where{source: int32(index)} //nolint:gosec // a number of files
	// open are the latest lines that were none: what follows them is to come.
	var open []torn
	last := ""
	for {
		raw, whole, err := next(in)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", s.Name, at.line+1, err)
		}
		if len(raw) == 0 && !whole {
			break
		}
		at.line++
		if len(bytes.TrimSpace(raw)) == 0 {
			continue
		}
		l := &Line{}
		if json.Unmarshal(raw, l) != nil || l.Run == "" || l.Type == "" {
			open = append(open, torn{at: at, before: last})
			if len(open) == maxTorn {
				return fmt.Errorf("%s:%d: is no audit log: %d lines one after the other are none of one", s.Name, at.line, maxTorn)
			}
			continue
		}
		for _, t := range open {
			t.after = l.Run
			tears(t)
		}
		open = open[:0]
		last = l.Run
		if err := line(at, l); err != nil {
			return err
		}
	}
	if last == "" && len(open) == 0 {
		return fmt.Errorf("%s: has no line, and shows nothing", s.Name)
	}
	if last == "" {
		return fmt.Errorf("%s:%d: is no audit log: no line is one of an audit log's", s.Name, open[0].at.line)
	}
	for _, t := range open {
		t.tail = true
		tears(t)
	}
	return nil
}

// next is a line without its end; whole is false for what follows the last one.
func next(in *bufio.Reader) (raw []byte, whole bool, err error) {
	for {
		part, err := in.ReadSlice('\n')
		raw = append(raw, part...)
		switch {
		case err == nil:
			return raw, true, nil
		case errors.Is(err, io.EOF):
			return raw, false, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, false, err
		case len(raw) > maxLine:
			return nil, false, fmt.Errorf("has more than %d bytes", maxLine)
		}
	}
}
