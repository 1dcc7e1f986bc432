package config

import (
	"encoding/json"
	"reflect"
	"strconv"
)

// schema is a JSON Schema, or a part of one.
type schema map[string]any

// Schema is the JSON Schema (draft 2020-12) of the file, made of the types by
// which it is read.
func Schema() []byte {
	s := schemaOf(reflect.TypeFor[File]())
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "locksidecar's configuration"
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	return append(raw, '\n')
}

// special are the types that read themselves.
var special = map[reflect.Type]func() schema{
	reflect.TypeFor[Duration](): func() schema { return schema{"type": "string", "pattern": durationForm} },
	reflect.TypeFor[Name]():     func() schema { return schema{"type": "string", "pattern": nameForm} },
	reflect.TypeFor[Mode]():     func() schema { return schema{"type": "string", "pattern": modeForm} },
	reflect.TypeFor[Switch]():   func() schema { return schema{"type": "boolean"} },
	reflect.TypeFor[Resolve]():  func() schema { return schema{"enum": []Resolve{ResolveNone, ResolveYoungest}} },
	reflect.TypeFor[Leases]():   func() schema { return schema{"enum": []Leases{Release, Leave}} },
	reflect.TypeFor[Patterns](): func() schema { return words(patternSchema()) },
}

func patternSchema() schema {
	return schema{"type": "string", "pattern": `^([^*/]+|\*)(/([^*/]+|\*))*(/\*\*)?$|^\*\*$`}
}

// words are one value or a list of them, not an empty one.
func words(one schema) schema {
	return schema{"anyOf": []schema{one, {"type": "array", "items": one, "minItems": 1}}}
}

func schemaOf(t reflect.Type) schema {
	if of := special[t]; of != nil {
		return of()
	}
	switch t.Kind() {
	case reflect.Pointer:
		return policySchema() // the one section that another package reads
	case reflect.Map:
		return schema{
			"type": "object", "propertyNames": schema{"pattern": nameForm}, "additionalProperties": schemaOf(t.Elem()),
		}
	case reflect.Slice:
		return schema{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Int:
		return schema{"type": "integer", "minimum": 1}
	case reflect.String:
		return schema{"type": "string"}
	}
	properties := schema{}
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("yaml")
		if key == "-" {
			continue
		}
		p := schemaOf(f.Type)
		p["description"] = f.Tag.Get("doc")
		if d := f.Tag.Get("default"); d != "" {
			p["default"] = standard(f.Type, d)
		}
		properties[key] = p
	}
	s := schema{"type": "object", "additionalProperties": false, "properties": properties}
	switch t {
	case reflect.TypeFor[File]():
		properties["lock_classes"].(schema)["maxItems"] = maxClasses
	case reflect.TypeFor[BackendSection]():
		s["oneOf"] = []schema{{"required": []string{"url"}}, {"required": []string{"url_file"}}}
	case reflect.TypeFor[ClassSection]():
		s["required"] = []string{"match", "class"}
	case reflect.TypeFor[WebhookSection]():
		s["required"] = []string{"url"}
		properties["url"].(schema)["pattern"] = "^https?://[^/?@]+([/?].*)?$"
		s["dependentRequired"] = schema{"cert_file": []string{"key_file"}, "key_file": []string{"cert_file"}}
	case reflect.TypeFor[AuditSection]():
		s["dependentRequired"] = schema{"max_bytes": []string{"path"}, "keep": []string{"path"}}
	case reflect.TypeFor[RouteSection]():
		s["required"] = []string{"match"}
	}
	return s
}

func standard(t reflect.Type, value string) any {
	if n, err := strconv.Atoi(value); err == nil && t.Kind() == reflect.Int {
		return n
	}
	if t == reflect.TypeFor[Switch]() {
		return Switch(value) == On
	}
	return value
}

// policySchema is the section that internal/policy reads.
func policySchema() schema {
	id := schema{"type": []string{"string", "integer"}}
	object := func(properties schema, required ...string) schema {
		s := schema{"type": "object", "additionalProperties": false, "properties": properties}
		if len(required) > 0 {
			s["required"] = required
		}
		return s
	}
	return object(schema{"rules": schema{"type": "array", "items": object(schema{
		"who": object(schema{
			"socket": words(schema{"type": "string", "pattern": "^/"}), "uid": words(id), "gid": words(id),
		}),
		"locks": schema{"type": "array", "items": patternSchema()},
		"may":   schema{"type": "array", "items": schema{"enum": []string{"acquire", "inspect", "force"}}},
	}, "locks", "may")}})
}
