package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The document is read by the types of File, but not by the YAML library's own
// mapping onto them: its messages quote values, have no list of what is known,
// and it takes 15 for a length of time.

// nameForm is what a backend may be called.
const nameForm = `^[a-z0-9][a-z0-9_-]{0,62}$`

var names = regexp.MustCompile(nameForm)

// at adds the line to an error.
func at(n *yaml.Node, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("line %d: %w", n.Line, err)
}

// target is what an alias stands for.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// errText refuses what YAML does not take for a text.
var errText = errors.New("want a text; put it into quotes if it looks like something else")

func text(n *yaml.Node) (string, error) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		return "", errText
	}
	return n.Value, nil
}

// decode reads a node into v. what names it for messages.
func decode(n *yaml.Node, v reflect.Value, what string) error {
	n = target(n)
	if u, ok := v.Addr().Interface().(yaml.Unmarshaler); ok {
		return within(what, u.UnmarshalYAML(n))
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return decode(n, v.Elem(), what)
	case reflect.Struct:
		return decodeStruct(n, v, what)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		return pairs(n, what, func(key, value *yaml.Node) error {
			if !names.MatchString(key.Value) {
				return at(key, fmt.Errorf("%s: the name %q: want up to 63 lower-case letters, digits, - and _", what, key.Value))
			}
			one := reflect.New(v.Type().Elem()).Elem()
			if err := decode(value, one, what+"."+key.Value); err != nil {
				return err
			}
			v.SetMapIndex(reflect.ValueOf(key.Value), one)
			return nil
		})
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			return at(n, fmt.Errorf("%s: want a list", what))
		}
		for i, item := range n.Content {
			one := reflect.New(v.Type().Elem()).Elem()
			if err := decode(item, one, fmt.Sprintf("%s[%d]", what, i+1)); err != nil {
				return err
			}
			v.Set(reflect.Append(v, one))
		}
		return nil
	case reflect.Int:
		i, err := strconv.ParseInt(n.Value, 10, 32)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil || i < 1 {
			return at(n, fmt.Errorf("%s: want a whole number of at least 1", what))
		}
		v.SetInt(i)
		return nil
	case reflect.String:
		s, err := text(n)
		v.SetString(s)
		return within(what, at(n, err))
	}
	panic("config: a field of File is of a kind that the decoder does not know: " + v.Type().String())
}

// within adds what an error is about, after its line.
func within(what string, err error) error {
	if err == nil || what == "" || what == "policy" {
		return err
	}
	return &located{what, err}
}

type located struct {
	what string
	err  error
}

func (e *located) Error() string {
	line, rest, ok := strings.Cut(e.err.Error(), ": ")
	if !ok || !strings.HasPrefix(line, "line ") {
		return e.what + ": " + e.err.Error()
	}
	return line + ": " + e.what + ": " + rest
}

func (e *located) Unwrap() error { return e.err }

// decodeStruct reads a mapping whose keys are the fields' tags.
func decodeStruct(n *yaml.Node, v reflect.Value, what string) error {
	fields := map[string]int{}
	var known []string
	for i := range v.NumField() {
		if key := v.Type().Field(i).Tag.Get("yaml"); key != "-" {
			fields[key] = i
			known = append(known, key)
		} else {
			v.Field(i).SetInt(int64(n.Line))
		}
	}
	return pairs(n, what, func(key, value *yaml.Node) error {
		i, ok := fields[key.Value]
		if !ok {
			return at(key, fmt.Errorf("%sunknown key %q; known: %s", prefix(what), key.Value, strings.Join(known, ", ")))
		}
		return decode(value, v.Field(i), strings.TrimPrefix(what+"."+key.Value, "."))
	})
}

func prefix(what string) string {
	if what == "" {
		return ""
	}
	return what + ": "
}

// pairs calls f for each key of a mapping and its value.
func pairs(n *yaml.Node, what string, f func(key, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return at(n, fmt.Errorf("%swant a mapping", prefix(what)))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode:
			return at(key, fmt.Errorf("%sa key must be a text", prefix(what)))
		case seen[key.Value]:
			return at(key, fmt.Errorf("%sthe key %q is given twice", prefix(what), key.Value))
		}
		seen[key.Value] = true
		if err := f(key, n.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}
