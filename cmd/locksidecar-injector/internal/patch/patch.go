// Package patch makes the JSON patch (RFC 6902) from one document to another.
//
// It guarantees that applying the operations to the first gives the second, and
// that they touch what differs and nothing beside it: fields that whoever decoded
// the documents does not know stay in what the patch is applied to. The elements
// of a list are told apart by their name or mountPath where each has another.
//
// It does not guarantee the shortest patch.
package patch

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Operation is one step.
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// MarshalJSON keeps a value that is empty.
func (o Operation) MarshalJSON() ([]byte, error) {
	m := map[string]any{"op": o.Op, "path": o.Path}
	if o.Op != "remove" {
		m["value"] = o.Value
	}
	return json.Marshal(m)
}

// Between returns the steps from one value to another, as encoding/json sees
// them.
func Between(from, to any) ([]Operation, error) {
	a, err := plain(from)
	if err != nil {
		return nil, err
	}
	b, err := plain(to)
	if err != nil {
		return nil, err
	}
	var steps []Operation
	differ(&steps, "", a, b)
	return steps, nil
}

func plain(v any) (p any, err error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return p, json.Unmarshal(raw, &p)
}

var escape = strings.NewReplacer("~", "~0", "/", "~1")

func differ(steps *[]Operation, path string, a, b any) {
	if reflect.DeepEqual(a, b) {
		return
	}
	switch from := a.(type) {
	case map[string]any:
		if to, ok := b.(map[string]any); ok {
			objects(steps, path, from, to)
			return
		}
	case []any:
		if to, ok := b.([]any); ok && lists(steps, path, from, to) {
			return
		}
	}
	*steps = append(*steps, Operation{"replace", path, b})
}

func objects(steps *[]Operation, path string, from, to map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(from)) {
		at := path + "/" + escape.Replace(key)
		if value, ok := to[key]; ok {
			differ(steps, at, from[key], value)
		} else {
			*steps = append(*steps, Operation{Op: "remove", Path: at})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(to)) {
		if _, ok := from[key]; !ok {
			*steps = append(*steps, Operation{"add", path + "/" + escape.Replace(key), to[key]})
		}
	}
}

// lists takes away what is gone, puts in what is new, and goes into what stays.
// It reports whether that was possible: not if elements cannot be told apart or
// stand in another order.
func lists(steps *[]Operation, path string, from, to []any) bool {
	old, ok := keys(from)
	if !ok {
		return false
	}
	now, ok := keys(to)
	if !ok {
		return false
	}
	var made []Operation
	left := slices.Clone(from)
	for i := len(old) - 1; i >= 0; i-- {
		if !slices.Contains(now, old[i]) {
			made = append(made, Operation{Op: "remove", Path: fmt.Sprintf("%s/%d", path, i)})
			left, old = slices.Delete(left, i, i+1), slices.Delete(old, i, i+1)
		}
	}
	for i, key := range now {
		at := fmt.Sprintf("%s/%d", path, i)
		switch {
		case i < len(old) && old[i] == key:
			differ(&made, at, left[i], to[i])
		case slices.Contains(old, key):
			return false
		default:
			made = append(made, Operation{"add", at, to[i]})
			left, old = slices.Insert(left, i, to[i]), slices.Insert(old, i, key)
		}
	}
	*steps = append(*steps, made...)
	return true
}

// keys are what the elements are told apart by; they must be different.
func keys(list []any) (all []string, ok bool) {
	for _, by := range []string{"mountPath", "name"} {
		all = all[:0]
		for _, e := range list {
			object, isObject := e.(map[string]any)
			key, has := object[by].(string)
			if !isObject || !has || slices.Contains(all, key) {
				break
			}
			all = append(all, key)
		}
		if len(all) == len(list) {
			return all, true
		}
	}
	return nil, false
}
