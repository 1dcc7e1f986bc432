package tree

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// excerpt is a block of a document that shows declarations of the source: its
// fence names the file and them, a method with its receiver's type.
var excerpt = regexp.MustCompile("(?ms)^```go (\\S+) ([^\n]+)\n(.*?)^```$")

// What documents show of the source is the source.
func TestExcerptsOfTheDocumentsAreTheSource(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		current := excerpt.ReplaceAllStringFunc(string(raw), func(block string) string {
			n++
			m := excerpt.FindStringSubmatch(block)
			return fmt.Sprintf("```go %s %s\n%s```", m[1], m[2], source(t, m[1], strings.Fields(m[2])))
		})
		if current == string(raw) {
			continue
		}
		if !*update {
			t.Errorf("an excerpt of %s is not what the source says; run: make docs", file)
		} else if err := os.WriteFile(file, []byte(current), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if n == 0 {
		t.Error("no document has an excerpt")
	}
}

// source is the text of declarations of a file, with their comments.
func source(t *testing.T, path string, names []string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, raw, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, name := range names {
		i := slices.IndexFunc(file.Decls, func(d ast.Decl) bool { return slices.Contains(declared(d), name) })
		if i < 0 {
			t.Errorf("%s does not declare %s", path, name)
			continue
		}
		d := file.Decls[i]
		from := d.Pos()
		if doc := comment(d); doc != nil {
			from = doc.Pos()
		}
		parts = append(parts, string(raw[set.Position(from).Offset:set.Position(d.End()).Offset])+"\n")
	}
	return strings.Join(parts, "\n")
}

// declared are the names that a declaration gives.
func declared(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			return []string{d.Name.Name}
		}
		receiver := d.Recv.List[0].Type
		if p, ok := receiver.(*ast.StarExpr); ok {
			receiver = p.X
		}
		if of, ok := receiver.(*ast.Ident); ok {
			return []string{of.Name + "." + d.Name.Name}
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				names = append(names, s.Name.Name)
			case *ast.ValueSpec:
				for _, name := range s.Names {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

func comment(d ast.Decl) *ast.CommentGroup {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return d.Doc
	case *ast.GenDecl:
		return d.Doc
	}
	return nil
}
