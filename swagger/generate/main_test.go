package main

import (
	"bytes"
	"os"
	"testing"
)

// The models and the client are compared by `go run ./swagger/generate -check`, which needs the generator; this part needs nothing.
func TestTheEmbeddedSpecIsTheContract(t *testing.T) {
	yaml, err := os.ReadFile("../../" + source)
	if err != nil {
		t.Fatal(err)
	}
	want, err := toJSON(yaml)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../" + specFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s is not what %s says; run: go run ./swagger/generate", specFile, source)
	}
}
