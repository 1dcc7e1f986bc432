package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The nodes are read by hand, so that an error names the line and what would
// have been allowed there, also when the section is a part of a document that
// another package decodes.

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

// mapping calls what reads each key's value.
func mapping(n *yaml.Node, what string, keys map[string]func(*yaml.Node) error) error {
	n = target(n)
	known := strings.Join(slices.Sorted(maps.Keys(keys)), ", ")
	if n.Kind != yaml.MappingNode {
		return at(n, fmt.Errorf("%s: want a mapping with the keys %s", what, known))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		read, ok := keys[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode || !ok:
			return at(key, fmt.Errorf("%s: unknown key %q; known: %s", what, key.Value, known))
		case seen[key.Value]:
			return at(key, fmt.Errorf("%s: the key %q is given twice", what, key.Value))
		}
		seen[key.Value] = true
		if err := read(n.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func sequence(n *yaml.Node, what string) ([]*yaml.Node, error) {
	if n = target(n); n.Kind != yaml.SequenceNode {
		return nil, at(n, fmt.Errorf("%s: want a list", what))
	}
	return n.Content, nil
}

// each calls read for every scalar of a list.
func each(n *yaml.Node, what string, read func(*yaml.Node) error) error {
	items, err := sequence(n, what)
	if err != nil {
		return err
	}
	for _, item := range items {
		if item = target(item); item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			return at(item, fmt.Errorf("%s: want a list of words", what))
		}
		if err := read(item); err != nil {
			return err
		}
	}
	return nil
}

// some is each for one scalar or a list that is not empty.
func some(n *yaml.Node, what string, read func(*yaml.Node) error) error {
	n = target(n)
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		return read(n)
	case n.Kind == yaml.SequenceNode && len(n.Content) > 0:
		return each(n, what, read)
	}
	return at(n, fmt.Errorf("%s: want one value or a list of them", what))
}
