package audit

import (
	"strings"
	"testing"
)

// lively is a file that changes when it was read once.
type lively struct{ now, then string }

func (l *lively) ReadAt(p []byte, at int64) (int, error) {
	n, err := strings.NewReader(l.now).ReadAt(p, at)
	if at+int64(n) >= int64(len(l.now)) {
		l.now = l.then
	}
	return n, err
}

// A sidecar may restart while its log is read, and a new run goes on in the file:
// what came after the beginning is not looked at.
func TestALogMayGrowWhileItIsRead(t *testing.T) {
	f, one, _, _ := good()
	text := strings.Join(one.lines, "\n") + "\n"
	next := f.sidecar("one", "boot", 0)
	next.acquired("x", "somebody")
	grown := &lively{text, text + strings.Join(next.lines, "\n") + "\n"}
	r, err := Prove([]Source{{Name: "log1", Size: int64(len(text)), File: grown}}, Options{Partial: true})
	if err != nil || r.Runs != 1 || r.Lines != len(one.lines) {
		t.Errorf("%+v, %v", r, err)
	}
	if grown.now == text {
		t.Error("the log did not grow")
	}
}

// A file that is another one the second time shows nothing.
func TestALogThatIsReplacedWhileItIsReadIsAnError(t *testing.T) {
	_, one, two, _ := good()
	text := strings.Join(one.lines, "\n") + "\n"
	r, err := Prove([]Source{{Name: "log1", Size: int64(len(text)), File: &lively{text, strings.Join(two.lines, "\n") + "\n"}}}, Options{})
	if err == nil || !strings.Contains(err.Error(), "log1:2: changed while it was read") {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestALogWithoutALineIsAnError(t *testing.T) {
	_, one, _, _ := good()
	text := strings.Join(one.lines, "\n") + "\n"
	for _, empty := range []string{"", "\n\n"} {
		r, err := Prove([]Source{
			{Name: "log1", Size: int64(len(text)), File: strings.NewReader(text)}, {Name: "log2", Size: int64(len(empty)), File: strings.NewReader(empty)},
		}, Options{})
		if err == nil || !strings.Contains(err.Error(), "log2: has no line") {
			t.Errorf("%+v, %v", r, err)
		}
	}
}
