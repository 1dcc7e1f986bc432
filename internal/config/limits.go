package config

import (
	"reflect"
	"strings"
)

// Limit is one of Limits, for the flags.
type Limit struct {
	// Name is the flag's: --limit-NAME.
	Name string
	// Usage says what is bounded, and the default.
	Usage string
	Value *int
}

// All are the limits in the order of the documents.
func (l *Limits) All() (all []Limit) {
	v := reflect.ValueOf(l).Elem()
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		all = append(all, Limit{
			Name: strings.ReplaceAll(tag.Get("yaml"), "_", "-"), Usage: tag.Get("doc") + " (default " + tag.Get("default") + ")",
			Value: v.Field(i).Addr().Interface().(*int),
		})
	}
	return all
}

// over are l's, where it says something, else those of below.
func (l Limits) over(below Limits) Limits {
	under := below.All()
	for i, limit := range l.All() {
		if *limit.Value != 0 {
			*under[i].Value = *limit.Value
		}
	}
	return below
}
