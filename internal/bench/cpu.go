package main

import (
	"fmt"
	"os"
	"text/tabwriter"
	"time"
)

// processes are those that take part; 0 is one whose CPU time is not to be had.
type processes struct{ client, echo, sidecar, store int }

// cost is the CPU time that an operation took in each process, in µs. Unlike a
// rate it hardly depends on what else the machine does.
type cost struct{ client, echo, sidecar, store float64 }

func (c cost) total() float64 { return c.client + c.echo + c.sidecar + c.store }

// used is the CPU time so far.
func (p processes) used() (used [4]time.Duration, err error) {
	for i, pid := range []int{p.client, p.echo, p.sidecar, p.store} {
		if pid == 0 {
			continue
		}
		if used[i], err = cpuOf(pid); err != nil {
			return used, err
		}
	}
	return used, nil
}

// costOf runs a measurement and divides the CPU time of each process by the
// operations that it did.
func (p processes) costOf(run func() (rate, error), during time.Duration) (r rate, c cost, err error) {
	before, err := p.used()
	if err != nil {
		return 0, c, err
	}
	if r, err = run(); err != nil {
		return 0, c, err
	}
	after, err := p.used()
	ops := float64(r) * during.Seconds()
	each := func(i int) float64 { return float64(after[i]-before[i]) / float64(time.Microsecond) / ops }
	return r, cost{each(0), each(1), each(2), each(3)}, err
}

// reportCosts prints the medians of the CPU times.
func reportCosts(rounds []round) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "\nCPU µs per operation\tclient\techo\tsidecar\tstore\ttotal\techo / total\t")
	of := func(m measured) (c cost) {
		part := func(get func(cost) float64) float64 {
			var all []float64
			for i := range rounds {
				all = append(all, get(rounds[i].costs[m]))
			}
			return median(all)
		}
		return cost{
			part(func(c cost) float64 { return c.client }), part(func(c cost) float64 { return c.echo }),
			part(func(c cost) float64 { return c.sidecar }), part(func(c cost) float64 { return c.store }),
		}
	}
	for _, row := range []struct {
		name          string
		of, yardstick measured
	}{
		{"unary echo", echoUnary, echoUnary}, {"unary lock", lockUnary, echoUnary},
		{"stream echo", echoStream, echoStream}, {"stream lock", lockStream, echoStream}, {"store alone", storeAlone, storeAlone},
	} {
		c := of(row.of)
		_, _ = fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f\t\n",
			row.name, c.client, c.echo, c.sidecar, c.store, c.total(), of(row.yardstick).total()/c.total())
	}
	_ = w.Flush()
}
