// Package tree holds the tests of the repository as a whole: who may import
// whom, that every package says what it guarantees, that the documents' tables
// are what the code says. It has no code of its own.
package tree
