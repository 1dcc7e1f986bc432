package conformance

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Outcome is what became of a case.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "pass"
	Failed  Outcome = "fail"
	Skipped Outcome = "skip"
)

// Result is what became of a case.
type Result struct {
	Name      string        `json:"name"`
	Guarantee string        `json:"guarantee"`
	Outcome   Outcome       `json:"outcome"`
	Reason    string        `json:"reason,omitempty"`
	Source    string        `json:"source"`
	Duration  time.Duration `json:"duration_ns"`
	Log       []string      `json:"log,omitempty"`
}

// explain is what a person reads of a failure: the broken guarantee first.
func (r Result) explain() string {
	return fmt.Sprintf("%s (%s)\nbroken: %s\n%s", r.Name, r.Source, r.Guarantee, strings.Join(r.Log, "\n"))
}

// Report is the certificate of a run.
type Report struct {
	Endpoint string `json:"endpoint,omitempty"`
	Server   string `json:"server,omitempty"`
	Seed     uint64 `json:"seed"`
	// Only, if not empty, is the expression that selected the cases: it is no
	// certificate of the whole.
	Only string `json:"only,omitempty"`
	// Slow and Long are Harness.Slow and Options.Long.
	Slow         bool                `json:"slow,omitempty"`
	Long         bool                `json:"long,omitempty"`
	Started      time.Time           `json:"started"`
	Duration     time.Duration       `json:"duration_ns"`
	Capabilities driver.Capabilities `json:"capabilities"`
	Results      []Result            `json:"results"`
}

// Count is the number of cases with the outcome.
func (r *Report) Count(o Outcome) (n int) {
	for _, res := range r.Results {
		if res.Outcome == o {
			n++
		}
	}
	return n
}

// Green says that no case failed, and that some ran.
func (r *Report) Green() bool { return r.Count(Failed) == 0 && r.Count(Passed) > 0 }

// Summary lists each case with "ran" or the reason for which it was skipped:
// what does not change from run to run.
func (r *Report) Summary() string {
	var b strings.Builder
	for _, res := range r.Results {
		if res.Outcome == Skipped {
			fmt.Fprintf(&b, "%s: skipped, %s\n", res.Name, res.Reason)
		} else {
			fmt.Fprintf(&b, "%s: ran\n", res.Name)
		}
	}
	return b.String()
}

// Table is the certificate as a person reads it.
func (r *Report) Table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, res := range r.Results {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", res.Outcome, res.Name, res.Duration.Round(time.Millisecond), res.Reason)
	}
	_ = w.Flush()
	for _, res := range r.Results {
		if res.Outcome == Failed {
			b.WriteString("\n" + res.explain() + "\n")
		}
	}
	c := r.Capabilities
	fmt.Fprintf(&b, "\n%s %s at %s\nttl %v to %v, lateness %v, poll %v, clock %s, durability %s\n",
		c.Name, known(r.Server, "of an unknown version"), known(r.Endpoint, "an unnamed place"),
		c.MinTTL, c.MaxTTL, c.Lateness, c.Poll, c.Clock, c.Durability)
	fmt.Fprintf(&b, "seed %d, %v%s: %d passed, %d failed, %d skipped\n",
		r.Seed, r.Duration.Round(time.Millisecond), r.terms(), r.Count(Passed), r.Count(Failed), r.Count(Skipped))
	return b.String()
}

// terms says in what the run differs from one of the whole suite as it is.
func (r *Report) terms() (text string) {
	if r.Slow {
		text += ", with a slow store's patience"
	}
	if r.Long {
		text += ", heavy variants"
	}
	if r.Only != "" {
		text += ", only cases that match " + r.Only
	}
	return text
}

func known(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// JSON writes the certificate as JSON.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// JUnit writes the certificate in the XML that CI servers read.
func (r *Report) JUnit(w io.Writer) error {
	type message struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type testcase struct {
		Name    string   `xml:"name,attr"`
		Time    float64  `xml:"time,attr"`
		Failure *message `xml:"failure,omitempty"`
		Skipped *message `xml:"skipped,omitempty"`
	}
	type property struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	suite := struct {
		XMLName    xml.Name   `xml:"testsuite"`
		Name       string     `xml:"name,attr"`
		Tests      int        `xml:"tests,attr"`
		Failures   int        `xml:"failures,attr"`
		Skipped    int        `xml:"skipped,attr"`
		Time       float64    `xml:"time,attr"`
		Timestamp  string     `xml:"timestamp,attr"`
		Properties []property `xml:"properties>property"`
		Cases      []testcase `xml:"testcase"`
	}{Name: "locksidecar conformance " + r.Capabilities.Name, Time: r.Duration.Seconds(), Timestamp: r.Started.Format(time.RFC3339),
		Properties: []property{{"endpoint", r.Endpoint}, {"server", r.Server}, {"seed", strconv.FormatUint(r.Seed, 10)}, {"terms", strings.TrimPrefix(r.terms(), ", ")}}, Tests: len(r.Results), Failures: r.Count(Failed), Skipped: r.Count(Skipped)}
	for _, res := range r.Results {
		c := testcase{Name: res.Name, Time: res.Duration.Seconds()}
		switch res.Outcome {
		case Failed:
			c.Failure = &message{res.Guarantee, res.explain()}
		case Skipped:
			c.Skipped = &message{Message: res.Reason}
		}
		suite.Cases = append(suite.Cases, c)
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(suite); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
